"""What commands ask the brokers of a Kafka source: partitions and offsets. Joins no group and takes no record."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from kafka import TopicPartition

from monitor.config import Config, KafkaSection
from monitor.errors import SourceUnavailable
from monitor.posts import StreamPartition
from monitor.settings import Secrets
from monitor.sources.kafka_client import Client

CONNECT_S = 3.0
_DEFAULT_PORT = 9092


class Brokers:
    """The topics of one source, by stream and partition as positions name them.

    Every method may raise SourceUnavailable.
    """

    def __init__(self, client: Client) -> None:
        """`client` is open."""
        self._client = client

    def partitions_of(self, topic: str) -> list[StreamPartition]:
        """The partitions of a topic, in order; none where there is no such topic."""
        topic_id = self._client.topic_id(topic)
        found = [at for at in self._client.all_partitions() if at.topic == topic]
        return [StreamPartition(f"{topic}@{topic_id}", at.partition) for at in found]

    def beginnings(self, places: Sequence[StreamPartition]) -> dict[StreamPartition, int]:
        """The earliest offset that each partition still has."""
        return self._asked(self._client.begins, places)

    def ends(self, places: Sequence[StreamPartition]) -> dict[StreamPartition, int]:
        """The offset after each partition's last record."""
        return self._asked(self._client.ends, places)

    def at(self, places: Sequence[StreamPartition], moment: datetime) -> dict[StreamPartition, int]:
        """The first offset written at or after `moment` (aware); the end where nothing was."""
        ends = self.ends(places)
        found = self._asked(lambda wanted: self._client.at(wanted, moment), places)
        return {place: ends[place] if found[place] is None else found[place] for place in places}

    def _asked(
        self, ask: Callable[[list[Any]], dict[Any, Any]], places: Sequence[StreamPartition]
    ) -> dict[StreamPartition, Any]:
        wanted = {TopicPartition(place.stream.rpartition("@")[0], place.partition): place for place in places}
        return {wanted[at]: offset for at, offset in ask(list(wanted)).items()} if wanted else {}


@contextmanager
def brokers_of(section: KafkaSection, config: Config, secrets: Secrets) -> Iterator[Brokers]:
    """An open way to the brokers of a source.

    Raises SourceUnavailable when none answers, ConfigError for settings that cannot work.
    """
    password = secrets.secret(section.password_from) if section.password_from else None
    if not any(map(_is_reachable, section.bootstrap_servers)):
        raise SourceUnavailable(f"no Kafka broker answers at {', '.join(section.bootstrap_servers)}")
    client = Client(section, password, config.base_dir)
    try:
        client.open()
        yield Brokers(client)
    finally:
        client.close()


def _is_reachable(server: str) -> bool:
    """Whether anything takes connections at HOST:PORT: asked first, since the client would try for seconds."""
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]") or server, int(port) if host else _DEFAULT_PORT), CONNECT_S).close()
    except (OSError, ValueError):
        return False
    return True
