"""The whole path with real parts: Kafka to PostgreSQL, CSV folder to SQLite, the daemon beside the obvious script."""

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil
import psycopg
from bench_measure import Figure, Usage, usage
from bench_posts import messages, records, write_csv
from daemon_process import DaemonProcess, environment, write_config
from fixtures_kafka import SERVER_DIR, Broker
from fixtures_postgres import PostgresServer, running_postgres

LOOK_S = 0.02
START_S = 180.0  #: a broker may take, on a busy machine
FROM_SHARE = 0.2  #: what comes before is start and warm-up
DEADLINE_S = 1_800.0
N_PARTITIONS = 3
TIMES = 12.0  #: the obvious script's speed, at least


class Services:
    """A folder and, once they are asked for, a broker and a PostgreSQL server with its default durability."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._n_names = 0

    @cached_property
    def broker(self) -> Broker:
        """Apache Kafka."""
        kafka = str(SERVER_DIR / "kafka-server")
        broker = Broker(lambda port: [kafka, str(self.folder / "log"), str(port)], self.folder, start_s=START_S)
        self._stack.callback(broker.kill)
        return broker

    @cached_property
    def postgres(self) -> PostgresServer:
        """PostgreSQL, as it comes."""
        postgres = self._stack.enter_context(running_postgres())
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            for statement in ("ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()"):  # tests switch fsync off
                connection.execute(statement)
        return postgres

    def new_name(self, prefix: str) -> str:
        """Never given before."""
        self._n_names += 1
        return f"{prefix}-{self._n_names}"

    def processes(self) -> dict[str, psutil.Process]:
        """Both servers, to count their CPU time."""
        assert self.broker._process is not None
        return {"Kafka": psutil.Process(self.broker._process.pid), "PostgreSQL": psutil.Process(self.postgres.pid)}

    def topic_of(self, values: Sequence[bytes], n_partitions: int = N_PARTITIONS) -> str:
        """A new topic with these messages in it."""
        topic = self.broker.create_topic(self.broker.new_name("bench"), n_partitions)
        for partition in range(n_partitions):
            self.broker.produce(topic, values[partition::n_partitions], partition)
        return topic


@contextmanager
def services() -> Iterator[Services]:
    """Stop at the end what was started."""
    with ExitStack() as stack:
        yield Services(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentiment-bench-"))), stack)


def end_to_end(services: Services, found: Sequence[str], sizes: "Sizes", n_pairs: int, device: str) -> Iterator[Figure]:
    """Both paths, each beside the obvious script on the same posts, taking turns."""
    vocabulary = services.folder / "vocabulary.csv"
    write_csv(vocabulary, records(found, 20_000))
    for kind in ("Kafka to PostgreSQL", "CSV folder to SQLite"):
        run = _kafka_runs if kind.startswith("Kafka") else _csv_runs
        daemon, script = run(services, found, sizes, device, vocabulary)
        pairs = [(daemon(), script()) if turn % 2 == 0 else (script(), daemon())[::-1] for turn in range(n_pairs)]
        yield from _figures(kind, sizes, pairs)


def _figures(kind: str, sizes: "Sizes", pairs: list[tuple["Passage", "Passage"]]) -> Iterator[Figure]:
    section = f"{kind}, posts/s from {FROM_SHARE:.0%} to 100% of {sizes.daemon:,} posts"
    name = f"obvious script on {sizes.script:,} of them"
    yield Figure(section, name, median(script.posts_per_s for _, script in pairs), "posts/s")
    ratio = median(daemon.posts_per_s / script.posts_per_s for daemon, script in pairs)
    target, ok = f"at least {TIMES:.0f} times", ratio >= TIMES
    rate = median(daemon.posts_per_s for daemon, _ in pairs)
    yield Figure(section, "sentiment-monitor", rate, "posts/s", ratio, "obvious script", target, ok)
    ours, theirs = (median(pair[i].cpu_s for pair in pairs) for i in (0, 1))
    yield Figure(section, "CPU per 1,000 posts, all of the script's", theirs, "s", theirs / ours, "ours")
    yield Figure(section, "CPU per 1,000 posts, all of ours", ours, "s")
    for passage in pairs[-1]:
        for part, used in passage.cpu.items():
            yield Figure(section, f"CPU per 1,000 posts, {part}", used.cpu_s / passage.n * 1_000, "s")
            yield Figure(section, f"peak memory, {part}", used.peak_mib, "MiB")


class Sizes(NamedTuple):
    """Posts of one comparison. The script's pace does not depend on how many there are, and it is slow."""

    daemon: int
    script: int


Run = Callable[[], "Passage"]


def _kafka_runs(
    services: Services, found: Sequence[str], sizes: Sizes, device: str, vocabulary: Path
) -> tuple[Run, Run]:
    topic = services.topic_of(messages(found, sizes.daemon))

    def daemon() -> Passage:
        url = services.postgres.create()
        config = daemon_config(services.folder / services.new_name("run"), kafka_section(services, topic), url, device)
        return run_daemon(config, url, sizes.daemon, services.processes())

    place = (services.broker.servers[0], topic, str(sizes.script))
    return daemon, lambda: run_script("kafka", services.postgres.create(), vocabulary, services.processes(), *place)


