"""The contracts between the rooms. Promises, units and errors stand here; implementations have no docstrings of their
own."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from monitor.errors import TooManyRefused
from monitor.posts import Batch, Post, Record, Saved, Score, StreamPartition


class Polled(msgspec.Struct):
    """What one poll fetched; empty when nothing is ready.

    `records` are in the order of their stream. `positions` holds, for every stream and partition touched, the NEXT
    offset to read once
    all these records are saved. All records of one poll come from one file (`file`) or from Kafka (`file` is None).
    """

    records: list[Record]
    positions: dict[StreamPartition, int]
    file: str | None = None
    ends_file: bool = False
    generation: int = (
        0  # raised when the source went back to the stored positions (a rebalance): older records come again
    )
    starts: dict[StreamPartition, int] = {}  # stored positions that this reading builds on: the store must have them
    epochs: dict[StreamPartition, int] = {}  # Kafka's leader epochs of the records before `positions`, where known


class Source(Protocol):
    """Where posts come from. One thread, the owner, calls every method; `lag`, `caught_up` and `is_current` may be
    read from any thread.

    `now` is never asked of a clock that a test cannot set: implementations take a `clock` in their constructor.
    """

    name: str
    kind: str

    def open(self) -> None:
        """Connect and find the position to go on from: SQL's, else (Kafka) the group's, else the earliest.

        Raises Unavailable when the broker, folder or store does not answer; calling again is fine.
        """

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """Fetch what is ready, parse it, and return within about `timeout_s` seconds; may be empty.

        A bad record is a DeadLetter among the records, never an exception. Raises Unavailable when the broker, folder
        or store is away.
        Never goes back by itself: a record is polled again only after `rewind`, a restart, or a rebalance.
        """

    def keep_alive(self) -> None:
        """Called instead of `poll` while later stages are busy: keeps group membership without fetching. Returns at
        once."""

    def commit(self, batch: Batch, saved: Saved) -> None:
        """The batch is in the store: the source may forget its records (Kafka commit, move the file to done/).

        Batches are committed in the order in which they were polled. A refused Kafka commit is logged and counted, not
        raised.
        """

    def refuse(self, batch: Batch, verdict: TooManyRefused) -> None:
        """Too many of the source's records are bad; the batch was not stored. Kafka: pause; a file goes to failed/.

        Nothing more of that file, or of the source, is polled until `resume`.
        """

    def rewind(self) -> None:
        """Forget what was polled but not committed and go on from the stored positions (after `refuse`, or a changed
        position)."""

    def is_current(self, batch: Batch) -> bool:
        """False when rebalances took every partition of the batch away since it was polled: it need not be scored.

        A batch that still has one partition of ours goes on whole: the keys absorb what the new owner reads again.
        """

    def paused(self) -> str | None:
        """Why the source is paused until `sources resume`; None while it reads. Any thread."""

    def mark_end(self) -> None:
        """Remember what is there now: `reached_end` is about this mark (`run --once`)."""

    def reached_end(self) -> bool:
        """True once everything that was there at `mark_end` has been polled (not necessarily saved)."""

    def lag(self) -> Mapping[StreamPartition, int]:
        """Records not yet polled, per stream and partition (drop folder: files waiting, under the stream '')."""

    def caught_up(self) -> bool:
        """False while a backlog is being read (alerts wait for that, at most `hold_s`)."""

    def close(self) -> None:
        """Leave the group, close files. Safe to call twice and after a failed open; takes at most 5 s."""


class Scorer(Protocol):
    """The only door to models/."""

    model: str  # the bundle's name, as in the `model` columns

    def score(self, posts: Sequence[Post]) -> list[Score | None]:
        """Scores in the order of `posts`, the same however posts are batched; None where other_languages says skip."""


class SendResult(msgspec.Struct, frozen=True):
    """What became of one attempt to send.

    outcome `sent`: Slack has it. `refused`: certainly not posted, permanent for now (retried every 15 minutes).
    `retry`: certainly not posted (429, connection refused), try again after `retry_after_s`. `unknown`: it may have
    been posted.
    `dry_run`: shown instead of sent.
    """

    outcome: str
    channel: str | None = None
    ts: str | None = None
    error: str | None = None
    retry_after_s: float | None = None


class Notifier(Protocol):
    """Sends one rendered alert. Never raises for what the network or Slack does; never sleeps."""

    def send(self, message: Mapping[str, object], channel: str, alert_key: str) -> SendResult:
        """Post `message` (text, blocks) once, with `alert_key` as metadata where the transport can carry it."""

    def find(self, channel: str, alert_key: str, oldest_ts: float) -> SendResult | None:
        """Look for an already posted alert by its metadata: `sent` if found, `retry` if certainly not there, None if
        it cannot be told.

        `unknown` if Slack does not answer now: look again after `retry_after_s`.
        """
