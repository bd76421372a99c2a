"""kafka-python's consumer with bounded waits and plain errors, as kafka.py needs it. Only the owner thread calls it.

Checked against kafka-python 3.0.12: the client has an IO thread of its own that sends heartbeats and calls the
rebalance listener; rebalances happen inside `poll`, though answers to joins may come between two (kafka_joins.py); a
fetch names its topic by name, so the topic's id is compared around every poll.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConfigurationError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RetriableError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
)
from kafka.structs import OffsetAndMetadata

from monitor.config import KafkaSection
from monitor.errors import ConfigError, SourceUnavailable
from monitor.sources.kafka_joins import keep_join_answers
from monitor.sources.kafka_options import consumer_config
from monitor.sources.kafka_refusals import WatchedNetClient

log = logging.getLogger(__name__)

ANSWER_S = 3.0  #: longest wait for any other answer
CLOSE_S = 2.0


class Moves(ConsumerRebalanceListener):  # type: ignore[misc] # kafka-python carries no types
    """Counts what rebalances do.

    Runs on the client's IO thread: it must never wait, so it sets flags and nothing more.
    """

    def __init__(self) -> None:
        self.n = 0  # raised whenever partitions are taken away or given
        self.has_joined = False

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        if revoked:
            self.n += 1

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:  # noqa: ARG002 - its owner asks for the whole assignment
        self.n += 1
        self.has_joined = True


class Client:
    """One consumer of a group; made anew by `open` after `close`."""

    def __init__(self, section: KafkaSection, password: str | None, base_dir: Path) -> None:
        """Raises ConfigError: a password or certificate file is missing, kafka-python does not know an option."""
        self.servers = ", ".join(section.bootstrap_servers)
        self.topics = list(section.topics)
        self.moves = Moves()
        self._user = section.username
        self._config = consumer_config(section, password, base_dir)
        self._consumer: Any = None
        self._net: WatchedNetClient | None = None

    @property
    def is_open(self) -> bool:
        """True between `open` and `close`."""
        return self._consumer is not None

    def open(self) -> None:
        """Connect and subscribe. Raises SourceUnavailable; a failed attempt leaves no thread behind."""
        if self._consumer is not None:
            return
        made: list[WatchedNetClient] = []

        def remember(**config: Any) -> Any:
            made.append(WatchedNetClient(**config))
            return made[-1]

        try:
            with self.errors():
                self._consumer = KafkaConsumer(kafka_client=remember, **self._config)
        except (SourceUnavailable, ConfigError) as error:
            refusal = made[0].refusal(self._user) if made and isinstance(error, SourceUnavailable) else None
            for client in made:
                client.close()
            if refusal is None:
                raise
            raise SourceUnavailable(f"Kafka at {self.servers} {refusal}") from error
        self._net = made[-1]
        self.moves.n += 1
        self.moves.has_joined = False
        keep_join_answers(self._consumer._coordinator)
        self._consumer.subscribe(topics=self.topics, listener=self.moves)
        self.refresh_metadata()

    def close(self) -> None:
        """Leave the group; safe to call twice."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=int(CLOSE_S * 1000))
            except (KafkaError, RuntimeError, OSError) as error:
                log.debug("closing the Kafka client failed", extra={"error": str(error)})

    def poll(self, max_records: int, timeout_s: float) -> dict[Any, list[Any]]:
        """Records by TopicPartition.

        Raises OffsetOutOfRangeError or LogTruncationError where a position is not in the log.
        """
        try:
            with self.errors(), self._keeping_epochs():
                fetched: dict[Any, list[Any]] = self._consumer.poll(int(timeout_s * 1000), max_records=max_records)
                return fetched
        except NoOffsetForPartitionError:
            return {}  # newly assigned and not sought yet: its owner does that next

    @contextmanager
    def _keeping_epochs(self) -> Iterator[None]:
        """An empty answer to a fetch makes kafka-python 3.0.12 forget the leader epoch of the position that stays; it
        would then notice no cut any more."""
        states: dict[Any, Any] = self._consumer._subscription.assignment
        before = {partition: state.position for partition, state in list(states.items())}
        try:
            yield
        finally:
            for partition, known in before.items():
                state: Any = states.get(partition)
                now = None if state is None else state.position
                if known and now and known.offset == now.offset and now.leader_epoch < 0 <= known.leader_epoch:
                    state.position = known

    def hold(self) -> None:
        """Fetch nothing more; membership goes on with `poll`."""
        self._consumer.pause(*self.assignment())

    def release(self) -> None:
        """Fetch again."""
        self._consumer.resume(*self._consumer.paused())

    def seek(self, partition: Any, offset: int, epoch: int | None = None) -> None:
        """Go on at `offset`; a partition that was just taken away is left alone.

        With the leader epoch of the record before it the brokers are asked whether their log still holds that record;
        if not, `poll` raises LogTruncationError.
        """
        try:
            self._consumer.seek(partition, offset)
            if epoch is not None:  # the public seek() takes no epoch
                self._consumer._subscription.seek(partition, OffsetAndMetadata(offset, "", epoch))
        except (ValueError, KeyError):
            log.debug("partition lost while it was sought", extra={"partition": str(partition)})

    def assignment(self) -> set[Any]:
        """The TopicPartitions of this member."""
        return set(self._consumer.assignment())

    def all_partitions(self) -> list[Any]:
        """Every partition of the topics, whoever reads it."""
        cluster = self._consumer._cluster  # see topic_id
        return [
            TopicPartition(topic, n) for topic in self.topics for n in sorted(cluster.partitions_for_topic(topic) or ())
        ]

    def begins(self, partitions: Collection[Any]) -> dict[Any, int]:
        """The earliest offset of each partition."""
        with self.errors():
            found: dict[Any, int] = self._consumer.beginning_offsets(list(partitions), timeout_ms=int(ANSWER_S * 1000))
        return found

    def ends(self, partitions: Collection[Any], timeout_s: float = ANSWER_S) -> dict[Any, int]:
        """The offset after the last record of each partition."""
        with self.errors():
            found: dict[Any, int] = self._consumer.end_offsets(list(partitions), timeout_ms=int(timeout_s * 1000))
        return found

    def at(self, partitions: Collection[Any], moment: datetime) -> dict[Any, int | None]:
        """The first offset written at or after `moment` (aware), by the broker's timestamps.

        None where there is none.
        """
        wanted = dict.fromkeys(partitions, int(moment.timestamp() * 1000))
        with self.errors():
            found = self._consumer.offsets_for_times(wanted, timeout_ms=int(ANSWER_S * 1000))
        return {partition: None if at is None else at.offset for partition, at in found.items()}

    def highwater(self, partition: Any) -> int:
        """The end of a partition as the latest fetch told it; 0 where none did."""
        try:
            return self._consumer.highwater(partition) or 0
        except KafkaError:
            return 0

    def position(self, partition: Any) -> tuple[int, int]:
        """The next offset that will be fetched, past what is never delivered, and the leader epoch of what lies before.

        0 and -1 where they are not known.
        """
        state = self._consumer._subscription.assignment.get(partition)  # the public position() may ask and wait
        at = None if state is None else state.position
        return (0, -1) if at is None else (at.offset, at.leader_epoch)

    def committed(self, partition: Any) -> int | None:
        """The group's offset, None where it has none."""
        with self.errors():
            offset: int | None = self._consumer.committed(partition, timeout_ms=int(ANSWER_S * 1000))
        return offset

    def commit(self, offsets: Mapping[Any, int], done: Callable[[object], None]) -> None:
        """Send a commit; `done(error or response)` is called from a later `poll`."""
        wanted = {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
        with self.errors():
            self._consumer.commit_async(wanted, callback=lambda _, outcome: done(outcome))

    def commit_now(self, offsets: Mapping[Any, int]) -> None:
        """Commit and wait for the answer, briefly."""
        wanted = {partition: OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
        with self.errors():
            self._consumer.commit(wanted, timeout_ms=int(CLOSE_S * 1000))

    def topic_id(self, topic: str) -> str | None:
        """What tells a topic from another of the same name; None while the topic is missing.

        Brokers before 2.8 have none: "0".
        """
        cluster = self._consumer._cluster  # the only way to a topic's id in kafka-python 3.0
        if not cluster.partitions_for_topic(topic):
            return None
        found = cluster.topic_id(topic)
        return str(found) if found is not None else "0"

    @property
    def n_fetches(self) -> int:
        """Fetches answered since `open`; what `poll` returns was in one of these."""
        return self._net.n_fetches if self._net is not None else 0

    def refresh_metadata(self, timeout_s: float = ANSWER_S) -> None:
        """Ask which topics and partitions there are. Raises SourceUnavailable when no broker answers."""
        answered = threading.Event()
        cluster = self._consumer._cluster
        cluster._last_refresh_ms = 0.0  # else it waits for the rest of retry_backoff_ms, though this is no retry
        asked = cluster.request_update()  # the public bootstrap() may wait without bound
        asked.add_both(lambda _: answered.set())
        if not answered.wait(timeout_s):
            raise SourceUnavailable(f"no Kafka broker answers at {self.servers}")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What the client raises, as SourceUnavailable with a plain sentence; offsets that are not there pass."""
        try:
            yield
        except KafkaConfigurationError as error:
            raise ConfigError(f"Kafka options are not usable: {error}") from error
        except SaslAuthenticationFailedError as error:
            raise SourceUnavailable(f"Kafka at {self.servers} refused the user {self._user}: {error}") from error
        except (TopicAuthorizationFailedError, GroupAuthorizationFailedError) as error:
            raise SourceUnavailable(f"Kafka at {self.servers} does not allow it: {error}") from error
        except (NoOffsetForPartitionError, OffsetOutOfRangeError, LogTruncationError):
            raise
        except RetriableError as error:  # timeouts among them
            raise SourceUnavailable(f"no Kafka broker answers at {self.servers}") from error
        except (KafkaError, OSError, RuntimeError) as error:
            self.close()  # whatever broke inside the client: the next attempt starts with a new one
            raise SourceUnavailable(f"the Kafka client failed at {self.servers}: {error}") from error
