"""Micro-batches: pure, so time is a number."""

from datetime import UTC, date, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from monitor.batching import Batcher, BatchLimits
from monitor.posts import Batch, Place, Post, StreamPartition
from monitor.protocols import Polled

AT = StreamPartition("stream", 0)


def post(offset: int, text: str = "fine") -> Post:
    """A post at an offset of the one stream."""
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    return Post(
        post_key=f"{offset:032x}",
        content_hash="0" * 16,
        source="inbox",
        place=Place("stream", 0, offset),
        label_of_place=f"stream:{offset}",
        brand="acme",
        id=None,
        created_at=moment,
        day=date(2026, 11, 1),
        user_id=None,
        lang=None,
        text=text,
        raw=b"",
    )


def polled(*offsets: int, file: str | None = None, ends_file: bool = False, text: str = "fine") -> Polled:
    """What a poll of these offsets brings."""
    return Polled([post(at, text) for at in offsets], {AT: offsets[-1] + 1} if offsets else {}, file, ends_file)


def offsets_of(batches: list[Batch]) -> list[list[int]]:
    """The offsets in each batch."""
    return [[record.place.offset for record in batch.records] for batch in batches]


def test_a_batch_closes_at_its_count() -> None:
    """The poll that fills a batch closes it, and the next position is that of its last record."""
    batcher = Batcher("inbox", BatchLimits(max_posts=3))
    assert batcher.add(polled(0, 1), 0.0) == []
    assert batcher.room() == 1
    closed = batcher.add(polled(2), 0.0)
    assert offsets_of(closed) == [[0, 1, 2]]
    assert closed[0].positions == {AT: 3}
    assert batcher.is_empty


def test_a_batch_closes_at_its_characters() -> None:
    """Long texts close a batch before its count does, and the count of characters starts again."""
    batcher = Batcher("inbox", BatchLimits(max_posts=100, max_chars=10))
    assert batcher.add(polled(0, text="12345"), 0.0) == []
    assert offsets_of(batcher.add(polled(1, text="12345"), 0.0)) == [[0, 1]]
    assert batcher.add(polled(2, text="12345"), 0.0) == []


def test_a_batch_closes_at_its_age() -> None:
    """An open batch waits for more at most max_wait_s from its first record, also through empty polls."""
    batcher = Batcher("inbox", BatchLimits(max_wait_s=0.25))
    assert batcher.add(polled(0), 5.0) == []
    assert batcher.wait_s(5.125, idle_s=0.5) == 0.125
    assert batcher.add(Polled([], {}), 5.125) == []
    assert offsets_of(batcher.add(Polled([], {}), 5.25)) == [[0]]
    assert batcher.wait_s(5.5, idle_s=0.5) == 0.5


def test_a_batch_never_spans_two_files() -> None:
    """The end of a file closes its batch, and a file that begins closes the batch of another one."""
    batcher = Batcher("inbox", BatchLimits(max_wait_s=9))
    ended = batcher.add(polled(0, 1, file="a.csv", ends_file=True), 0.0)
    assert [(batch.file, batch.ends_file) for batch in ended] == [("a.csv", True)]
    assert batcher.add(polled(0, file="b.csv"), 0.0) == []
    closed = batcher.add(polled(0, file="c.csv", ends_file=True), 0.0)
    assert [(batch.file, batch.ends_file) for batch in closed] == [("b.csv", False), ("c.csv", True)]


def test_a_batch_has_the_leader_epoch_of_its_last_poll() -> None:
    """Where that has none, the one of an earlier poll says nothing of the batch's position."""
    batcher = Batcher("posts", BatchLimits())
    for epochs in ({AT: 3}, {AT: 4}):
        batcher.add(msgspec.structs.replace(polled(1), epochs=epochs), 0.0)
    [batch] = batcher.flush()
    assert batch.epochs == {AT: 4}
    batcher.add(msgspec.structs.replace(polled(2), epochs={AT: 4}), 0.0)
    batcher.add(polled(3), 0.0)
    [batch] = batcher.flush()
    assert (batch.positions, batch.epochs) == ({AT: 4}, {})


def test_the_end_of_a_file_without_records_is_passed_on() -> None:
    """A file whose last row came with the poll before still ends with a batch, so that it is moved."""
    batcher = Batcher("inbox", BatchLimits())
    closed = batcher.add(Polled([], {}, file="a.csv", ends_file=True), 0.0)
    assert [(batch.file, batch.ends_file, len(batch.records)) for batch in closed] == [("a.csv", True, 0)]


def test_a_dropped_batch_leaves_nothing_behind() -> None:
    """After `drop` neither records nor their characters count."""
    batcher = Batcher("inbox", BatchLimits(max_chars=10))
    batcher.add(polled(0, text="123456789"), 0.0)
    batcher.drop()
    assert batcher.flush() == []
    assert batcher.add(polled(0, text="12345"), 0.0) == []


@given(
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["a", "b"]), st.floats(0, 0.2))),
    st.integers(1, 9),
)
def test_every_record_comes_out_once_and_in_order(polls: list[tuple[int, str, float]], max_posts: int) -> None:
    """Whatever the limits, the batches together are the polls together, none longer than the limit allows."""
    batcher = Batcher("inbox", BatchLimits(max_posts=max_posts, max_wait_s=0.1))
    now, offset, closed = 0.0, 0, []
    for n_ready, file, passed in polls:
        now += passed
        n_records = min(n_ready, batcher.room())
        closed += batcher.add(polled(*range(offset, offset + n_records), file=file), now) if n_records else []
        offset += n_records
    closed += batcher.flush()
    assert [at for batch in offsets_of(closed) for at in batch] == list(range(offset))
    assert all(0 < len(batch.records) <= max_posts for batch in closed)


def test_what_was_polled_before_a_rebalance_is_dropped() -> None:
    """Records of two generations never share a batch: the older ones come again, and no position may pass them."""
    batcher = Batcher("posts", BatchLimits(max_posts=10))
    assert batcher.add(polled(7, 8), 0.0) == []
    moved = polled(5)
    moved.generation = 1
    assert batcher.add(moved, 0.0) == []
    (batch,) = batcher.flush()
    assert (offsets_of([batch]), batch.positions, batch.generation) == ([[5]], {AT: 6}, 1)
