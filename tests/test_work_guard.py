"""The path's work in numbers that no busy machine changes: statements, rows, polls, tokens. A slow way fails here."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import rules
from bench_posts import generated
from bench_totals import fill, touch, turn
from doubles import HashScorer
from kafka.record import util as kafka_sums
from sqlalchemy import event, text

from models import compiled_encoding
from models.bundle import Bundle, find_bundle
from models.engine import HalvingRunner, Waiter
from models.tokenizer import TextEncoder
from models.tokens import Int64Array, Tokens
from monitor.alerts import Rule
from monitor.batching import BatchLimits
from monitor.bookkeeper import StoreBookkeeper
from monitor.config import Config, DropFolderSection
from monitor.episodes import EpisodeState
from monitor.health import Health
from monitor.lanes import Lane
from monitor.metrics import Metrics
from monitor.parsing import Parser
from monitor.pipeline import Pipeline
from monitor.protocols import Polled
from monitor.sources.bookkeeping import StoredPositions
from monitor.sources.memory import MemorySource
from monitor.store.database import Database
from monitor.store.needed_rows import needed_rows_in
from monitor.store.saving import Saver

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
N_POSTS = 10_000
BATCH = BatchLimits().max_posts
MAX_STATEMENTS = 13  #: of one saved batch, whatever its size
MAX_TURN_STATEMENTS = 17  #: of a refresh and an evaluation, however many brands; BEGIN is one on SQLite
N_BRANDS, N_DAYS = 40, 300  #: that a refresh and an evaluation have
STEPS = 100  #: of SQLite's virtual machine between two looks at the count


class CountingSource(MemorySource):
    """Counts its polls."""

    n_polls = 0

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        self.n_polls += 1
        return super().poll(max_records, timeout_s)


class CountingEngine:
    """Computes nothing, and remembers the lengths of every batch it was given."""

    max_tokens = 8_192

    def __init__(self) -> None:
        self.batches: list[Int64Array] = []

    def start(self, tokens: Tokens) -> Waiter:
        self.batches.append(tokens.lengths)
        return lambda: np.zeros((len(tokens), 3))


def source_of(database: Database, n: int) -> CountingSource:
    """A source with `n` different posts of a few brands and days."""
    parser = Parser(DropFolderSection(name="memory", kind="drop_folder", path=Path("x")), "acme", UTC)
    source = CountingSource(parser, StoredPositions(database, "memory"), lambda: NOW)
    for number in range(n):
        post = {"id": number, "created_at": f"2026-11-{number % 19 + 1:02}", "text": f"post {number}"}
        source.put(json.dumps(post | {"brand": f"brand {number % 20}"}).encode())
    return source


@contextmanager
def transactions(database: Database) -> Iterator[list[int]]:
    """How many statements each transaction that was committed meanwhile had."""
    counts, n_open = [], 0

    def statement(*_: object) -> None:
        nonlocal n_open
        n_open += 1

    def committed(_: object) -> None:
        nonlocal n_open
        counts.append(n_open)
        n_open = 0

    engine = database._engine
    event.listen(engine, "before_cursor_execute", statement)
    event.listen(engine, "commit", committed)
    yield counts
    event.remove(engine, "before_cursor_execute", statement)
    event.remove(engine, "commit", committed)


def test_a_backlog_is_saved_in_few_large_transactions(database: Database) -> None:
    """10,000 posts take three transactions of at most a dozen statements, and one poll for every 500 records."""
    source, metrics = source_of(database, N_POSTS), Metrics()
    source.open()
    saver = StoreBookkeeper(database, Saver(database, rules()))
    lane = Lane(source, BatchLimits(max_wait_s=60))
    pipeline = Pipeline([lane], HashScorer(), saver, Health(metrics), metrics)
    with transactions(database) as counts:
        while pipeline.run_once(lane):
            pass
    assert lane.n_inserted == N_POSTS
    assert len(counts) == -(-N_POSTS // BATCH)
    assert max(counts) <= MAX_STATEMENTS
    assert source.n_polls <= N_POSTS / BatchLimits().max_poll + len(counts) + 2


@contextmanager
def reading(database: Database) -> Iterator[Callable[[], int]]:
    """What the database has read meanwhile: steps of its virtual machine on SQLite, rows on PostgreSQL."""
    if database.dialect == "sqlite":
        n_looks = 0

        def look() -> None:
            nonlocal n_looks
            n_looks += 1

        def watch(connection: Any, handler: Callable[[], None] | None) -> None:
            connection.connection.set_progress_handler(handler, STEPS)

        database.read(lambda connection: watch(connection, look))
        yield lambda: n_looks * STEPS
        database.read(lambda connection: watch(connection, None))
        return
    with database.session() as session:
        session.execute(text("ANALYZE"))
    before = rows_read(database)
    yield lambda: rows_read(database) - before


def rows_read(database: Database) -> int:
    """Rows that PostgreSQL has read of all tables, by index or not, since they were made."""
    count = text("SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables")
    database.read(lambda connection: connection.execute(text("SELECT pg_stat_force_next_flush()")))
    return int(database.read(lambda connection: connection.execute(count).scalar_one()))


@pytest.mark.long
@pytest.mark.parametrize(
    ("n_a_day", "most"),
    [
        pytest.param(100, {"sqlite": 7_000, "postgresql": 170}, id="counting days"),
        pytest.param(1, {"sqlite": 17_000, "postgresql": 70 + N_DAYS}, id="no counting days"),
    ],
)
def test_a_turn_of_many_brands_reads_their_last_days(database: Database, n_a_day: int, most: dict[str, int]) -> None:
    """Refresh and evaluation take a few statements for all brands, and read a hundred old days of each at most.

    Of a brand without a counting day they are looked at where they lie, all of them, and none comes to Python.
    """
    fill(database, n_a_day * N_BRANDS * N_DAYS, N_BRANDS, N_DAYS)
    now = datetime.now(UTC)
    turn(database, Config(), now)
    touch(database, now)
    with reading(database) as n_read, transactions(database) as counts:
        assert turn(database, Config(), now) == N_BRANDS
    assert sum(counts) <= MAX_TURN_STATEMENTS
    assert 0 < n_read() <= most[database.dialect] * N_BRANDS
    states = {f"brand {number}": EpisodeState() for number in range(N_BRANDS)}
    find = partial(needed_rows_in, remembered=states, rules=dict.fromkeys(states, Rule()), today=now.date())
    assert sum(map(len, database.read(find).values())) <= 2 * N_BRANDS


@pytest.fixture(scope="module")
def micro_batch() -> Tokens:
    """The shipped bundle's tokens of a full micro-batch of texts as long as tweets."""
    bundle = Bundle.load(find_bundle("social-gru", Path()), "cpu")
    return bundle.encoder.encode_tokens(generated(BATCH + 200)[:BATCH])


