"""A TCP proxy that treats connections as bad networks do: cut, delayed, swallowed both ways, or answers lost."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Self

from ports import free_port

CHUNK = 65_536
DELAY_S = 0.3


class Weather(StrEnum):
    """What happens to bytes on their way."""

    FAIR = "fair"
    DELAYED = "delayed"  # every chunk waits DELAY_S
    SWALLOWED = "swallowed"  # accepted and lost, both ways; nobody is told
    MUTE = "mute"  # requests arrive, answers are lost: was it committed?
    CUT = "cut"  # connections break, new ones break at once


class TcpProxy:
    """Listens on a free port of 127.0.0.1 and forwards to a TCP port or a unix socket. Runs in a thread of its own."""

    def __init__(self, target: int | Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self._target = target
        self.answer_to_lose: bytes | None = None  # once: of the next request that holds these bytes
        self._weather = Weather.FAIR
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy on {self.port}")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """Break every connection once."""
        self._loop.call_soon_threadsafe(self._break_all)

    @contextmanager
    def weather(self, weather: Weather) -> Iterator[None]:
        """That weather until the end of the block; then connections that lost bytes break, as TCP would see to."""
        self._weather = weather
        if weather is Weather.CUT:
            self.cut()
        try:
            yield
        finally:
            self._weather = Weather.FAIR
            if weather is not Weather.DELAYED:
                self.cut()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._break_all()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    def _break_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather is Weather.CUT:
            writer.transport.abort()
            return
        try:
            there, back = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        with suppress(asyncio.CancelledError):
            lost = asyncio.Event()
            requests = self._forward(reader, back, lost, answers=False)
            await asyncio.gather(requests, self._forward(there, writer, lost, answers=True))
        self._writers -= {writer, back}
        writer.transport.abort()
        back.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event, *, answers: bool
    ) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while chunk := await reader.read(CHUNK):
                if self._weather is Weather.DELAYED:
                    await asyncio.sleep(DELAY_S)
                if answers and lost.is_set():
                    writer.transport.abort()  # what it answers was done, and nobody will know
                    return
                if not answers and self.answer_to_lose is not None and self.answer_to_lose in chunk:
                    self.answer_to_lose = None
                    lost.set()
                if self._weather is Weather.SWALLOWED or (answers and self._weather is Weather.MUTE):
                    continue
                writer.write(chunk)
                await writer.drain()
        writer.close()