def _csv_runs(services: Services, found: Sequence[str], sizes: Sizes, device: str, vocabulary: Path) -> tuple[Run, Run]:
    path, fewer = services.folder / "posts.csv", services.folder / "fewer.csv"
    write_csv(path, records(found, sizes.daemon))
    write_csv(fewer, records(found, sizes.script))

    def daemon() -> Passage:
        folder = services.folder / services.new_name("run")
        source = {"name": "inbox", "kind": "drop_folder", "path": "inbox", "settle_s": 0}
        config = daemon_config(folder, source, f"sqlite:///{folder}/sentiment.db", device)
        (folder / "inbox").mkdir()
        shutil.copy(path, folder / "inbox" / "posts.csv")
        return run_daemon(config, f"sqlite:///{folder}/sentiment.db", sizes.daemon, {})

    def script() -> Passage:
        folder = services.folder / services.new_name("script")
        folder.mkdir()
        return run_script("csv", f"sqlite:///{folder}/obvious.db", vocabulary, {}, str(fewer))

    return daemon, script


class Passage(NamedTuple):
    """One run from 20% to 100% of its posts. `cpu` is by process: seconds of CPU in that stretch, and peak memory."""

    posts_per_s: float
    n: int
    cpu: dict[str, Usage]

    @property
    def cpu_s(self) -> float:
        """Seconds of all processes per 1,000 posts."""
        return sum(used.cpu_s for used in self.cpu.values()) / self.n * 1_000


def daemon_config(folder: Path, source: dict[str, Any], url: str, device: str) -> Path:
    """A fresh configuration with the program's own schedule."""
    folder.mkdir()
    logging = {"level": "WARNING"}
    return write_config(
        folder, sources=[source], store={"url": url}, scoring={"device": device}, logging=logging, schedule={}
    )


def kafka_section(services: Services, topic: str) -> dict[str, Any]:
    """A Kafka source as a user writes it."""
    group = services.broker.new_name("monitor")
    place = {"bootstrap_servers": services.broker.servers, "topics": [topic], "group_id": group}
    return {"name": "posts", "kind": "kafka", **place}


def run_daemon(config: Path, url: str, n: int, others: dict[str, psutil.Process]) -> Passage:
    """Let the daemon store `n` records and stop it again."""
    with DaemonProcess(config) as daemon:
        assert daemon.process is not None
        process = daemon.process
        parts = {"daemon": psutil.Process(process.pid)} | others
        with positions_of(url) as n_seen:
            passage = follow(n_seen, n, parts, lambda: process.poll() is None)
        daemon.stop()
    return passage


def follow(n_seen: Callable[[], int], n: int, parts: dict[str, psutil.Process], lives: Callable[[], bool]) -> Passage:
    """Look until `n` are through; count from the first look at which a fifth were."""
    began: tuple[float, int, dict[str, Usage]] | None = None
    until = time.monotonic() + DEADLINE_S
    while (seen := n_seen()) < n:
        if began is None and seen >= FROM_SHARE * n:
            began = time.monotonic(), seen, _usages(parts)
        if not lives() or time.monotonic() > until:
            raise RuntimeError(f"it ended at {seen} of {n} posts")
        time.sleep(LOOK_S)
    if began is None:
        raise RuntimeError(f"all {n} posts were there at once: measure with more")
    at, first, before = began
    seconds = time.monotonic() - at
    used = {name: Usage(now.cpu_s - before[name].cpu_s, now.peak_mib) for name, now in _usages(parts).items()}
    return Passage((n - first) / seconds, n - first, used)


def run_script(kind: str, url: str, vocabulary: Path, others: dict[str, psutil.Process], *place: str) -> Passage:
    """The obvious script on the same posts."""
    line = [sys.executable, str(Path(__file__).with_name("bench_seed.py")), kind, url, str(vocabulary), *place]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        too_long = threading.Timer(DEADLINE_S, process.kill)
        too_long.start()
        parts = {"script": psutil.Process(process.pid)} | {f"{name} beside it": each for name, each in others.items()}
        stored: list[tuple[int, float, dict[str, Usage]]] = []
        for told in process.stdout:
            n, at = json.loads(told)
            stored.append((n, at, _usages(parts)))
        too_long.cancel()
    assert process.returncode == 0
    last, ended, after = stored[-1]
    first, began, before = next(each for each in stored if each[0] >= FROM_SHARE * last)
    used = {name: Usage(now.cpu_s - before[name].cpu_s, now.peak_mib) for name, now in after.items()}
    return Passage((last - first) / (ended - began), last - first, used)


def _usages(parts: dict[str, psutil.Process]) -> dict[str, Usage]:
    return {name: usage([process]) for name, process in parts.items()}


@contextmanager
def positions_of(url: str) -> Iterator[Callable[[], int]]:
    """How many records are behind the stored positions, asked again and again; 0 while there is no table yet."""
    connection: Any = None

    def look() -> int:
        nonlocal connection
        try:
            connection = connection or _connect(url)
            return int(connection.execute("SELECT coalesce(sum(next_offset), 0) FROM positions").fetchone()[0])
        except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):
            return 0

    try:
        yield look
    finally:
        if connection is not None:
            connection.close()


def _connect(url: str) -> Any:
    if url.startswith("sqlite"):
        return sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True, isolation_level=None)
    return psycopg.connect(url, autocommit=True)
