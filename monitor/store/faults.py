"""What a database error means: try the transaction again, wait for the database, or a mistake of ours."""

import sqlite3
from enum import Enum

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

#: serialization failure, deadlock, lock not available: the same transaction may well succeed at once
_CONFLICTS = {"40001", "40P01", "55P03"}
#: SQLSTATE classes and codes that pass: connection, resources, operator intervention, read-only, timeouts, logins
_PASSING_CLASSES = {"08", "53", "57", "58", "28"}
_PASSING_CODES = {"25006", "25P03", "25P04", "3D000", "40001", "40P01", "55P03"}
#: of psycopg's prepared statements, which another session has by now, or not: behind a pooler, or after a failover
LOST_STATEMENTS = {"26000", "42P05"}
_SPOILING_CODES = LOST_STATEMENTS | {"0A000"}  # a plan that no longer fits its table, which somebody changed
_SPOILING_CLASS = "XX"  # faults inside the server
_PASSING_SQLITE = (
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_FULL",
    "SQLITE_READONLY",
    "SQLITE_CANTOPEN",
    "SQLITE_IOERR",
    "SQLITE_PROTOCOL",
)


class Fault(Enum):
    """What to do about an error."""

    CONFLICT = "conflict"  # repeat the transaction at once, a few times
    LOST = "lost"  # the connection broke or its session spoilt: repeat once, on a new one
    AWAY = "away"  # wait and come back later
    UNMIGRATED = "unmigrated"  # tables or columns are not there
    NOT_A_DATABASE = "not a database"
    FORBIDDEN = "forbidden"  # the database's user lacks a right
    OURS = "ours"  # a bug or a broken rule: let it out


def fault_of(error: DBAPIError | PoolTimeoutError) -> Fault:
    """Sort an error that SQLAlchemy raised."""
    if isinstance(error, PoolTimeoutError):
        return Fault.AWAY
    if isinstance(error.orig, sqlite3.Error):
        return _fault_of_sqlite(error.orig)
    return _fault_of_postgresql(error)


def spoils_session(error: BaseException | None) -> bool:
    """Whether the same transaction may well succeed in another session of PostgreSQL, and not in this one."""
    state = getattr(error, "sqlstate", None) or ""
    return state in _SPOILING_CODES or state.startswith(_SPOILING_CLASS)


def _fault_of_sqlite(error: sqlite3.Error) -> Fault:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith(_PASSING_SQLITE):
        return Fault.AWAY
    if name in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
        return Fault.NOT_A_DATABASE
    if "no such table" in str(error) or "no such column" in str(error) or "has no column" in str(error):
        return Fault.UNMIGRATED
    return Fault.OURS


def _fault_of_postgresql(error: DBAPIError) -> Fault:
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state in _CONFLICTS:
        return Fault.CONFLICT
    if error.connection_invalidated:
        return Fault.LOST
    if state in {"42P01", "42703"}:
        return Fault.UNMIGRATED
    if state == "42501":
        return Fault.FORBIDDEN
    if state is None:  # libpq speaks without a code while connecting and when the line goes dead
        return Fault.AWAY if type(error.orig).__name__ in {"OperationalError", "ConnectionTimeout"} else Fault.OURS
    return Fault.AWAY if state in _PASSING_CODES or state[:2] in _PASSING_CLASSES else Fault.OURS


def words_of(error: DBAPIError | PoolTimeoutError, secret: str | None) -> str:
    """The database's own words on one line, without SQL, parameters or `secret`."""
    if isinstance(error, PoolTimeoutError):
        return "all its connections are busy"
    told = getattr(getattr(error.orig, "diag", None), "message_primary", None)  # PostgreSQL's, without the statement
    words = " ".join((told or str(error.orig)).split()) or type(error.orig).__name__
    if secret:
        words = words.replace(secret, "***")
    return words[:300].rstrip(".")
