"""Posts into their table.

PostgreSQL: COPY into a stage and one INSERT from there, or for few rows one INSERT from arrays. SQLite: a look-up and
one batched INSERT.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, text

from monitor.store.copying import copy_into
from monitor.store.database import on_postgresql


class PostRow(NamedTuple):
    """One row of `posts`, in the order of its columns; source, model and scored_at are those of the whole batch."""

    post_key: str
    position: str
    brand: str
    id: str | None
    created_at: datetime
    day: date
    user_id: str | None
    lang: str | None
    text: str | None
    content_hash: str
    pos_prob: float | None
    pred: int | None
    label: str | None
    p_negative: float | None
    p_neutral: float | None
    p_positive: float | None


class BatchColumns(NamedTuple):
    """What all posts of a batch share."""

    source: str
    model: str
    scored_at: datetime


#: rows from which COPY pays: below, its three statements instead of one take longer than they save
MIN_COPIED = 500

_TYPES = {"created_at": "timestamptz", "day": "date", "pred": "integer"} | dict.fromkeys(
    ("pos_prob", "p_negative", "p_neutral", "p_positive"), "double precision"
)
_COLUMNS = ", ".join((*PostRow._fields, *BatchColumns._fields))
_TYPE_OF = {name: _TYPES.get(name, "text") for name in PostRow._fields}
_SHARED = "CAST(:source AS text), CAST(:model AS text), CAST(:scored_at AS timestamptz)"
_NEW_ONES = "ON CONFLICT (post_key) DO NOTHING RETURNING post_key"
_CASTS = ", ".join(f"CAST(u.{name} AS {of})" for name, of in _TYPE_OF.items())
_UNFOLDED = ", ".join(f"json_array_elements_text(CAST(:{name} AS json))" for name in PostRow._fields)
#: one JSON array per column, unfolded side by side: twice as fast as the driver's arrays, which are made in Python
_FROM_ARRAYS = text(
    f"INSERT INTO posts ({_COLUMNS}) "  # noqa: S608  built from the names above, no values
    f"SELECT {_CASTS}, {_SHARED} FROM ROWS FROM ({_UNFOLDED}) AS u({', '.join(PostRow._fields)}) {_NEW_ONES}"
)
#: each connection's own, empty again after every transaction; IF NOT EXISTS, since poolers change the connection
_STAGE = text(
    "CREATE TEMP TABLE IF NOT EXISTS staged_posts "
    f"({', '.join(f'{name} {of}' for name, of in _TYPE_OF.items())}) ON COMMIT DELETE ROWS"
)
_COPY = "COPY staged_posts FROM STDIN (FORMAT binary)"
_FROM_STAGE = text(
    f"INSERT INTO posts ({_COLUMNS}) SELECT {', '.join(PostRow._fields)}, {_SHARED} FROM staged_posts {_NEW_ONES}"  # noqa: S608
)
_ROW_BY_ROW = (
    f"INSERT INTO posts ({_COLUMNS}) VALUES ({', '.join('?' * (len(PostRow._fields) + len(BatchColumns._fields)))})"  # noqa: S608
)
_KNOWN = text("SELECT post_key, content_hash FROM posts WHERE post_key IN (SELECT value FROM json_each(:keys))")
_KNOWN_ON_POSTGRESQL = text(
    "SELECT post_key, content_hash FROM posts WHERE post_key IN (SELECT json_array_elements_text(CAST(:keys AS json)))"
)


def insert_in(connection: Connection, rows: Sequence[PostRow], shared: BatchColumns) -> set[str]:
    """Insert the rows whose key is not there yet and return those keys; `rows` are sorted by key, each key once."""
    if not rows:
        return set()
    if on_postgresql(connection):
        insert = _insert_staged if len(rows) >= MIN_COPIED else _insert_arrays
        return insert(connection, rows, shared)
    known = hashes_in(connection, [row.post_key for row in rows])
    new = [row for row in rows if row.post_key not in known]  # nobody else writes meanwhile: BEGIN IMMEDIATE
    if new:
        tail = (shared.source, shared.model, _sqlite_time(shared.scored_at))
        connection.exec_driver_sql(_ROW_BY_ROW, [_sqlite_row(row) + tail for row in new])
    return {row.post_key for row in new}


def _insert_staged(connection: Connection, rows: Sequence[PostRow], shared: BatchColumns) -> set[str]:
    connection.execute(_STAGE)
    copy_into(connection, _COPY, list(_TYPE_OF.values()), rows)
    return set(connection.execute(_FROM_STAGE, shared._asdict()).scalars())


def _insert_arrays(connection: Connection, rows: Sequence[PostRow], shared: BatchColumns) -> set[str]:
    columns = zip(PostRow._fields, zip(*rows, strict=True), strict=True)
    arrays = {name: msgspec.json.encode(values).decode() for name, values in columns}
    return set(connection.execute(_FROM_ARRAYS, arrays | shared._asdict()).scalars())


def hashes_in(connection: Connection, keys: Iterable[str]) -> dict[str, str]:
    """Key -> content_hash of the posts that are there."""
    wanted = list(keys)
    if not wanted:
        return {}
    statement = _KNOWN_ON_POSTGRESQL if on_postgresql(connection) else _KNOWN
    found = connection.execute(statement, {"keys": msgspec.json.encode(wanted).decode()})
    return {key: content_hash for key, content_hash in found}  # noqa: C416  rows, not pairs, to the type checker


def _sqlite_row(row: PostRow) -> tuple[object, ...]:
    return (*row[:4], _sqlite_time(row.created_at), row.day.isoformat(), *row[6:])


def _sqlite_time(moment: datetime) -> str:
    """As schema.UtcDateTime stores it.

    Spelt here because binding 4,096 rows through types takes longer than inserting them.
    """
    return moment.astimezone(UTC).isoformat(" ", "microseconds")[:26]  # without +00:00
