"""Whether cost grows with what is in the store, and memory with what went through: takes an hour, `make bench-long`."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import psutil
import psycopg
from bench_measure import Figure
from bench_path import DEADLINE_S, Services, daemon_config, kafka_section, positions_of, run_daemon
from bench_posts import messages, records, write_csv
from bench_totals import median_turn_s
from daemon_process import DaemonProcess, wait_until

SIZES = (100_000, 1_000_000, 3_000_000)
STEP = 200_000
MAX_SLOWER = 0.15
MAX_GROWTH_MIB = 10.0
MAX_TURN_MS = 100.0

#: rows as the saver writes them, with keys like its own for ids that count up
_FILL = """
INSERT INTO posts (post_key, source, position, brand, id, created_at, day, user_id, lang, text,
  pos_prob, pred, label, p_negative, p_neutral, p_positive, model, scored_at, content_hash)
SELECT 'f' || n || '-' || md5('fill ' || n), 'fill', 'fill:0:' || n, 'brand ' || n %% 20, 'f' || n,
  now() - n * interval '1 second',
  (now() - n * interval '1 second')::date, 'u' || n %% 5000, NULL, repeat(md5(n::text), 2),
  round(random()::numeric, 6), 1, 'neutral', 0.2, 0.5, 0.3, 'fill@0', now(), left(md5(n::text), 16)
FROM generate_series(%s::bigint, %s::bigint) AS n"""

_FILL_SQLITE = """
INSERT INTO posts (post_key, source, position, brand, id, created_at, day, user_id, lang, text,
  pos_prob, pred, label, p_negative, p_neutral, p_positive, model, scored_at, content_hash)
WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)
SELECT 'f' || n || '-' || key_of(n), 'fill', 'fill:0:' || n, 'brand ' || n % 20, 'f' || n,
  strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || n || ' seconds') || '000', date('now', '-' || n || ' seconds'),
  'u' || n % 5000, NULL, key_of(n) || key_of(n + 1), abs(random() % 1000000) / 1000000.0, 1, 'neutral', 0.2, 0.5, 0.3,
  'fill@0', strftime('%Y-%m-%d %H:%M:%f', 'now') || '000', substr(key_of(n), 1, 16)
