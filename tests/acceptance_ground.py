"""What the acceptance checks stand on: folders, services, and the monitor as it is shipped."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from fixtures_kafka import Broker, real_broker
from fixtures_postgres import PostgresServer, running_postgres
from sites import Site
from stored import count, n_posts

BUNDLE = "social-gru"
RULES = {"threshold": 1.0, "certainty": 0}  #: every brand dips
WAITING = "SELECT count(*) FROM alerts WHERE state IN ('pending', 'sending', 'unknown')"


class Ground:
    """What the checks stand on: a folder, and services that start when they are first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._n_folders = 0
        self._broker: Broker | None = None
        self._postgres: PostgresServer | None = None

    def folder(self) -> Path:
        """A new one."""
        self._n_folders += 1
        folder = self._folder / str(self._n_folders)
        folder.mkdir()
        return folder

    @property
    def broker(self) -> Broker:
        """Apache Kafka."""
        if self._broker is None:
            self._broker = real_broker(self.folder())
            self._stack.callback(self._broker.stop)
        return self._broker

    @property
    def postgres(self) -> PostgresServer:
        """PostgreSQL."""
        if self._postgres is None:
            self._postgres = self._stack.enter_context(running_postgres())
        return self._postgres

    def site(self, n_partitions: int) -> Site:
        """A topic and a database, with the monitor as it is shipped."""
        site = Site(self.broker, self.postgres.create(), self.folder(), BUNDLE, n_partitions)
        site.source["options"] = {}
        site.sections["scoring"] = {"bundle": BUNDLE}
        return site


#: yields what it measured, line by line; raises AssertionError
Check = Callable[[Ground], Iterator[str]]


def counts(site: Site) -> str:
    """What a checked site holds, in a sentence."""
    n_letters = count(site.url, "SELECT count(*) FROM dead_letters")
    stored = f"{n_posts(site.url)} posts and {n_letters} dead letters of {site.n_records()} records"
    return f"{stored}, each once; totals equal a recount"


def program() -> list[str]:
    """The console script, of this checkout."""
    return [sys.executable, "-m", "monitor"]
