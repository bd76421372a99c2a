"""Where reading of a Kafka partition begins: at SQL's position, else the group's, else the earliest record."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from monitor.errors import SourceUnavailable
from monitor.posts import StreamPartition
from monitor.sources.bookkeeping import Positions
from monitor.sources.kafka_client import Client
from monitor.store.positions import Position

log = logging.getLogger(__name__)


class Start(msgspec.Struct, frozen=True):
    """The first offset to read, the log's end when that was decided, how many records were gone already, and the
    position that the store had (None: none)."""

    stream: StreamPartition
    offset: int
    end: int
    n_missed: int = 0
    stored: int | None = None


class Starts:
    """Finds starts; every method may raise Unavailable."""

    def __init__(self, client: Client, positions: Positions, source: str) -> None:
        self._client = client
        self._positions = positions
        self._source = source

    def find(self) -> dict[Any, Start]:
        """The start of every assigned partition, by TopicPartition."""
        partitions = sorted(self._client.assignment())
        stored = self._positions.load()
        if not partitions:
            return {}
        begins, ends = self._client.begins(partitions), self._client.ends(partitions)
        return {one: self._start_of(one, stored, begins[one], ends[one]) for one in partitions}

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
        self._positions.reset(stream, begin)
        return Start(stream, begin, end)

    def _start_of(self, partition: Any, stored: Mapping[StreamPartition, Position], begin: int, end: int) -> Start:
        stream = StreamPartition(f"{partition.topic}@{self._topic_id(partition.topic)}", partition.partition)
        known = stored.get(stream)
        at = offset = known.next_offset if known else None
        if offset is None and not _has_predecessor(stream, stored):
            offset = self._client.committed(partition)
        if offset is None:
            offset = begin
        start = Start(stream, offset, end) if offset >= begin else self._after_gap(stream, offset, begin, end)
        return msgspec.structs.replace(start, stored=at)

    def _topic_id(self, topic: str) -> str:
        found = self._client.topic_id(topic)
        if found is None:
            self._client.refresh_metadata()
            found = self._client.topic_id(topic)
        if found is None:
            raise SourceUnavailable(f"the topic {topic} does not exist at {self._client.servers}")
        return found

    def _after_gap(self, stream: StreamPartition, offset: int, begin: int, end: int) -> Start:
        extra = self._place(stream, offset) | {"earliest": begin, "missed": begin - offset}
        log.warning("records were deleted from Kafka before they were read", extra=extra)
        return Start(stream, begin, end, begin - offset)

    def _place(self, stream: StreamPartition, offset: int) -> dict[str, object]:
        return {"source": self._source, "stream": stream.stream, "partition": stream.partition, "offset": offset}


def _has_predecessor(stream: StreamPartition, stored: Collection[StreamPartition]) -> bool:
    """True when the store knows an earlier topic of this name: the group's offset is that one's, not this one's."""
    topic = stream.stream.rpartition("@")[0]
    return any(other.stream.rpartition("@")[0] == topic and other.stream != stream.stream for other in stored)