def test_calls_of_the_engine_are_full(micro_batch: Tokens) -> None:
    """A micro-batch reaches the engine in as few calls as its tokens need, one more at most."""
    engine = CountingEngine()
    HalvingRunner(engine).start(micro_batch)()
    n_tokens = int(micro_batch.lengths.sum())
    assert sum(len(lengths) for lengths in engine.batches) == BATCH
    assert n_tokens / engine.max_tokens <= len(engine.batches) <= n_tokens / engine.max_tokens + 2


def test_no_step_computes_padding(micro_batch: Tokens) -> None:
    """Each direction takes as many steps of single posts as there are tokens, 17 a post here and not 200."""
    n_tokens = int(micro_batch.lengths.sum())
    for steps in micro_batch.take(micro_batch.longest_first()).steps():
        assert sum(len(step) for step in steps) == n_tokens
    assert 10 < n_tokens / BATCH < 25


def test_equal_texts_are_computed_once() -> None:
    """Of a micro-batch of retweets the engine gets each text once, and all get their logits."""
    bundle = Bundle.load(find_bundle("social-gru", Path()), "cpu")
    texts = generated(300)
    expected = bundle.logits(texts)
    engine = CountingEngine()
    runner, bundle.runner = bundle.runner, HalvingRunner(engine)
    bundle.logits(texts * 3)
    assert sum(len(lengths) for lengths in engine.batches) == len(texts)
    bundle.runner = runner
    assert (bundle.logits([*texts[::-1], *texts]) == np.concatenate([expected[::-1], expected])).all()


@pytest.mark.skipif(not compiled_encoding.IS_AVAILABLE, reason="needs the compiled encoder: a C compiler")
def test_texts_whose_words_are_known_are_not_looked_at_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, posts like tweets ask Python for no word, and for the few texts with many names in a row."""
    bundle = Bundle.load(find_bundle("social-gru", Path()), "cpu")
    assert isinstance(bundle.encoder, TextEncoder)
    compiled, texts, n_words, n_texts = bundle.encoder._compiled, generated(2_000), 0, 0
    assert compiled
    words_before, texts_before = compiled._ids_of_words, compiled._ids_of_texts

    def count_words(words: set[str]) -> Mapping[str, tuple[bytes, int]]:
        nonlocal n_words
        n_words += len(words)
        return words_before(words)

    def count_texts(texts: Sequence[str]) -> Sequence[bytes]:
        nonlocal n_texts
        n_texts += len(texts)
        return texts_before(texts)

    monkeypatch.setattr(compiled, "_ids_of_words", count_words)
    monkeypatch.setattr(compiled, "_ids_of_texts", count_texts)
    bundle.encoder.encode_tokens(texts)
    assert n_words < len(texts) / 10
    n_words = n_texts = 0
    bundle.encoder.encode_tokens(texts)
    assert n_words == 0
    assert n_texts < len(texts) / 100


def test_kafkas_sums_are_checked_in_c() -> None:
    """kafka-python found crc32c: in plain Python the sum of a record takes four times as long as all the rest."""
    assert kafka_sums._crc32c is kafka_sums.crc32c_c
    assert kafka_sums.crc32c_c is not None
