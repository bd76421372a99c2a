"""SQLAlchemy's engines for both databases: how connections are made and set up, and which ones are given up."""

import logging
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event

from monitor.errors import StoreUnavailable
from monitor.store.faults import LOST_STATEMENTS, spoils_session

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 10_000  #: how long SQLite waits for another writer
BUSY_RETRY_S = 0.01

#: session settings on PostgreSQL (milliseconds); a stopped replica must not hold rows that others need
SESSION_SETTINGS = {
    "lock_timeout": "10000",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "15000",
    "synchronous_commit": "on",
    "timezone": "UTC",
}
#: so that a dead network path is noticed in seconds, not after two hours
CONNECT_ARGS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "sentiment-monitor",
}


def sqlite_engine(url: URL) -> Engine:
    """Of a SQLite file, whose folder is made where it is missing."""
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000}, hide_parameters=True)
    folder = Path(url.database or ".").parent

    @event.listens_for(engine, "do_connect")
    def make_folder(*_: object) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"The folder of the database cannot be made: {error.strerror} ({folder})") from error

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        connection.isolation_level = (
            None  # the driver must not begin transactions by itself: a deferred one fails when it turns to writing
        )
        # synchronous: with less, a power cut takes back what was committed, after its file was moved or its alert sent
        # secure_delete: what is forgotten is overwritten, not only unlinked (sqlite.org/pragma.html)
        # cache_size in KiB: keys of random ids touch a page a post, and the default of 2 MiB thrashes from a million on
        # wal_autocheckpoint in pages: at the default of 4 MiB nearly every batch of such a store was copied into the
        # file at once, with two more syncs
        _write_ahead(connection)
        pragmas = ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "cache_size=-16384")
        for pragma in (*pragmas, "wal_autocheckpoint=16000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        statement = connection.get_execution_options().get("begin", "BEGIN")
        if statement:
            connection.exec_driver_sql(statement)

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on; of a new file, which others may do at once, and for them SQLite does not wait."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the low byte of an extended code
            if not is_busy or time.monotonic() >= deadline:
                raise
            time.sleep(BUSY_RETRY_S)
        else:
            return


def postgresql_engine(url: URL) -> Engine:
    """Of a PostgreSQL database.

    A session that spoils (faults.spoils_session) is closed with every other one of the pool. Where prepared statements
    were lost, something between us and the database exchanges sessions: from then on there are none.
    """
    arguments = {name: value for name, value in CONNECT_ARGS.items() if name not in url.query}  # what the URL says wins
    options: dict[str, Any] = {"pool_pre_ping": True, "pool_timeout": 15, "isolation_level": "READ COMMITTED"}
    engine = create_engine(url, connect_args=arguments, hide_parameters=True, **options)  # parameters are user text
    lost_statements: list[bool] = []  # one where it happened
    settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in SESSION_SETTINGS.items())

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        connection.execute(f"SELECT {settings}")  # not startup options: connection poolers refuse those
        connection.commit()

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]) -> None:
        if lost_statements:
            parameters["prepare_threshold"] = None

    @event.listens_for(engine, "handle_error")
    def give_up(context: ExceptionContext) -> None:
        error = context.original_exception
        context.is_disconnect = context.is_disconnect or spoils_session(error)
        if getattr(error, "sqlstate", None) in LOST_STATEMENTS and not lost_statements:
            lost_statements.append(True)
            log.info("sessions are exchanged on the way to the database; going on without prepared statements")

    return engine
