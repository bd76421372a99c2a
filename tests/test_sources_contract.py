"""What protocols.Source promises, over every implementation: Kafka (a real broker), the drop folder and the in-memory
double.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from feeds import Feed, FolderFeed, KafkaFeed, MemoryFeed, texts_of, wait_for

from monitor.errors import StoreUnavailable, TooManyRefused
from monitor.posts import DeadLetter, Reason, StreamPartition


@pytest.fixture(params=["memory", "drop_folder", pytest.param("kafka", marks=pytest.mark.kafka)])
def feed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Feed]:
    """An open source of each kind, with nothing in it."""
    made: Feed
    if request.param == "memory":
        made = MemoryFeed()
    elif request.param == "drop_folder":
        made = FolderFeed(tmp_path / "inbox")
    else:
        made = KafkaFeed(request.getfixturevalue("tansu"))
    made.source.open()
    yield made
    made.source.close()


def test_records_come_once_and_in_order(feed: Feed) -> None:
    """With the next offset to read, never more than asked for, and nothing after the last."""
    feed.put("1", "2", "3", "4", "5")
    first = feed.next(2)
    assert texts_of(first.records) == ["1", "2"]
    (position,) = first.positions.items()
    assert position[1] == first.records[-1].place.offset + 1
    assert position[0] == StreamPartition(first.records[0].place.stream, first.records[0].place.partition)
    feed.save(first)
    assert texts_of(feed.read(3)) == ["3", "4", "5"]
    assert feed.wait_for_nothing() == []


def test_an_empty_poll_returns_in_time(feed: Feed) -> None:
    """Nothing there is no error, and `timeout_s` is the wait: less would make its owner spin."""
    started = time.monotonic()
    assert feed.source.poll(10, 0.1).records == []
    took_s = time.monotonic() - started
    assert took_s < 2
    assert took_s >= 0.08 or feed.source.kind == "memory"


def test_a_bad_record_is_a_dead_letter_in_its_place(feed: Feed) -> None:
    """The records around it are posts, and the order stays."""
    feed.put("1", "", "3")
    records = feed.read(3)
    assert [type(record).__name__ for record in records] == ["Post", "DeadLetter", "Post"]
    letter = records[1]
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.source) == (Reason.EMPTY_TEXT, feed.source.name)
    assert [record.place.offset for record in records] == [0, 1, 2]


def test_a_restart_goes_on_at_the_stored_position(feed: Feed) -> None:
    """Records that were polled but not saved come again, with the same keys; the batch says from where it went on."""
    feed.put("1", "2", "3")
    feed.save(feed.next(1))
    unsaved = feed.next(2)
    feed.restart()
    again = feed.next(2)
    assert texts_of(again.records) == ["2", "3"]
    assert [post.post_key for post in again.posts] == [post.post_key for post in unsaved.posts]
    assert again.starts == feed.positions.offsets


def test_the_store_wins_over_what_was_committed(feed: Feed) -> None:
    """After a restored backup the stored positions are older than what the source was told; they count."""
    feed.put("1", "2", "3", "4")
    first = feed.next(1)
    feed.save(first)
    feed.save(feed.next(2))
    feed.poll(1)
    feed.positions.offsets.update(first.positions)
    feed.restart()
    assert texts_of(feed.read(3)) == ["2", "3", "4"]


def test_rewind_goes_back_to_the_stored_positions(feed: Feed) -> None:
    """What was polled but not committed comes again."""
    feed.put("1", "2", "3")
    feed.save(feed.next(1))
    feed.next(2)
    feed.source.rewind()
    assert texts_of(feed.read(2)) == ["2", "3"]


def test_keep_alive_fetches_nothing(feed: Feed) -> None:
    """It returns at once, and nothing is lost to it."""
    feed.put("1", "2")
    feed.save(feed.next(1))
    for _ in range(20):
        started = time.monotonic()
        feed.source.keep_alive()
        assert time.monotonic() - started < 1
        time.sleep(0.02)
    assert texts_of(feed.read(1)) == ["2"]


def test_what_was_refused_is_not_polled_again(feed: Feed) -> None:
    """The refused batch and what came with it stay out until somebody resumes the source."""
    feed.put("1", "2", "3")
    batch = feed.next(1)
    assert feed.source.is_current(batch)
    feed.positions.paused_reason = "too many were refused"
    feed.positions.offsets.setdefault(next(iter(batch.positions)), 0)
    feed.source.refuse(batch, TooManyRefused("posts", 80, 100))
    feed.source.rewind()
    assert not feed.source.is_current(batch) or feed.source.paused()
    assert feed.wait_for_nothing() == []
    if feed.source.paused() is None:
        return
    feed.positions.paused_reason = None
    assert texts_of(feed.read(3)) == ["1", "2", "3"]
    assert feed.source.paused() is None


def test_a_pause_outlives_a_restart(feed: Feed) -> None:
    """Where a whole source is paused, only the store says that it may go on."""
    feed.put("1")
    batch = feed.next(1)
    if feed.source.kind == "drop_folder":
        assert feed.source.paused() is None
        return
    feed.positions.paused_reason = "too many were refused"
    feed.positions.offsets.update(dict.fromkeys(batch.positions, 0))
    feed.restart()
    assert feed.source.paused() == "too many were refused"
    assert feed.wait_for_nothing() == []


def test_the_end_is_the_end_of_what_was_there(feed: Feed) -> None:
    """`run --once` reads what was there at its mark, and then it is through."""
    feed.put("1", "2", "3")
    feed.source.mark_end()
    assert not feed.source.reached_end()
    feed.save(feed.next(2))
    assert not feed.source.reached_end()
    feed.read(1)
    wait_for(lambda: (feed.poll(), feed.source.reached_end())[1], bool)


def test_the_end_of_nothing_is_reached(feed: Feed) -> None:
    """An empty source does not keep anybody waiting."""
    feed.source.mark_end()
    wait_for(lambda: (feed.poll(), feed.source.reached_end())[1], bool)


def test_lag_falls_to_zero(feed: Feed) -> None:
    """What waits is counted, and a source that read everything has caught up."""
    feed.put("1", "2")
    feed.put("3")
    feed.save(feed.next(1))
    assert sum(feed.source.lag().values()) > 0
    feed.read(2)
    wait_for(lambda: (feed.poll(), dict(feed.source.lag()))[1], lambda lag: sum(lag.values()) == 0)
    assert feed.source.caught_up()


def test_a_store_that_is_away_is_waited_for(feed: Feed) -> None:
    """Opening or polling says so, and goes on once the store is back."""
    feed.put("1", "2")
    feed.save(feed.next(1))
    feed.source.close()
    feed.source = feed.make()
    feed.positions.away = True
    with pytest.raises(StoreUnavailable):
        feed.source.open()
    feed.positions.away = False
    feed.source.open()
    assert texts_of(feed.read(1)) == ["2"]


def test_closing_is_always_possible(feed: Feed) -> None:
    """Twice, and before a source was ever opened; it takes a moment at most."""
    fresh = feed.make()
    fresh.close()
    feed.put("1")
    feed.next(1)
    started = time.monotonic()
    feed.source.close()
    feed.source.close()
    assert time.monotonic() - started < 5
