"""Connections of the HTTP server: none is waited for without end, and there is always room for one more."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 100  #: at once; the next one takes the place of the one that is waited for longest


class ImpatientProtocol(H11Protocol):
    """Closes a connection on which no request arrives in time, or no answer is taken, however slowly somebody goes on.

    uvicorn's own limit_concurrency answers 503 to whoever comes after the last, probes included: a hundred silent
    connections would make a healthy daemon look dead. Here a newcomer puts out whoever keeps us waiting.
    """

    max_request_s: float
    waited_for_since: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.waited_for_since = self.loop.time()
        self._make_room()
        self._look_later()

    @property
    def is_waited_for(self) -> bool:
        """Its client has to act: it has not sent a whole request, or does not take its answer."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def _make_room(self) -> None:
        protocols = [one for one in self.connections if isinstance(one, ImpatientProtocol)]
        here = [one for one in protocols if not one.transport.is_closing() or one.flow.write_paused]
        if len(here) > MAX_CONNECTIONS:
            others = [one for one in here if one is not self and one.is_waited_for]
            if others:
                min(others, key=lambda one: one.waited_for_since).transport.abort()

    def _look_later(self) -> None:
        self.loop.call_later(self.max_request_s, self._look, self.cycle)

    def _look(self, before: object) -> None:
        """`before` is the request that was in hand, or through, at the last look; None for none yet."""
        if self not in self.connections:
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if (is_idle or self.flow.write_paused) and self.cycle is before:
            self.transport.abort()  # `close` would wait until the answer was taken
        else:
            self._look_later()
