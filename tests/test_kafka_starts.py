"""Where reading begins, with a double of the client: what no broker can be made to do at a given moment."""

from collections.abc import Collection
from typing import Any

import pytest
from kafka import TopicPartition

from monitor.errors import SourceUnavailable, StoreUnavailable
from monitor.posts import StreamPartition
from monitor.sources.kafka_starts import Starts
from monitor.sources.memory import MemoryPositions

ONE = TopicPartition("posts", 0)
STREAM = StreamPartition("posts@X", 0)


class OnePartition:
    """A client of one partition, whose topic is called X until its ends are asked for if it is `made_anew`."""

    servers = "broker:9092"

    def __init__(self, *, made_anew: bool = False) -> None:
        self.begin, self.end = 0, 150
        self.made_anew = made_anew
        self.id = "X"
        self.assigned = {ONE}

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def all_partitions(self) -> list[TopicPartition]:
        return [ONE]

    def begins(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.begin)

    def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        self.id = "Y" if self.made_anew else "X"
        return dict.fromkeys(partitions, self.end)

    def committed(self, _: TopicPartition) -> None:
        return None

    def topic_id(self, _: str) -> str:
        return self.id


def starts(client: Any, positions: MemoryPositions) -> Starts:
    """Of the source `posts`."""
    return Starts(client, positions, "posts")


def test_a_topic_made_anew_in_the_middle_of_a_look_up_is_waited_for() -> None:
    """Said as an outage, after which all is looked up again; it ended the daemon."""
    positions = MemoryPositions()
    client = OnePartition(made_anew=True)
    found = starts(client, positions)
    with pytest.raises(SourceUnavailable, match="posts is being made anew"):
        found.find()
    assert found.find()[ONE].stream == StreamPartition("posts@Y", 0)


def test_a_cut_counts_until_the_position_has_been_put_back() -> None:
    """A batch in hand when the log was cut may be stored after the look up: its position jumps over the cut."""
    positions = MemoryPositions()
    positions.offsets[STREAM] = 100
    found = starts(OnePartition(), positions)
    found.note_cut(STREAM, 120)
    assert found.find()[ONE].offset == 100
    positions.offsets[STREAM] = 150
    assert found.find()[ONE].offset == 120
    assert positions.offsets[STREAM] == 120
    positions.offsets[STREAM] = 140
    assert found.find()[ONE].offset == 140


def test_going_back_to_a_cut_sets_aside_the_dead_letters_of_what_was_lost() -> None:
    """From the cut on, wherever reading begins; from the log's end on where a position lies beyond it; none where the
    brokers cannot tell from where records were lost."""
    positions, client = MemoryPositions(), OnePartition()
    found = starts(client, positions)
    positions.offsets[STREAM] = 100
    found.note_cut(STREAM, 80)
    client.begin = 90
    assert found.find()[ONE].offset == 90
    assert found.nearest(ONE, STREAM, 200).offset == 90
    assert positions.lost == [(STREAM, 80), (STREAM, 150)]
    positions.offsets[STREAM] = 100
    found.note_cut(STREAM, None)
    assert found.find()[ONE].offset == 90
    assert positions.lost == [(STREAM, 80), (STREAM, 150)]


def test_a_cut_of_a_partition_that_went_to_another_replica_is_forgotten() -> None:
    """That one went back to it and has read on: doing so again would set aside what is right."""
    positions, client = MemoryPositions(), OnePartition()
    found = starts(client, positions)
    positions.offsets[STREAM] = 100
    found.note_cut(STREAM, 80)
    client.assigned = set()
    assert found.find() == {}
    client.assigned = {ONE}
    assert (found.find()[ONE].offset, positions.lost) == (100, [])


def test_a_cut_behind_what_was_read_after_it_is_forgotten() -> None:
    """Reading went on below it and has passed it: going back would refuse again what is right."""
    positions = MemoryPositions()
    found = starts(OnePartition(), positions)
    positions.offsets[STREAM] = 50
    found.note_cut(STREAM, 80)
    assert found.find()[ONE].offset == 50
    found.note_saved({STREAM: 81})
    positions.offsets[STREAM] = 100
    assert (found.find()[ONE].offset, positions.lost) == (100, [])
    found.note_cut(STREAM, 80)
    found.note_saved({STREAM: 80})
    assert (found.find()[ONE].offset, positions.lost) == (80, [(STREAM, 80)])


def test_a_cut_survives_a_store_that_is_away() -> None:
    """And is gone back to once the store is there."""
    positions = MemoryPositions()
    found = starts(OnePartition(), positions)
    positions.offsets[STREAM] = 100
    found.note_cut(STREAM, 80)
    load = positions.load()
    positions.away, positions.load = True, lambda: load  # type: ignore[method-assign]  # it goes away in between
    with pytest.raises(StoreUnavailable):
        found.find()
    positions.away = False
    assert (found.find()[ONE].offset, positions.lost) == (80, [(STREAM, 80)])


def test_an_unknown_cut_at_the_logs_beginning_takes_the_epoch_away() -> None:
    """With it the brokers would be asked the same again, for ever."""
    positions = MemoryPositions()
    found = starts(OnePartition(), positions)
    positions.offsets[STREAM], positions.epochs[STREAM] = 0, 9
    found.note_cut(STREAM, None)
    assert [(start.offset, start.epoch) for start in (found.find()[ONE], found.find()[ONE])] == [(0, None)] * 2
    assert positions.epochs == {}


def test_a_start_has_the_leader_epoch_of_a_stored_position_and_of_no_other() -> None:
    """Behind a gap, and where a position was moved, nothing is known of the record before."""
    positions, client = MemoryPositions(), OnePartition()
    positions.offsets[STREAM], positions.epochs[STREAM] = 100, 7
    assert starts(client, positions).find()[ONE].epoch == 7
    client.begin = 120
    assert starts(client, positions).find()[ONE].epoch is None
    assert (positions.offsets, positions.epochs) == ({STREAM: 120}, {})


def test_a_gap_is_counted_once() -> None:
    """However often positions are sought before anything is saved, and by whichever replica; a later one counts anew,
    and so does one that a restored database has."""
    positions, client = MemoryPositions(), OnePartition()
    positions.offsets[STREAM] = 100
    client.begin = 130
    mine, others = starts(client, positions), starts(client, positions)
    assert [one.find()[ONE].offset for one in (mine, others, mine)] == [130, 130, 130]
    assert (mine.n_missed, others.n_missed, positions.offsets[STREAM]) == (30, 0, 130)
    client.begin = 140  # more went before anything was stored
    assert (mine.find()[ONE].offset, mine.n_missed) == (140, 40)
    positions.offsets[STREAM] = 50
    assert (mine.find()[ONE].offset, mine.n_missed) == (140, 130)
