"""Micro-batches: closed by count, by characters, by age, and at the end of a file."""

import msgspec

from monitor.posts import Batch, Post
from monitor.protocols import Polled


class BatchLimits(msgspec.Struct, frozen=True):
    """When a batch is full. A poll is never split, so a batch may exceed `max_chars` by one poll."""

    max_posts: int = 4096  # records, inclusive
    max_chars: int = 2_000_000
    max_wait_s: float = 0.1
    max_poll: int = 500  # records asked for at a time: bounds what one poll can add


class Batcher:
    """Collects what one source polls into its next micro-batch. Pure: time is passed in (monotonic seconds)."""

    def __init__(self, source: str, limits: BatchLimits) -> None:
        self._source = source
        self._limits = limits
        self._open: Batch | None = None
        self._n_chars = 0

    def room(self) -> int:
        """How many records the next poll may bring."""
        n_open = len(self._open.records) if self._open else 0
        return max(1, min(self._limits.max_poll, self._limits.max_posts - n_open))

    def wait_s(self, now: float, idle_s: float) -> float:
        """How long the next poll may wait: until the open batch is due, else `idle_s`."""
        if self._open is None:
            return idle_s
        return min(idle_s, max(0.0, self._open.polled_at + self._limits.max_wait_s - now))

    def add(self, polled: Polled, now: float) -> list[Batch]:
        """Take in one poll; the batches it closed, in order (two when a file begins while another batch is open)."""
        if self._open is not None and self._open.generation != polled.generation:
            # polled before the source went back: with what comes now it could move a position past unsaved records
            self.drop()
        closed = []
        if not polled.records and not polled.positions and not polled.ends_file:
            return self.due(now)
        if self._open is not None and self._open.file != polled.file:
            closed.append(self._close())
        batch = self._open or Batch(self._source, [], {}, file=polled.file, polled_at=now, generation=polled.generation)
        self._open = batch
        batch.records.extend(polled.records)
        batch.positions.update(polled.positions)
        for at in polled.positions:
            batch.epochs.pop(at, None)  # that of an earlier position
        batch.epochs.update(polled.epochs)
        batch.starts.update(polled.starts)
        batch.ends_file = polled.ends_file
        self._n_chars += sum(len(record.text) for record in polled.records if isinstance(record, Post))
        full = len(batch.records) >= self._limits.max_posts or self._n_chars >= self._limits.max_chars
        return [*closed, self._close()] if full or polled.ends_file else closed + self.due(now)

    def due(self, now: float) -> list[Batch]:
        """The open batch if it is old enough."""
        if self._open is not None and now - self._open.polled_at >= self._limits.max_wait_s:
            return [self._close()]
        return []

    def flush(self) -> list[Batch]:
        """The open batch, whatever its age."""
        return [self._close()] if self._open is not None else []

    def drop(self) -> None:
        """Forget the open batch: its records will be polled again."""
        self._open = None
        self._n_chars = 0

    @property
    def is_empty(self) -> bool:
        """True when no batch is open."""
        return self._open is None

    def _close(self) -> Batch:
        assert self._open is not None
        batch = self._open
        self.drop()
        return batch