FROM numbers"""
N_MEASURED = 100_000  #: posts that pass at each size


def rates_by_size(services: Services, found: Sequence[str], store: str, device: str, scale: float) -> Iterator[Figure]:
    """Kafka to PostgreSQL or CSV folder to SQLite with 100,000, 1,000,000 and 3,000,000 posts in the store already."""
    section = f"Posts/s into {store} by posts in the store"
    sizes, n = [round(size * scale) for size in SIZES], max(10_000, round(N_MEASURED * scale))
    measure = _rates_of_postgresql if store == "PostgreSQL" else _rates_of_sqlite
    first = 0.0
    for size, rate in measure(services, found, sizes, n, device):
        first = first or rate
        ratio = rate / first
        target = f"within {MAX_SLOWER:.0%} of the first"
        what = f"{size:,} posts, {store}"
        yield Figure(section, what, rate, "posts/s", ratio, f"{sizes[0]:,}", target, ratio >= 1 - MAX_SLOWER)


def _rates_of_postgresql(
    services: Services, found: Sequence[str], sizes: Sequence[int], n: int, device: str
) -> Iterator[tuple[int, float]]:
    values = messages(found, n)
    topic, url = services.topic_of(values), services.postgres.create()
    n_filled = 0
    for size in sizes:
        run = services.folder / f"size-{size}"
        config = daemon_config(run, kafka_section(services, topic), url, device)
        if not n_filled:
            _migrate(config)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in ("DELETE FROM posts WHERE source = 'posts'", "DELETE FROM positions"):
                connection.execute(statement)
            for at in range(n_filled, size, STEP):
                connection.execute(_FILL, (at + 1, min(size, at + STEP)))
            connection.execute("VACUUM ANALYZE posts")
            connection.execute("CHECKPOINT")
        n_filled = size
        yield size, run_daemon(config, url, len(values), services.processes()).posts_per_s


def _rates_of_sqlite(
    services: Services, found: Sequence[str], sizes: Sequence[int], n: int, device: str
) -> Iterator[tuple[int, float]]:
    folder = services.folder / "sizes"
    url = f"sqlite:///{folder}/sentiment.db"
    source = {"name": "inbox", "kind": "drop_folder", "path": "inbox", "settle_s": 0}
    config = daemon_config(folder, source, url, device)
    (folder / "inbox").mkdir()
    _migrate(config)
    n_filled = n_measured = 0
    for size in sizes:
        with closing(sqlite3.connect(folder / "sentiment.db", isolation_level=None)) as connection:
            connection.create_function("key_of", 1, lambda n: blake2b(b"fill %d" % n, digest_size=16).hexdigest())
            connection.execute("PRAGMA cache_size=-1048576")
            connection.execute(_FILL_SQLITE, {"first": n_filled + 1, "last": size - n_measured})
            connection.execute("DELETE FROM positions")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        write_csv(folder / "inbox" / "posts.csv", records(found, n, n_measured))
        n_filled, n_measured = size - n_measured, n_measured + n
        yield size, run_daemon(config, url, n, {}).posts_per_s


def turns_by_size(services: Services) -> Iterator[Figure]:
    """Refresh and evaluation of 100 brands with totals of 100,000 and of 10,000,000 posts."""
    section = "Refresh and evaluation of 100 brands"
    for kind in ("PostgreSQL", "SQLite"):
        few_ms = 0.0
        for n in (100_000, 10_000_000):
            url = services.postgres.create() if kind == "PostgreSQL" else f"sqlite:///{services.folder}/turns-{n}.db"
            ms, cpu_ms = (seconds * 1_000 for seconds in median_turn_s(url, n))
            few_ms = few_ms or ms
            target = f"at most {MAX_TURN_MS:.0f} ms, 1.5 times"
            ok = ms <= MAX_TURN_MS and ms <= 1.5 * few_ms
            yield Figure(section, f"{n:,} posts, {kind}", ms, "ms", ms / few_ms, "100,000", target, ok)
            yield Figure(section, f"{n:,} posts, {kind}: CPU time of ours", cpu_ms, "ms")


def memory(services: Services, found: Sequence[str], n: int, device: str) -> Iterator[Figure]:
    """Resident memory of the daemon while `n` posts go from a CSV folder into SQLite, from a fifth of them on."""
    folder = services.folder / "memory"
    url = f"sqlite:///{folder}/sentiment.db"
    source = {"name": "inbox", "kind": "drop_folder", "path": "inbox", "settle_s": 0}
    config = daemon_config(folder, source, url, device)
    (folder / "inbox").mkdir()
    write_csv(folder / "inbox" / "posts.csv", records(found, n))
    section = f"Memory while {n:,} posts pass"
    with DaemonProcess(config) as daemon, positions_of(url) as n_passed:
        assert daemon.process is not None
        process = psutil.Process(daemon.process.pid)
        seen: list[tuple[int, float]] = []
        until = time.monotonic() + DEADLINE_S
        while not seen or seen[-1][0] < n:
            if process.status() == psutil.STATUS_ZOMBIE or time.monotonic() > until:
                raise RuntimeError(f"it ended at {seen[-1][0] if seen else 0} of {n} posts")
            seen.append((n_passed(), process.memory_info().rss / 2**20))
            time.sleep(0.5)
        daemon.stop()
    early = max(mib for reached, mib in seen if 0.2 * n <= reached <= 0.4 * n)
    late = max(mib for reached, mib in seen if reached >= 0.8 * n)
    yield Figure(section, "highest from 20% to 40%", early, "MiB")
    yield Figure(section, "highest from 80% to 100%", late, "MiB")
    growth, target = late - early, f"at most {MAX_GROWTH_MIB:.0f} MiB"
    yield Figure(section, "growth", growth, "MiB", target=target, ok=growth <= MAX_GROWTH_MIB)


def _migrate(config: Path) -> None:
    """Let a daemon make the tables."""
    with DaemonProcess(config) as daemon:
        wait_until(daemon.is_ready, "readiness")
        daemon.stop()
