"""CPU seconds per 1,000 posts of every stage, one after the other over the same posts."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from bench_measure import Figure, usage
from bench_path import Services
from bench_posts import records, write_csv
from kafka import KafkaConsumer, TopicPartition

from monitor.config import DropFolderSection
from monitor.parsing import Arrival, Parser
from monitor.posts import Batch, Place, Post, Record, Score, ScoredBatch, StreamPartition
from monitor.scorer import BundleScorer
from monitor.sources.file_rows import FileRows
from monitor.store import migrate
from monitor.store.database import Database
from monitor.store.files import TakenFile
from monitor.store.saving import Saver, SaveRules

SECTION = "CPU seconds per 1,000 posts and stage"
BATCH = 4_096
STREAM = StreamPartition("bench@0", 0)


def stages(services: Services, found: Sequence[str], values: list[bytes], scorer: BundleScorer) -> Iterator[Figure]:
    """Read, parse, score and save; what PostgreSQL itself uses is a line of its own."""
    topic = services.topic_of(values, 1)
    yield _figure("read from Kafka", len(values), lambda: _read_kafka(services, topic, len(values)))
    posts: list[Post] = []
    yield _figure("parse JSON", len(values), lambda: posts.extend(_parsed(values)))
    path = services.folder / "stages.csv"
    write_csv(path, records(found, len(values)))
    yield _figure("read and parse CSV", len(values), lambda: _read_csv(path, len(values)))
    scores: list[Score | None] = []
    scorer.score(posts[:BATCH])
    batches = [posts[at : at + BATCH] for at in range(0, len(posts), BATCH)]
    yield _figure("encode and score", len(values), lambda: scores.extend(s for b in batches for s in scorer.score(b)))
    for name, url in (("SQLite", f"sqlite:///{services.folder}/stages.db"), ("PostgreSQL", services.postgres.create())):
        server = [services.processes()["PostgreSQL"]]
        before = usage(server).cpu_s
        yield _figure(f"save to {name}", len(values), lambda url=url: _save(url, batches, scores, scorer.model))  # type: ignore[misc]
        if name == "PostgreSQL":
            yield Figure(SECTION, "PostgreSQL itself", (usage(server).cpu_s - before) / len(values) * 1000, "s")


def _figure(what: str, n: int, work: Callable[[], object]) -> Figure:
    """CPU time of this process, all threads."""
    began = time.process_time()
    work()
    return Figure(SECTION, what, (time.process_time() - began) / n * 1000, "s")


def _read_kafka(services: Services, topic: str, n: int) -> None:
    consumer: Any = KafkaConsumer(
        bootstrap_servers=services.broker.servers, auto_offset_reset="earliest", group_id=None
    )
    consumer.assign([TopicPartition(topic, 0)])
    n_read = 0
    while n_read < n:
        n_read += sum(len(part) for part in consumer.poll(1_000, max_records=500).values())
    consumer.close()


def _parser() -> Parser:
    return Parser(DropFolderSection(name="bench", kind="drop_folder", path=Path("x")), "default", UTC)


def _parsed(values: Sequence[bytes]) -> list[Post]:
    parser, now = _parser(), datetime.now(UTC)
    found: list[Record] = [
        parser.parse_json(value, Arrival(Place(STREAM.stream, 0, at), f"bench:0:{at}", now, value))
        for at, value in enumerate(values)
    ]
    return [record for record in found if isinstance(record, Post)]


def _read_csv(path: Path, n: int) -> None:
    rows = FileRows(path, TakenFile(path.name, path.name, "0" * 64, datetime.now(UTC)), _parser(), 0)
    n_read = 0
    while not rows.is_at_end:
        n_read += len(rows.read(500, time.monotonic() + 60))
    rows.close()
    assert n_read == n


def _save(url: str, batches: Sequence[list[Post]], scores: Sequence[Score | None], model: str) -> None:
    db = Database(url)
    migrate.upgrade(db)
    saver = Saver(db, SaveRules(1_000, 0.5, keep_text=True, user_id="keep", hash_key=os.urandom(32)))
    reached = 0
    for batch in batches:
        part = scores[reached : reached + len(batch)]
        reached += len(batch)
        saver.save(ScoredBatch(Batch("bench", list(batch), {STREAM: reached}), part, model, datetime.now(UTC)))
    db.close()


def peak_mib() -> float:
    """Of this process."""
    return usage([psutil.Process()]).peak_mib
