"""Posts from Kafka topics, one JSON object a message; positions are SQL's, the group's offset is only told afterwards.

A turn of `poll`:
1. after a rebalance, a `rewind` or a re-created topic: seek every partition to its stored position (kafka_starts.py)
2. fetch; if partitions moved or a topic changed meanwhile, drop what came and begin again at 1
3. parse
Each time positions are sought again the generation rises, and what was polled in an older one is neither scored nor
mixed with newer records: it comes again. Saves in hand finish; the keys absorb what they and the new reading have in
common.
"""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kafka.errors import LogTruncationError, OffsetOutOfRangeError

from monitor.config import KafkaSection
from monitor.errors import SourceUnavailable, StoreUnavailable, TooManyRefused
from monitor.parsing import Arrival, Parser
from monitor.posts import Batch, Place, Record, Saved, StreamPartition
from monitor.protocols import Polled
from monitor.sources.bookkeeping import Positions
from monitor.sources.group_commits import GroupCommits
from monitor.sources.kafka_client import Client
from monitor.sources.kafka_progress import Progress
from monitor.sources.kafka_starts import Starts

log = logging.getLogger(__name__)

PROBE_ANSWER_S = 2.0
PROBE_S = 5.0  #: a broker that sent nothing for this long is asked whether it is there
LOOK_S = 10.0  #: how often to look whether another replica paused the source, or the positions were moved back
PAUSED_LOOK_S = 2.0  #: how often a paused source looks whether it may go on
KEEP_ALIVE_S = 0.1
REBUILD_S = 60.0  #: away for this long: try with a new client
FEW = 500  #: records behind that are no backlog


