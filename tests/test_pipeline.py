"""The pipeline over the in-memory source: order, failures, refusals, stops; in threads and one after the other."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from daemon_process import wait_until
from doubles import HashScorer, ListBookkeeper

from monitor.batching import BatchLimits
from monitor.config import DropFolderSection
from monitor.errors import StoreUnavailable
from monitor.health import Health
from monitor.lanes import Lane, start_offsets
from monitor.metrics import Metrics
from monitor.parsing import Parser
from monitor.pipeline import Pipeline
from monitor.posts import Batch, Post, Score, StreamPartition
from monitor.protocols import Polled
from monitor.sources.memory import STREAM, MemoryPositions, MemorySource

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
AT = StreamPartition(STREAM, 0)


def message(text: str) -> bytes:
    """A JSON post with this text."""
    return json.dumps({"created_at": "2026-11-20T10:00:00", "text": text}).encode()


class Rig:
    """A pipeline over one memory source; saving moves the stored positions as the real store does."""

    def __init__(
        self,
        n_messages: int = 0,
        limits: BatchLimits | None = None,
        before_score: threading.Event | None = None,
        make_source: type[MemorySource] = MemorySource,
    ) -> None:
        self.positions = MemoryPositions()
        parser = Parser(DropFolderSection(name="memory", kind="drop_folder", path=Path("x")), "acme", UTC)
        self.source = make_source(parser, self.positions, lambda: NOW)
        self.texts = [f"post {number}" for number in range(n_messages)]
        self.source.put(*map(message, self.texts))
        self.metrics = Metrics()
        self.health = Health(self.metrics)
        self.books = PositionKeeper(self.positions)
        self.lane = Lane(self.source, limits or BatchLimits(max_posts=10, max_wait_s=0.02))
        scorer = HashScorer(before_score.wait if before_score else lambda: None)  # type: ignore[arg-type]
        self.pipeline = Pipeline([self.lane], scorer, self.books, self.health, self.metrics)

    def run_until(self, n_saved: int) -> None:
        wait_until(lambda: len(self.books.texts) >= n_saved, f"{n_saved} saved posts", 20)


class PositionKeeper(ListBookkeeper):
    """Moves the positions forward with every save, and pauses on request."""

    def __init__(self, positions: MemoryPositions) -> None:
        super().__init__()
        self._positions = positions

    def save(self, batch):  # type: ignore[no-untyped-def]
        saved = super().save(batch)
        for at, offset in batch.batch.positions.items():
            self._positions.offsets[at] = max(offset, self._positions.offsets.get(at, 0))
        return saved


@pytest.fixture
def stop_pipelines() -> Iterator[list[Pipeline]]:
    """Pipelines put into it are stopped at the end, and must stop in time."""
    pipelines: list[Pipeline] = []
    yield pipelines
    for pipeline in pipelines:
        assert pipeline.stop(10)


def started(rig: Rig, pipelines: list[Pipeline]) -> Rig:
    """Start the rig's threads."""
    rig.pipeline.start()
    pipelines.append(rig.pipeline)
    return rig


def test_every_post_is_saved_in_order_and_then_committed(stop_pipelines: list[Pipeline]) -> None:
    """Three threads, bounded queues: what was put in comes out once, in order, and the source may forget it."""
    rig = started(Rig(105), stop_pipelines)
    rig.run_until(105)
    assert rig.books.texts == rig.texts
    wait_until(lambda: rig.source.committed.get(AT) == 105, "the commit of the last batch")
    assert rig.lane.n_inserted == 105
    assert rig.metrics.registry.get_sample_value(
        "sentiment_monitor_posts_saved_total", {"source": "memory", "outcome": "inserted"}
    ) == pytest.approx(105)


def test_one_turn_at_a_time_does_the_same() -> None:
    """run_once polls until a batch is full, scores, saves and commits it, and says whether there was work."""
    rig = Rig(25)
    rig.pipeline.open_lane(rig.lane)
    turns = [rig.pipeline.run_once(rig.lane) for _ in range(4)]
    assert turns == [True, True, True, False]
    assert [len(scored.batch.posts) for scored in rig.books.saved] == [10, 10, 5]
    assert rig.books.texts == rig.texts
    assert rig.source.committed == {AT: 25}
    assert rig.lane.is_idle


def test_bad_records_travel_with_the_batch_and_are_not_scored() -> None:
    """A refused record moves the position on like an accepted one."""
    rig = Rig()
    rig.source.put(message("good"), b"{", None, message("fine"))
    rig.pipeline.open_lane(rig.lane)
    rig.pipeline.run_once(rig.lane)
    (scored,) = rig.books.saved
    assert [type(record).__name__ for record in scored.batch.records] == ["Post", "DeadLetter", "DeadLetter", "Post"]
    assert len(scored.scores) == 2
    assert scored.batch.positions == {AT: 4}


