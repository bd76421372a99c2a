"""One source's way through the pipeline: what is under way, what became of it, what was counted."""

from collections import Counter, deque
from typing import Protocol

import msgspec

from monitor.batching import Batcher, BatchLimits
from monitor.errors import TooManyRefused
from monitor.posts import Batch, Reason, Saved, ScoredBatch, StreamPartition
from monitor.protocols import Source


class Bookkeeper(Protocol):
    """What the pipeline needs of the store; every method may raise StoreUnavailable, and then calling it
    again is fine."""

    def save(self, batch: ScoredBatch) -> Saved:
        """Posts, dead letters, positions and totals in one transaction.

        Raises TooManyRefused or PositionsMovedBack, and then nothing was stored.
        """

    def refuse(self, batch: Batch, reason: str, *, pause: bool) -> None:
        """Start judging the source afresh and, with `pause`, mark it paused at its stored positions."""


class Outcome(msgspec.Struct):
    """What became of a batch: saved, refused, or neither: dropped because it will be polled again."""

    batch: Batch
    saved: Saved | None = None
    refused: TooManyRefused | None = None
    moved_back: bool = False  # the store is older than what was saved: read again from its positions


class Lane:
    """One source on its way through the pipeline. Its owner thread alone touches the source; other threads append
    outcomes."""

    def __init__(self, source: Source, limits: BatchLimits) -> None:
        self.source = source
        self.batcher = Batcher(source.name, limits)
        self.outcomes: deque[Outcome] = deque()
        self.closed: deque[Batch] = deque()  # batches that wait for room in the queue
        self.epoch = 0  # raised by the saver when a batch is refused: later batches of the old epoch are dropped
        self.poll_epoch = 0  # the epoch that the owner polls in; follows `epoch` once the refusal is settled
        self.n_in_flight = 0
        self.hands_on = False  # its owner may still put batches into the queue
        self.is_open = False
        self.was_refused = False
        self.n_records = 0
        self.n_inserted = 0
        self.n_seen_before = 0
        self.refused: Counter[Reason] = Counter()

    @property
    def name(self) -> str:
        """The part's name in /readyz."""
        return f"source {self.source.name}"

    @property
    def is_idle(self) -> bool:
        """Nothing of this source is under way."""
        return self.batcher.is_empty and not self.closed and not self.outcomes and self.n_in_flight == 0


class Work(msgspec.Struct):
    """A batch between two stages."""

    lane: Lane
    batch: Batch
    epoch: int
    scored: ScoredBatch | None = None


def start_offsets(batch: Batch) -> dict[StreamPartition, int]:
    """The first offset of the batch in every stream and partition: where a source is paused at when nothing of it was
    stored yet."""
    offsets = dict(batch.positions)
    for record in batch.records:
        key = StreamPartition(record.place.stream, record.place.partition)
        offsets[key] = min(offsets.get(key, record.place.offset), record.place.offset)
    return offsets