class KafkaTopics:
    """The Source of some topics of one cluster; see protocols.Source."""

    kind = "kafka"

    def __init__(
        self,
        section: KafkaSection,
        parser: Parser,
        positions: Positions,
        clock: Callable[[], datetime],
        *,
        password: str | None = None,
        base_dir: Path = Path(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Certificate paths are relative to `base_dir`. Raises ConfigError for options that cannot work."""
        self.name = section.name
        self._parser = parser
        self._positions = positions
        self._clock = clock
        self._monotonic = monotonic
        self._client = Client(section, password, base_dir)
        self._starts = Starts(self._client, positions, section.name)
        self._commits = GroupCommits(self._client, section.name)
        self._n_rewinds = 0
        self._sought = -1  # the generation whose positions were sought
        self._progress = Progress(self._client.highwater, monotonic)
        self._paused: str | None = None
        self._look_at = 0.0  # monotonic: when to look for a pause or its end
        self._heard_at = 0.0  # monotonic: when the cluster was last known to be there
        self._alive_at = 0.0  # monotonic: last keep_alive
        self._n_checked = 0  # fetches that were answered before topic ids were last asked for
        self._missing: list[str] = []

    @property
    def n_refused_commits(self) -> int:
        """Commits that the group did not take; harmless, positions are in SQL."""
        return self._commits.n_refused

    @property
    def n_missed(self) -> int:
        """Records that were gone from the log before they were read."""
        return self._starts.n_missed

    # ---- protocols.Source ----------------------------------------------------------------------------------------

    def open(self) -> None:
        if not self._client.is_open:
            self._commits.forget()
            self._client.open()
            self._n_checked = 0
        self._heard_at = self._monotonic()
        self._look_for_pause()

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        self._check_broker()
        self._check_topics()
        if self._monotonic() >= self._look_at:
            self._look_for_pause()
        if self._client.moves.has_joined and self._sought != self._generation:
            self._seek_stored()  # a paused source, too: its lag grows while it waits
        if self._paused is not None:
            self._stay(timeout_s)
            return self._polled()
        self._client.release()
        generation = self._generation
        fetched = self._fetch(max_records, timeout_s)
        if generation != self._generation or generation != self._sought or self._topics_changed(fetched):
            return self._polled()  # what came was fetched at positions that are not ours; it comes again
        self._progress.advance(fetched)
        if not fetched:
            skipped = self._progress.skip(self._client.position)
            return Polled([], skipped, generation=self._sought, epochs=self._progress.epochs_of(skipped))
        return self._polled(fetched)

    def keep_alive(self) -> None:
        now = self._monotonic()
        if self._client.is_open and now - self._alive_at >= KEEP_ALIVE_S:
            self._alive_at = now
            try:
                self._stay(0.0)
            except SourceUnavailable as error:
                log.debug("the broker is away while batches are busy", extra={"source": self.name, "error": str(error)})

    def commit(self, batch: Batch, saved: Saved) -> None:  # noqa: ARG002 - the positions were written by the save
        if batch.generation == self._generation:
            self._progress.note_saved(batch.positions)
            self._starts.note_saved(batch.positions)
        if self._client.is_open and batch.generation == self._generation:
            self._commits.send(self._progress.partitions_of(batch.positions))

    def refuse(self, batch: Batch, verdict: TooManyRefused) -> None:  # noqa: ARG002 - the whole source is paused
        self._paused = verdict.sentence
        self._look_at = self._monotonic() + PAUSED_LOOK_S

    def rewind(self) -> None:
        self._n_rewinds += 1

    def is_current(self, batch: Batch) -> bool:
        return batch.generation == self._generation

    def paused(self) -> str | None:
        return self._paused

    def mark_end(self) -> None:
        self._check_broker()
        self._progress.mark(self._client.ends(self._client.all_partitions()))

    def reached_end(self) -> bool:
        if self._paused is not None:
            return True
        return self._client.is_open and self._sought == self._generation and self._progress.is_past_mark()

    def lag(self) -> Mapping[StreamPartition, int]:
        return self._progress.lag

    def caught_up(self) -> bool:
        if self._paused is not None:
            return True
        return self._sought == self._generation and sum(self._progress.lag.values()) <= FEW

    def close(self) -> None:
        if self._client.is_open:
            self._commits.finish()
        self._client.close()
        self._progress.begin({})

    # ---- fetching ------------------------------------------------------------------------------------------------

    @property
    def _generation(self) -> int:
        return self._client.moves.n + self._n_rewinds

    def _polled(self, fetched: Mapping[Any, list[Any]] = MappingProxyType({})) -> Polled:
        now = self._clock()
        records: list[Record] = []
        for partition, messages in fetched.items():
            stream, label = self._progress.streams[partition], f"{partition.topic}:{partition.partition}"
            records += [self._record_of(stream, label, message, now) for message in messages]
        progress, positions = self._progress, self._progress.positions_of(fetched)
        starts, epochs = progress.stored_of(fetched), progress.epochs_of(positions)
        return Polled(records, positions, generation=self._sought, starts=starts, epochs=epochs)

    def _record_of(self, stream: StreamPartition, label: str, message: Any, now: datetime) -> Record:
        offset, value = message.offset, message.value
        place = Place(stream.stream, stream.partition, offset)
        return self._parser.parse_json(value, Arrival(place, f"{label}:{offset}", now, value or b""))

    def _fetch(self, max_records: int, timeout_s: float) -> dict[Any, list[Any]]:
        self._commits.send({})
        try:
            fetched = self._client.poll(max_records, timeout_s)
        except OffsetOutOfRangeError as error:
            self._leave_gap(error.args[0])
            return {}
        except LogTruncationError as error:
            self._note_cuts(error.divergent_offsets)
            return {}
        if fetched:
            self._heard_at = self._monotonic()
        return fetched

    def _stay(self, timeout_s: float) -> None:
        """Remain in the group without fetching.

        A rebalance may give unheld partitions, whose records are dropped and sought later.
        """
        self._client.hold()
        self._fetch(1, timeout_s)
        self._client.hold()

    def _seek_stored(self) -> None:
        generation = self._generation
        try:
            starts = self._starts.find()
        except StoreUnavailable:
            self._stay(0.0)
            raise
        for partition, start in starts.items():
            self._client.seek(partition, start.offset, start.epoch)
        self._progress.begin(starts)
        self._sought = generation

    def _leave_gap(self, offsets: Mapping[Any, int]) -> None:
        """A position is not in the log: its records were deleted unread, or the log was lost or made anew."""
        self._client.refresh_metadata()
        if self._topics_changed():
            return
        for partition, offset in offsets.items():
            stream = self._progress.streams.get(partition)
            if stream is not None:
                start = self._starts.nearest(partition, stream, offset)
                self._client.seek(partition, start.offset)
                self._progress.jump(partition, start.offset)

    def _note_cuts(self, divergent: Mapping[Any, Any]) -> None:
        """Logs that were cut behind our position, and where (None: not known): all is sought again."""
        for partition, at in divergent.items():
            stream = self._progress.streams.get(partition)
            if stream is not None:
                self._starts.note_cut(stream, None if at is None else at.offset)
        self._n_rewinds += 1

    def _topics_changed(self, fetched: Mapping[Any, list[Any]] = MappingProxyType({})) -> bool:
        """True, and everything is sought again, when a topic was deleted and made anew.

        A fetch names its topic by name, so records of the new topic may come at the old one's position. The ids are
        therefore asked for after every fetch that brought records, once for all the polls that its records last.
        """
        if fetched and self._client.n_fetches != self._n_checked:
            self._check_ids()
        for partition, stream in self._progress.streams.items():
            found = self._client.topic_id(partition.topic)
            if found is not None and stream.stream != f"{partition.topic}@{found}":
                extra = {"source": self.name, "topic": partition.topic}
                log.warning("a topic was made anew and is read from its beginning", extra=extra)
                self._n_rewinds += 1
                return True
        return False

    def _check_ids(self) -> None:
        n_fetches = self._client.n_fetches
        try:
            self._client.refresh_metadata()
        except SourceUnavailable:
            self._n_rewinds += 1  # what was fetched is dropped and must come again
            raise
        self._n_checked = n_fetches

    # ---- what surrounds it ---------------------------------------------------------------------------------------

    def _check_broker(self) -> None:
        """Raise SourceUnavailable while no broker answers: an idle cluster and a dead one look the same to a poll."""
        if not self._client.is_open:
            self.open()
        now = self._monotonic()
        if now - self._heard_at < PROBE_S:
            return
        try:
            self._probe()
        except SourceUnavailable:
            if now - self._heard_at > REBUILD_S:
                self._client.close()
            raise
        self._heard_at = now

    def _probe(self) -> None:
        assigned = self._client.assignment()
        if not assigned or any(self._client.topic_id(topic) is None for topic in self._client.topics):
            self._client.refresh_metadata(PROBE_ANSWER_S)
        if assigned:
            self._progress.note_ends(self._client.ends(assigned, PROBE_ANSWER_S))

    def _check_topics(self) -> None:
        """A missing topic is waited for and told once; SourceUnavailable when there is nothing else to read."""
        missing = [topic for topic in self._client.topics if self._client.topic_id(topic) is None]
        if missing and missing != self._missing:
            log.warning("topics do not exist yet", extra={"source": self.name, "topics": missing})
        self._missing = missing
        if len(missing) == len(self._client.topics):
            self._stay(0.0)
            names = " and ".join(missing)
            raise SourceUnavailable(
                f"the topic {names} does not exist at {self._client.servers}; it is read once it does"
            )

    def _look_for_pause(self) -> None:
        """A pause, its end by `sources resume` and older positions may come from anywhere: the store has them."""
        stored = self._positions.load()
        reasons = [position.paused_reason for position in stored.values() if position.paused_reason]
        if self._sought == self._generation and self._progress.is_ahead_of(
            {at: position.next_offset for at, position in stored.items()}
        ):
            log.warning("the database was restored or moved back, reading again", extra={"source": self.name})
            self._n_rewinds += 1
        if self._paused is not None and not reasons:
            self._n_rewinds += 1  # the positions may have been moved meanwhile
        self._paused = reasons[0] if reasons else None
        self._look_at = self._monotonic() + (PAUSED_LOOK_S if reasons else LOOK_S)