def test_while_the_store_is_away_the_batch_is_kept_and_memory_stays_bounded(stop_pipelines: list[Pipeline]) -> None:
    """The same batch is tried until it is saved; at most the queues fill up meanwhile; it is said once."""
    rig = Rig(500)
    rig.books.away.set()
    started(rig, stop_pipelines)
    wait_until(lambda: rig.books.n_attempts >= 3, "three attempts")
    in_hand = 500 - sum(rig.source.lag().values())
    assert in_hand <= 10 * 8  # two queues of two batches, one in each stage, one closed, one open
    assert [part.detail for part in rig.health.parts() if part.name == "store"] == ["the database is away"]
    rig.books.away.clear()
    rig.run_until(500)
    assert rig.books.texts == rig.texts
    wait_until(rig.health.ready, "readiness")


def test_run_once_goes_on_with_the_same_batch_after_an_outage() -> None:
    """The batch that could not be saved is saved by the next call; nothing is polled in between."""
    rig = Rig(15)
    rig.pipeline.open_lane(rig.lane)
    rig.books.away.set()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            rig.pipeline.run_once(rig.lane)
    rig.books.away.clear()
    while rig.pipeline.run_once(rig.lane):
        pass
    assert rig.books.texts == rig.texts


def test_a_source_that_is_away_is_waited_for(stop_pipelines: list[Pipeline]) -> None:
    """At the start or later, it is said in /readyz and reading goes on by itself."""
    rig = Rig(30)
    rig.source.away = True
    started(rig, stop_pipelines)
    wait_until(
        lambda: any(part.name == "source memory" and not part.ok for part in rig.health.parts()), "the part to be down"
    )
    rig.source.away = False
    rig.run_until(30)
    wait_until(rig.health.ready, "readiness")


@pytest.mark.parametrize("in_threads", [True, False])
def test_a_refused_batch_stops_its_source_and_nothing_after_it_is_saved(
    in_threads: bool, stop_pipelines: list[Pipeline]
) -> None:
    """Batches that were under way behind the refused one are dropped; after a resume everything is read again from
    there."""
    scored = threading.Event()
    rig = Rig(60, before_score=scored)
    rig.books.refuse_next.set()
    if in_threads:
        started(rig, stop_pipelines)
        wait_until(lambda: sum(rig.source.lag().values()) <= 20, "batches under way")
        scored.set()
        wait_until(lambda: rig.lane.was_refused, "the refusal")
    else:
        scored.set()
        rig.pipeline.open_lane(rig.lane)
        rig.pipeline.run_once(rig.lane)
    assert rig.books.refused == [("memory", False)]
    assert rig.lane.was_refused
    if in_threads:
        wait_until(lambda: rig.lane.is_idle and rig.books.texts == rig.texts, "reading again after the resume")
    else:
        assert rig.books.texts == []
        while rig.pipeline.run_once(rig.lane) or any(rig.source.lag().values()):
            pass
        assert rig.books.texts == rig.texts


def test_a_stop_finishes_the_batches_in_hand() -> None:
    """What was handed on is saved and committed; the rest stays for the next start; the threads end."""
    rig = Rig(1000)
    rig.pipeline.start()
    rig.run_until(10)
    assert rig.pipeline.stop(10)
    n_saved = len(rig.books.texts)
    assert rig.books.texts == rig.texts[:n_saved]
    assert rig.source.committed == {AT: n_saved}


def test_a_stop_during_an_outage_does_not_wait_for_its_end() -> None:
    """The batch in hand is given up, later ones do not overtake it, and the stop is quick."""
    rig = Rig(200)
    rig.books.away.set()
    rig.pipeline.start()
    wait_until(lambda: rig.books.n_attempts >= 1, "an attempt")
    assert rig.pipeline.stop(10)
    assert rig.books.texts == []
    assert rig.positions.offsets == {}


def test_an_unexpected_error_ends_the_pipeline() -> None:
    """A bug must not advance a position: the pipeline stops by itself and says why."""

    class Broken(HashScorer):
        def score(self, posts):  # type: ignore[no-untyped-def]  # noqa: ARG002
            raise ZeroDivisionError

    rig = Rig(10)
    rig.pipeline = Pipeline([rig.lane], Broken(), rig.books, rig.health, rig.metrics)
    rig.pipeline.start()
    wait_until(lambda: rig.pipeline.failure is not None, "the failure")
    assert isinstance(rig.pipeline.failure, ZeroDivisionError)
    rig.pipeline.stop(0.5)
    assert rig.books.texts == []


def test_what_was_polled_before_a_rebalance_is_not_scored(stop_pipelines: list[Pipeline]) -> None:
    """Batches that wait when their partitions are taken away are dropped: whoever owns them reads and scores them."""
    hold = threading.Event()
    rig = Rig(40)
    scored: list[str] = []

    class Slow(HashScorer):
        def score(self, posts: Sequence[Post]) -> list[Score | None]:
            scored.extend(post.text for post in posts)
            hold.wait()
            return super().score(posts)

    rig.pipeline = Pipeline([rig.lane], Slow(), rig.books, rig.health, rig.metrics)
    started(rig, stop_pipelines)
    wait_until(
        lambda: len(scored) == 10 and not any(rig.source.lag().values()), "one batch with the scorer, the rest behind"
    )
    rig.source.rebalance()
    hold.set()
    wait_until(lambda: set(rig.texts) <= set(rig.books.texts), "every post saved")
    assert [scored.count(text) for text in rig.texts] == [2] * 10 + [1] * 30


