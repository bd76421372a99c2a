"""The in-memory double of a source and of its positions: the same promises as the real ones, shipped for tests."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from monitor.errors import SourceUnavailable, StoreUnavailable, TooManyRefused
from monitor.parsing import Arrival, Parser
from monitor.posts import Batch, DeadLetter, Place, Record, Saved, StreamPartition
from monitor.protocols import Polled
from monitor.sources.bookkeeping import Positions
from monitor.store.files import FileCounts, TakenFile
from monitor.store.positions import Position

STREAM = "memory@1"


class MemoryPositions:
    """bookkeeping.Positions in memory; a test moves `offsets` where a save would, and takes the store `away`."""

    def __init__(self) -> None:
        self.offsets: dict[StreamPartition, int] = {}
        self.epochs: dict[StreamPartition, int] = {}
        self.lost: list[tuple[StreamPartition, int]] = []  # (log, first lost record) of every `go_back` that knew it
        self.paused_reason: str | None = None
        self.files: dict[str, TakenFile] = {}
        self.outcomes: dict[str, str] = {}
        self.counts: dict[str, FileCounts] = {}
        self.dead_files: list[DeadLetter] = []
        self.away = False

    def load(self) -> Mapping[StreamPartition, Position]:
        self._check_here()
        return {
            partition: Position(offset, self.paused_reason, self.epochs.get(partition))
            for partition, offset in list(self.offsets.items())  # a saver's thread may add one meanwhile
        }

    def begin(self, starts: Mapping[StreamPartition, int]) -> None:
        self._check_here()
        for partition, start in starts.items():
            self.offsets.setdefault(partition, start)  # in place: a saver's thread may write meanwhile

    def reset(self, stream_partition: StreamPartition, next_offset: int) -> None:
        self._check_here()
        self.offsets[stream_partition] = next_offset
        self.epochs.pop(stream_partition, None)

    def go_back(self, stream_partition: StreamPartition, next_offset: int, lost_from: int | None) -> None:
        self.reset(stream_partition, next_offset)
        self.lost += [] if lost_from is None else [(stream_partition, lost_from)]

    def take_file(self, taken_name: str, name: str, sha256: str, now: datetime) -> None:
        self._check_here()
        self.files[taken_name] = TakenFile(taken_name, name, sha256, now)
        self.outcomes.pop(taken_name, None)
        self.offsets[StreamPartition(sha256, 0)] = 0

    def finish_file(self, taken_name: str, outcome: str, now: datetime) -> None:  # noqa: ARG002
        self._check_here()
        self.outcomes.setdefault(taken_name, outcome)

    def unfinished_files(self) -> list[TakenFile]:
        self._check_here()
        unfinished = [file for name, file in self.files.items() if name not in self.outcomes]
        return sorted(unfinished, key=lambda file: (file.taken_at, file.taken_name))

    def file_counts(self, taken_name: str) -> FileCounts:
        self._check_here()
        return self.counts.get(taken_name, FileCounts(0, 0, {}))

    def save_dead_file(self, dead_letter: DeadLetter) -> None:
        if dead_letter.place not in {letter.place for letter in self.dead_files}:
            self.dead_files.append(dead_letter)

    def _check_here(self) -> None:
        if self.away:
            raise StoreUnavailable("the memory store is away")


class MemorySource:
    """A source whose messages are lists of bytes, one per partition.

    `rebalance` and `away` script what befalls it. `rebalance` may be called by any thread: like a broker's, it
    falls between two calls of the owner, never into the middle of one.
    """

    kind = "memory"

    def __init__(
        self, parser: Parser, positions: Positions, clock: Callable[[], datetime], n_partitions: int = 1
    ) -> None:
        self.name = parser.source
        self.messages: dict[StreamPartition, list[bytes | None]] = {
            StreamPartition(STREAM, n): [] for n in range(n_partitions)
        }
        self.committed: dict[StreamPartition, int] = {}
        self.away = False
        self._parser = parser
        self._positions = positions
        self._clock = clock
        self._next: dict[StreamPartition, int] = dict.fromkeys(self.messages, 0)
        self._starts: dict[StreamPartition, int] = {}
        self._ends: dict[StreamPartition, int] = {}
        self._paused: str | None = None
        self._generation = 0
        self._turn = threading.RLock()  # half a poll with the place and half with the generation of before loses posts

    def put(self, *values: bytes | None, partition: int = 0) -> None:
        """Append messages to a partition."""
        self.messages[StreamPartition(STREAM, partition)].extend(values)

    def rebalance(self) -> None:
        """Every partition is taken away and given back: reading goes on at the stored positions."""
        with self._turn:
            self._seek_stored()  # it may fail, and then nothing was taken away
            self._generation += 1

    def open(self) -> None:
        self._check_here()
        with self._turn:
            self._seek_stored()

    def poll(self, max_records: int, timeout_s: float) -> Polled:  # noqa: ARG002 - there is nothing to wait for
        with self._turn:
            return self._poll(max_records)

    def keep_alive(self) -> None:
        pass

    def commit(self, batch: Batch, saved: Saved) -> None:  # noqa: ARG002
        self.committed.update(batch.positions)

    def refuse(self, batch: Batch, verdict: TooManyRefused) -> None:  # noqa: ARG002
        with self._turn:
            self._paused = verdict.sentence

    def rewind(self) -> None:
        with self._turn:
            self._seek_stored()

    def is_current(self, batch: Batch) -> bool:
        return batch.generation == self._generation

    def paused(self) -> str | None:
        return self._paused

    def mark_end(self) -> None:
        self._ends = {partition: len(values) for partition, values in self.messages.items()}

    def reached_end(self) -> bool:
        return all(self._next[partition] >= end for partition, end in self._ends.items())

    def lag(self) -> Mapping[StreamPartition, int]:
        return {partition: len(values) - self._next[partition] for partition, values in self.messages.items()}

    def caught_up(self) -> bool:
        return not any(self.lag().values())

    def close(self) -> None:
        pass

    def _poll(self, max_records: int) -> Polled:
        self._check_here()
        polled = Polled([], {}, generation=self._generation)
        if self._paused is not None:
            self._look_for_resume()
            return polled
        for partition, values in self.messages.items():
            start = self._next[partition]
            found = values[start : start + max_records - len(polled.records)]
            if found:
                polled.records.extend(self._record_of(partition, start + n, value) for n, value in enumerate(found))
                polled.positions[partition] = self._next[partition] = start + len(found)
                polled.starts.update({partition: self._starts[partition]} if partition in self._starts else {})
        return polled

    def _check_here(self) -> None:
        if self.away:
            raise SourceUnavailable("the memory source is away")

    def _seek_stored(self) -> None:
        stored = self._positions.load()
        self._starts = {partition: position.next_offset for partition, position in stored.items()}
        for partition in self.messages:
            position = stored.get(partition)
            self._next[partition] = position.next_offset if position else 0
        self._paused = next(
            (position.paused_reason for position in stored.values() if position.paused_reason), self._paused
        )

    def _look_for_resume(self) -> None:
        if not any(position.paused_reason for position in self._positions.load().values()):
            self._paused = None

    def _record_of(self, partition: StreamPartition, offset: int, value: bytes | None) -> Record:
        place = Place(partition.stream, partition.partition, offset)
        label = f"memory:{place.partition}:{offset}"
        return self._parser.parse_json(value, Arrival(place, label, self._clock(), value or b""))
