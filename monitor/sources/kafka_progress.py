"""How far the reading of a topic's partitions is: next offsets, ends, lag, and the mark of `run --once`."""

from collections.abc import Callable, Mapping
from typing import Any

from monitor.posts import StreamPartition
from monitor.sources.kafka_starts import Start

QUIET_S = 3.0  #: a live broker that sends nothing for this long has nothing (ends may count what is never delivered)


class Progress:
    """Of every assigned partition (TopicPartition). `lag` is replaced as a whole: other threads read it."""

    def __init__(self, highwater: Callable[[Any], int], monotonic: Callable[[], float]) -> None:
        """`highwater` gives the end that the latest fetch of a partition told."""
        self.streams: dict[Any, StreamPartition] = {}
        self.lag: dict[StreamPartition, int] = {}
        self._highwater = highwater
        self._monotonic = monotonic
        self._next: dict[Any, int] = {}
        self._epochs: dict[Any, int] = {}  # of the records before `_next`; -1 where it is not known
        self._ends: dict[Any, int] = {}
        self._marked: dict[Any, int] = {}
        self._stored: dict[StreamPartition, int] = {}  # the least that the store must have
        self._quiet_since: float | None = None

    def begin(self, starts: Mapping[Any, Start]) -> None:
        """Every partition was sought to its start."""
        self.streams = {partition: start.stream for partition, start in starts.items()}
        self._next = {partition: start.offset for partition, start in starts.items()}
        self._epochs = {}
        self._ends = {partition: start.end for partition, start in starts.items()}
        self._stored = {start.stream: start.stored for start in starts.values() if start.stored is not None}
        self._quiet_since = None
        self._note_lag()

    def jump(self, partition: Any, offset: int) -> None:
        """One partition goes on elsewhere, and so may what is stored of it."""
        self._next[partition] = offset
        self._stored.pop(self.streams[partition], None)

    def note_saved(self, positions: Mapping[StreamPartition, int]) -> None:
        """These positions are in the store."""
        self._stored.update(positions)

    def stored_of(self, fetched: Mapping[Any, list[Any]]) -> dict[StreamPartition, int]:
        """What the store must at least have of every partition that these messages came from."""
        streams = [self.streams[partition] for partition in fetched]
        return {stream: self._stored[stream] for stream in streams if stream in self._stored}

    def is_ahead_of(self, stored: Mapping[StreamPartition, int]) -> bool:
        """True where the store has less than it had: it was restored, or somebody moved a position back."""
        return any(stored.get(stream, 0) < least for stream, least in self._stored.items())

    def advance(self, fetched: Mapping[Any, list[Any]]) -> None:
        """These messages were polled; none is a sign of its own."""
        for partition, messages in fetched.items():
            self._next[partition] = messages[-1].offset + 1
            self._epochs[partition] = messages[-1].leader_epoch
        if fetched:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = self._monotonic()
        self._note_lag()

    def skip(self, position: Callable[[Any], tuple[int, int]]) -> dict[StreamPartition, int]:
        """A poll brought nothing: partitions that lag and whose `position` (offset, leader epoch) lies further on have
        skipped what is never delivered, the marks of transactions for one. Returns the next offset to read of those.
        """
        skipped = {}
        for partition, stream in self.streams.items():
            if not self.lag.get(stream):
                continue
            further, epoch = position(partition)
            if further > self._next[partition]:
                self._next[partition] = skipped[stream] = further
                self._epochs[partition] = epoch
        if skipped:
            self._note_lag()
        return skipped

    def positions_of(self, fetched: Mapping[Any, list[Any]]) -> dict[StreamPartition, int]:
        """The next offset to read of every partition that these messages came from."""
        return {self.streams[partition]: self._next[partition] for partition in fetched}

    def epochs_of(self, positions: Mapping[StreamPartition, int]) -> dict[StreamPartition, int]:
        """The leader epochs of the records before these positions, the latest ones, where they are known."""
        partitions = self.partitions_of(positions)
        return {self.streams[one]: epoch for one in partitions if (epoch := self._epochs.get(one, -1)) >= 0}

    def partitions_of(self, positions: Mapping[StreamPartition, int]) -> dict[Any, int]:
        """Positions by TopicPartition; those of partitions that are somebody else's now are left out."""
        partitions = {stream: partition for partition, stream in self.streams.items()}
        return {partitions[stream]: offset for stream, offset in positions.items() if stream in partitions}

    def note_ends(self, ends: Mapping[Any, int]) -> None:
        """The brokers were asked for the logs' ends."""
        self._ends.update(ends)
        self._note_lag()

    def mark(self, ends: Mapping[Any, int]) -> None:
        """Remember the logs' ends of now."""
        self._marked = dict(ends)
        self._quiet_since = None

    def is_past_mark(self) -> bool:
        """True once a poll brought nothing after every marked end was reached, or none did for QUIET_S."""
        if self._quiet_since is None:
            return False
        ends = {partition: end for partition, end in self._marked.items() if partition in self._next}
        is_past = all(self._next[partition] >= end for partition, end in ends.items())
        return is_past or self._monotonic() - self._quiet_since >= QUIET_S

    def _note_lag(self) -> None:
        """Records between the next to read and the latest end that was heard of."""
        lag = {}
        for partition, stream in self.streams.items():
            end = max(self._ends.get(partition, 0), self._highwater(partition))
            lag[stream] = max(0, end - self._next[partition])
        self.lag = lag