def test_what_waits_for_the_store_is_dropped_once_its_source_reads_anew(stop_pipelines: list[Pipeline]) -> None:
    """Its position may lie beyond where reading goes on: each post is saved by the batch that is read anew."""
    rig = Rig(40)
    rig.books.away.set()
    started(rig, stop_pipelines)
    wait_until(lambda: rig.books.n_attempts >= 2, "two attempts")
    rig.source.rebalance()
    before = rig.books.n_attempts
    wait_until(lambda: rig.books.n_attempts >= before + 2, "an attempt with a batch that was read anew")
    rig.books.away.clear()
    rig.run_until(40)
    assert rig.books.texts == rig.texts


def test_a_rebalance_falls_between_two_polls() -> None:
    """The double's own promise: a test's thread that rebalances while the owner polls takes nothing away from it."""
    rig = Rig(3)
    over = threading.Event()

    def rebalance() -> None:
        rig.source.rebalance()
        over.set()

    def clock_while_rebalancing() -> datetime:
        if not rebalancing.ident:
            rebalancing.start()
            over.wait(0.2)  # long enough for one that does not wait for the poll to fall into it
        return NOW

    rebalancing = threading.Thread(target=rebalance)
    source = rig.source = MemorySource(rig.source._parser, rig.positions, clock_while_rebalancing)
    source.put(*map(message, rig.texts))
    source.open()
    source.poll(10, 0)
    rebalancing.join()
    assert [record.text for record in source.poll(10, 0).records if isinstance(record, Post)] == rig.texts


def test_no_later_batch_overtakes_one_that_a_stop_gave_up() -> None:
    """Its positions would skip the records of the first: after a stop in an outage, nothing behind it is saved."""

    class FirstNever(PositionKeeper):
        def save(self, batch):  # type: ignore[no-untyped-def]
            if batch.batch.posts[0].text == "post 0":
                self.n_attempts += 1
                raise StoreUnavailable("the database is away")
            return super().save(batch)  # type: ignore[no-untyped-call]

    rig = Rig(60)
    rig.books = FirstNever(rig.positions)
    rig.pipeline = Pipeline([rig.lane], HashScorer(), rig.books, rig.health, rig.metrics)
    rig.pipeline.start()
    wait_until(lambda: rig.books.n_attempts >= 1 and rig.lane.n_in_flight >= 3, "batches behind the first")
    assert rig.pipeline.stop(10)
    assert rig.books.texts == []
    assert rig.positions.offsets == {}


def test_a_refused_batch_pauses_where_it_began() -> None:
    """The offsets of a pause are the first of the batch, not the next."""
    rig = Rig(3)
    rig.pipeline.open_lane(rig.lane)
    polled = rig.source.poll(10, 0)
    assert start_offsets(Batch("memory", polled.records, polled.positions)) == {AT: 0}


def test_the_loops_turn_while_they_idle_and_wait(stop_pipelines: list[Pipeline]) -> None:
    """/livez must not restart a daemon that has nothing to do or waits for the store."""
    rig = started(Rig(5), stop_pipelines)
    rig.books.away.set()
    time.sleep(0.7)
    assert rig.health.stuck() == []


class Waiting(MemorySource):
    """Waits for records as real sources do, and counts how often it is asked for any."""

    n_calls = 0

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        self.n_calls += 1
        polled = super().poll(max_records, timeout_s)
        if not polled.records:
            time.sleep(timeout_s)
        return polled

    def keep_alive(self) -> None:
        self.n_calls += 1


@pytest.mark.parametrize("state", ["idle", "store away", "source away", "paused"])
def test_the_loops_do_not_spin(stop_pipelines: list[Pipeline], state: str) -> None:
    """Without work, and while something is away, a second holds few attempts: whatever is asked waits, or the loop."""
    rig = Rig(500 if state == "store away" else 0, make_source=Waiting)
    assert isinstance(rig.source, Waiting)
    if state == "store away":
        rig.books.away.set()
    rig.source.away = state == "source away"
    if state == "paused":
        rig.positions.paused_reason = "too many were refused"
        rig.positions.offsets[AT] = 0
    started(rig, stop_pipelines)
    time.sleep(0.5)  # queues fill up, first attempts are close together
    before, n_attempts = rig.source.n_calls, rig.books.n_attempts
    time.sleep(1.0)
    shortest_wait_s = 0.01 if state == "store away" else 0.2
    assert rig.source.n_calls - before <= 1 / shortest_wait_s + 1
    assert rig.books.n_attempts - n_attempts <= 5
    rig.books.away.clear()
