"""A topic, a database and the daemons between them, and what must be in the database when all records are through."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
from daemon_process import wait_until, write_config
from fixtures_kafka import Broker
from ports import free_port
from stored import check_days, check_stream, check_totals, count, is_refreshed, posts
from traffic import Message, Producing


class Site:
    """A topic, a database and configurations of daemons that share both."""

    def __init__(self, broker: Broker, url: str, folder: Path, bundle: str, n_partitions: int) -> None:
        self.broker = broker
        self.url = url
        self.topic = broker.create_topic(broker.new_name("posts"), n_partitions)
        self.source = {
            "name": "posts",
            "kind": "kafka",
            "bootstrap_servers": broker.servers,
            "topics": [self.topic],
            "group_id": broker.new_name("group"),
            "options": {"session_timeout_ms": 3000, "heartbeat_interval_ms": 300},
        }
        self.sections: dict[str, Any] = {"scoring": {"bundle": bundle, "max_batch_posts": 300}, "store": {"url": url}}
        self._folder = folder
        self._numbers = itertools.count(1)

    def config(self, **sections: Any) -> Path:
        """A configuration of one more replica."""
        folder = self._folder / f"replica-{next(self._numbers)}"
        folder.mkdir()
        return write_config(
            folder, **self.sections | {"sources": [self.source], "http": {"port": free_port()}} | sections
        )

    def produce(self, messages: Iterable[Message]) -> list[tuple[Message, int]]:
        """Produce all of them at once; returns them with their offsets."""
        with Producing(self.broker.servers, self.topic, messages, per_s=1e6) as producing:
            producing.finish()
        return producing.sent

    def n_records(self) -> int:
        """Records that became a post, a dead letter or a repetition: the sum of the stored positions."""
        try:
            return count(self.url, "SELECT sum(next_offset) FROM positions")
        except psycopg.errors.UndefinedTable:
            return 0

    def wait_for(self, n_records: int, deadline_s: float = 60.0) -> None:
        """Wait until so many records are through."""
        wait_until(lambda: self.n_records() >= n_records, f"{n_records} records", deadline_s)

    def check(self, sent: list[tuple[Message, int]], deadline_s: float = 60.0) -> None:
        """Everything that was sent is stored once, and totals and daily rows equal a recount."""
        self.wait_for(len(sent), deadline_s)
        wait_until(lambda: is_refreshed(self.url), "the daily rows")
        check_stream(self.url, sent)
        check_totals(self.url)
        check_days(self.url, posts(self.url))


def copied_database(url: str) -> str:
    """Copy a database, as a dump would, throwing out whoever is connected; returns the copy's name."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    nobody = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    _administer(url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", nobody)
    _administer(url, f"CREATE DATABASE {name}_copy TEMPLATE {name}", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    return f"{name}_copy"


def restore_database(url: str, copy: str) -> None:
    """Put the copy in the place of the database, throwing out whoever is connected."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    _administer(url, f"DROP DATABASE {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {copy}")


def _administer(url: str, *statements: str) -> None:
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
