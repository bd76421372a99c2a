"""Where reading of a Kafka partition begins: at SQL's position.

A topic that SQL has never met begins at the group's offset, else at the earliest record, and each of its partitions
gets a position at once, before a record of it is read. So every later dump of the database says where to go on in each
partition, and the group's offset, which a restored database may lie behind, never counts for a topic that is known: a
partition without a position was added later, or the dump is older than its first, and begins at its earliest record.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from monitor.errors import SourceUnavailable
from monitor.posts import StreamPartition
from monitor.sources.bookkeeping import Positions
from monitor.sources.kafka_client import Client
from monitor.store.positions import Position

log = logging.getLogger(__name__)


class Start(msgspec.Struct, frozen=True):
    """The first offset to read, the log's end when that was decided, the position that the store has at least
    (None: it was moved, and may be anywhere), and the leader epoch of the record before (None: not known)."""

    stream: StreamPartition
    offset: int
    end: int
    stored: int | None = None
    epoch: int | None = None


class Cut(msgspec.Struct, frozen=True):
    """Where a log was cut: the records from `offset` on were lost, or some after it where that is not `known`."""

    offset: int
    known: bool


class Starts:
    """Finds starts; every method may raise Unavailable."""

    def __init__(self, client: Client, positions: Positions, source: str) -> None:
        self._client = client
        self._positions = positions
        self._source = source
        self._cuts: dict[StreamPartition, Cut] = {}
        self.n_missed = 0  # records that were gone from the log before they were read
        self._met: set[str] = set()  # topics that the store has known: a store that no longer does was set back

    def find(self) -> dict[Any, Start]:
        """The start of every assigned partition, by TopicPartition."""
        partitions = sorted(self._client.assignment())
        self._forget_cuts_of_others(partitions)
        stored = self._positions.load()
        if not partitions:
            return {}
        stored = self._begin_new(partitions, stored)
        begins, ends = self._client.begins(partitions), self._client.ends(partitions)
        stored = self._before_cuts(stored, {self._stream_of(one): begin for one, begin in begins.items()})
        return {one: self._start_of(one, stored, begins[one], ends[one]) for one in partitions}

    def note_cut(self, stream: StreamPartition, offset: int | None) -> None:
        """The brokers lost a log from `offset` on and write those offsets anew: the next `find` goes back to it.

        None: they cannot tell from where, and all of it is read again.
        """
        cut = Cut(offset or 0, known=offset is not None)
        log.warning("the end of a Kafka log was lost; reading again from there", extra=self._place(stream, cut.offset))
        self._cuts[stream] = min(cut, self._cuts.get(stream, cut), key=lambda one: one.offset)

    def note_saved(self, positions: Mapping[StreamPartition, int]) -> None:
        """What was read after the cuts is stored: those that lie before these positions are behind us."""
        for at, offset in positions.items():
            if at in self._cuts and self._cuts[at].offset < offset:
                del self._cuts[at]

    def nearest(self, partition: Any, stream: StreamPartition, offset: int) -> Start:
        """Where to go on when `offset` is not in the log: at its beginning, wherever the offset was.

        Beyond the end (the brokers lost records) reading again from the beginning loses nothing, and the keys absorb
        what was counted; the stored position is moved back, since a save never does that.
        """
        begin, end = self._client.begins([partition])[partition], self._client.ends([partition])[partition]
        if offset < begin:
            return self._after_gap(stream, offset, begin, end)
        log.warning(
            "a position lies beyond its log's end; reading from the beginning", extra=self._place(stream, offset)
        )
        self._positions.go_back(stream, begin, lost_from=end)
        return Start(stream, begin, end)

    def _begin_new(
        self, assigned: Collection[Any], stored: Mapping[StreamPartition, Position]
    ) -> Mapping[StreamPartition, Position]:
        """Store a first position where there is none: of the assigned partitions, and of every one of a topic that is
        met for the first time, whoever reads it. Returns what is stored then, another replica's included."""
        known = _topics_of(stored) | self._met
        asked = {*assigned, *(one for one in self._client.all_partitions() if one.topic not in known)}
        new = {one: stream for one in sorted(asked) if (stream := self._stream_of(one)) not in stored}
        if new:
            begins = self._client.begins(new)
            starts = {new[one]: self._first_offset(one, known, begins[one]) for one in new}
            self._positions.begin(starts)
            begun = {at: Position(offset, None) for at, offset in starts.items()}
            stored = {**begun, **self._positions.load()}
        self._met = known | _topics_of(stored)
        return stored

    def _before_cuts(
        self, stored: Mapping[StreamPartition, Position], begins: Mapping[StreamPartition, int]
    ) -> Mapping[StreamPartition, Position]:
        """Move stored positions back that lie behind a cut, never before their log's beginning.

        A cut that the position has not reached is kept for the next time: what was read before it may be stored yet.
        One that is not known goes for any position, whose leader epoch would only bring it again.
        """
        places = {at: max(cut.offset, begins[at]) for at, cut in self._cuts.items() if at in begins and at in stored}
        behind = {
            at: place for at, place in places.items() if stored[at].next_offset > place or not self._cuts[at].known
        }
        for at, place in behind.items():
            cut = self._cuts[at]
            self._positions.go_back(at, place, lost_from=cut.offset if cut.known else None)
            del self._cuts[at]  # not before: the store may be away
        return {**stored, **{at: Position(place, None) for at, place in behind.items()}}

    def _forget_cuts_of_others(self, assigned: Collection[Any]) -> None:
        """The replica that has the partition now finds the cut by itself, and what it reads from there is right."""
        mine = {(one.topic, one.partition) for one in assigned}
        self._cuts = {at: cut for at, cut in self._cuts.items() if (_topic_of(at), at.partition) in mine}

    def _first_offset(self, partition: Any, known: Collection[str], begin: int) -> int:
        committed = None if partition.topic in known else self._client.committed(partition)
        return begin if committed is None else committed

    def _start_of(self, partition: Any, stored: Mapping[StreamPartition, Position], begin: int, end: int) -> Start:
        stream = self._stream_of(partition)
        if stream not in stored:
            raise SourceUnavailable(f"the topic {partition.topic} is being made anew at {self._client.servers}")
        offset = stored[stream].next_offset
        if offset < begin:
            start = self._after_gap(stream, offset, begin, end)
        else:
            start = Start(stream, offset, end, epoch=stored[stream].leader_epoch)
        return msgspec.structs.replace(start, stored=start.offset)

    def _stream_of(self, partition: Any) -> StreamPartition:
        return StreamPartition(f"{partition.topic}@{self._topic_id(partition.topic)}", partition.partition)

    def _topic_id(self, topic: str) -> str:
        found = self._client.topic_id(topic)
        if found is None:
            self._client.refresh_metadata()
            found = self._client.topic_id(topic)
        if found is None:
            raise SourceUnavailable(f"the topic {topic} does not exist at {self._client.servers}")
        return found

    def _after_gap(self, stream: StreamPartition, offset: int, begin: int, end: int) -> Start:
        """Begin behind it, and move the stored position there: neither a rebalance nor a restart counts it again."""
        self._positions.reset(stream, begin)
        self.n_missed += begin - offset
        extra = self._place(stream, offset) | {"earliest": begin, "missed": begin - offset}
        log.warning("records were deleted from Kafka before they were read", extra=extra)
        return Start(stream, begin, end)

    def _place(self, stream: StreamPartition, offset: int) -> dict[str, object]:
        return {"source": self._source, "stream": stream.stream, "partition": stream.partition, "offset": offset}


def _topics_of(streams: Iterable[StreamPartition]) -> set[str]:
    """Their names, whatever incarnation is meant: the group's offset may be that of an earlier one."""
    return {_topic_of(stream) for stream in streams}


def _topic_of(stream: StreamPartition) -> str:
    return stream.stream.rpartition("@")[0]
