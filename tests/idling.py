"""What a daemon does while there is nothing to do: counted by the kernel, so that a busy machine changes little."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from daemon_process import wait_until, write_config
from fixtures_postgres import PostgresServer
from forked_daemon import ForkedDaemon
from stored import n_posts, url_in
from traffic import csv_bytes, drop, rows


class Work(NamedTuple):
    """What one process did over a stretch."""

    seconds: float
    cpu_s: float  # of all its threads, in the program and in the kernel
    wakes: int  # times that a thread had waited and went on
    calls: int  # of read and write: files, sockets, SQLite's pages
    retries: int  # attempts that found a part away, from its own metrics
    log_lines: int

    @property
    def share(self) -> float:
        """CPU seconds per second: 1.0 is one core."""
        return self.cpu_s / self.seconds

    def __str__(self) -> str:
        per_s = [
            f"{n / self.seconds:.1f} {what}" for n, what in ((self.wakes, "wake-ups"), (self.calls, "reads and writes"))
        ]
        said = f"{self.retries} retries and {self.log_lines} log lines in all"
        return f"{self.share:.2%} of a core over {self.seconds:.0f} s; {' and '.join(per_s)} a second; {said}"


def work_over(daemon: ForkedDaemon, stretch_s: float) -> Work:
    """What the daemon does in the next `stretch_s` seconds, during which nobody asks it anything."""
    before, began = _so_far(daemon), time.monotonic()
    time.sleep(stretch_s)
    seconds = time.monotonic() - began
    return Work(seconds, *(now - then for now, then in zip(_so_far(daemon), before, strict=True)))  # type: ignore[arg-type]


def _so_far(daemon: ForkedDaemon) -> tuple[float, ...]:
    assert daemon.process is not None
    retries = _retries(daemon)  # before and after: the answer to it costs both the same
    pid = daemon.process.pid
    times = psutil.Process(pid).cpu_times()
    tasks = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    wakes = sum(int(n) for task in tasks for n in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", task, re.MULTILINE))
    calls = sum(int(n) for n in re.findall(r"^sysc[rw]: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE))
    return times.user + times.system, wakes, calls, retries, daemon.log().count("\n")


def _retries(daemon: ForkedDaemon) -> int:
    found = re.findall(r"^sentiment_monitor_retries_total\{.*\} (\S+)$", daemon.ask("/metrics")[1], re.MULTILINE)
    return int(sum(map(float, found)))


@contextmanager
def idle_daemon(folder: Path, bundle: str) -> Iterator[ForkedDaemon]:
    """Drop folder and SQLite, the default schedule; it has counted a file and waits for the next."""
    config = write_config(folder, scoring={"bundle": bundle}, schedule={})
    yield from _after_a_file(config, url_in(folder), lambda: None)


@contextmanager
def waiting_daemon(folder: Path, bundle: str, postgres: PostgresServer) -> Iterator[ForkedDaemon]:
    """The same on PostgreSQL, which is away while a file is in hand."""
    url = postgres.create()
    config = write_config(folder, scoring={"bundle": bundle}, schedule={}, store={"url": url})
    yield from _after_a_file(config, url, postgres.stop)


def _after_a_file(config: Path, url: str, go_on: Callable[[], None]) -> Iterator[ForkedDaemon]:
    folder = config.parent
    drop(folder, "a.csv", csv_bytes(rows(20)))  # too few for an alert
    with ForkedDaemon(config) as daemon:
        wait_until(lambda: n_posts(url) == 20, "the first file")
        daemon.wait_ready()
        go_on()
        if not url.startswith("sqlite"):
            drop(folder, "b.csv", csv_bytes(rows(20, seed=2)))
            wait_until(lambda: daemon.ask("/readyz")[0] == 503, "the database to be missed")
        time.sleep(3.0)  # first attempts are close together
        yield daemon
        assert daemon.ask("/livez")[0] == 200
        assert daemon.stop() == 0
