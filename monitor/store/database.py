"""The way into the database: engine, transactions, retries.

Everything else in this room takes a Database as its first argument.
"""

import fcntl
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Table, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from monitor.errors import AlreadyRunning, ConfigError, StoreUnavailable
from monitor.store.engines import postgresql_engine, sqlite_engine
from monitor.store.faults import Fault, fault_of, words_of

T = TypeVar("T")

MAX_ATTEMPTS = 6  #: of one transaction that lost against others


class Database:
    """SQLite or PostgreSQL behind two calls, `run` and `read`; safe to share between threads."""

    def __init__(self, url: str, password: str | None = None) -> None:
        """Open nothing yet. `password` goes into a PostgreSQL URL that has none.

        Raises ConfigError for a URL that cannot be read.
        """
        self._url = _with_driver(url, password)
        self.dialect = self._url.get_backend_name()  # "sqlite" or "postgresql"
        self._engine = sqlite_engine(self._url) if self.dialect == "sqlite" else postgresql_engine(self._url)

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for PostgreSQL."""
        return Path(self._url.database) if self.dialect == "sqlite" and self._url.database else None

    def describe(self) -> str:
        """Where the database is, without password or options: for people and logs."""
        if self.dialect == "sqlite":
            return f"sqlite:///{self._url.database}"
        shown = URL.create("postgresql", self._url.username, None, self._url.host, self._url.port, self._url.database)
        return shown.render_as_string()

    def run(self, work: Callable[[Connection], T]) -> T:
        """Call `work` inside one write transaction and commit; return what it returned.

        `work` is called again from the start after a deadlock, a lock timeout or a serialization failure, and once
        after a lost connection, even where the commit itself was in doubt: it must give the same result when its
        effects are there already. Raises StoreUnavailable for what may pass, ConfigError where tables are missing; what
        `work` raises rolls back and comes out.
        """
        options = {"begin": "BEGIN IMMEDIATE"} if self.dialect == "sqlite" else {}
        return self._repeat(work, options)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Call `work` inside one read transaction that sees a single state of the database. Raises as `run` does."""
        if self.dialect == "sqlite":
            return self._repeat(work, {"begin": "BEGIN"})
        return self._repeat(work, {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True})

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection without a transaction around it (each statement commits), for session locks.

        Raises as `run` does.
        """
        try:
            connection = self._engine.connect()
        except (DBAPIError, PoolTimeoutError) as error:
            raise self._in_plain_words(fault_of(error), error) from error
        with connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT", begin=None)

    def drop_old_pages(self) -> None:
        """On SQLite, empty the write-ahead log, which holds pages as they were before; nothing on PostgreSQL.

        What other connections still read stays until they are done. Raises as `run` does.
        """
        if self.dialect == "sqlite":
            with self.session() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close every connection. Safe to call twice; the object can still be used and opens new ones."""
        self._engine.dispose()

    def _repeat(self, work: Callable[[Connection], T], options: dict[str, Any]) -> T:
        n_lost = 0
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                with self._engine.connect() as connection, connection.execution_options(**options).begin():
                    return work(connection)
            except (DBAPIError, PoolTimeoutError) as error:
                fault = fault_of(error)
                n_lost += fault is Fault.LOST
                final = fault not in {Fault.CONFLICT, Fault.LOST} or n_lost > 1 or attempt == MAX_ATTEMPTS
                if final:
                    if fault is Fault.OURS:
                        raise
                    raise self._in_plain_words(fault, error) from error
            time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311  spreads rivals, guards nothing
        raise AssertionError("the loop above returns or raises")

    def _in_plain_words(self, fault: Fault, error: DBAPIError | PoolTimeoutError) -> Exception:
        words = words_of(error, str(self._url.password) if self._url.password else None)
        if fault is Fault.UNMIGRATED:
            return ConfigError(
                f"The database {self.describe()} lacks tables or columns; run `sentiment-monitor db upgrade` ({words})"
            )
        if fault is Fault.FORBIDDEN:
            return ConfigError(f"The user of {self.describe()} lacks a right that the monitor needs: {words}")
        if fault is Fault.NOT_A_DATABASE:
            return ConfigError(f"The file of {self.describe()} is not a readable SQLite database ({words})")
        return StoreUnavailable(f"The database {self.describe()} is not available: {words}")


def insert_into(connection: Connection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, in the connection's dialect (the two classes share no typed base)."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def on_postgresql(connection: Connection) -> bool:
    """Whether the connection speaks to PostgreSQL."""
    return connection.dialect.name == "postgresql"


def lift_time_limit(connection: Connection) -> None:
    """Let the statements of this transaction take an hour: for recounts and migrations, which read whole tables."""
    if on_postgresql(connection):
        connection.execute(text("SET LOCAL statement_timeout = '1h'"))


def stop_writers(connection: Connection) -> None:
    """Let no other transaction write posts until this one ends; readers go on. SQLite has one writer anyway."""
    if on_postgresql(connection):
        connection.execute(text("LOCK TABLE posts IN SHARE ROW EXCLUSIVE MODE"))


@contextmanager
def daemon_lock(db: Database) -> Iterator[None]:
    """Hold the SQLite file for one daemon; PostgreSQL needs no such lock.

    Raises AlreadyRunning in plain words when another daemon holds it. The lock dies with its holder, so nothing is left
    to clean up.
    """
    if db.path is None:
        yield
        return
    with _lock_file(db.path).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                f"Another daemon is already using {db.describe()}, and SQLite serves one daemon at a time. "
                "Stop the other one, or set store.url to a PostgreSQL database to run several."
            ) from error
        yield


def _lock_file(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock")
        lock.touch()
    except OSError as error:
        raise StoreUnavailable(
            f"The folder of the database cannot be written: {error.strerror} ({path.parent})"
        ) from error
    return lock


def _with_driver(url: str, password: str | None) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(
            "store.url cannot be read; it must look like sqlite:///data/sentiment.db or postgresql://user@host/name"
        ) from error
    if parsed.get_backend_name() == "sqlite":
        return parsed.set(drivername="sqlite+pysqlite")
    if password and not parsed.password:
        parsed = parsed.set(password=password)
    return parsed.set(drivername="postgresql+psycopg")
