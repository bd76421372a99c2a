"""Posts into their table: one INSERT from arrays on PostgreSQL, one batched INSERT after a look-up on SQLite."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, text

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


_TYPES = {"created_at": "timestamptz", "day": "date", "pred": "integer"} | dict.fromkeys(
    ("pos_prob", "p_negative", "p_neutral", "p_positive"), "double precision"
)
_COLUMNS = ", ".join((*PostRow._fields, *BatchColumns._fields))
_CASTS = ", ".join(f"CAST(u.{name} AS {_TYPES.get(name, 'text')})" for name in PostRow._fields)
_UNFOLDED = ", ".join(f"json_array_elements_text(CAST(:{name} AS json))" for name in PostRow._fields)
#: one JSON array per column, unfolded side by side: twice as fast as the driver's arrays, which are made in Python
_FROM_ARRAYS = text(
    f"INSERT INTO posts ({_COLUMNS}) "  # noqa: S608  built from the names above, no values
    f"SELECT {_CASTS}, CAST(:source AS text), CAST(:model AS text), CAST(:scored_at AS timestamptz) "
    f"FROM ROWS FROM ({_UNFOLDED}) AS u({', '.join(PostRow._fields)}) "
    "ON CONFLICT (post_key) DO NOTHING RETURNING post_key"
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
        columns = zip(PostRow._fields, zip(*rows, strict=True), strict=True)
        arrays = {name: msgspec.json.encode(values).decode() for name, values in columns}
        return set(connection.execute(_FROM_ARRAYS, arrays | shared._asdict()).scalars())
    known = hashes_in(connection, [row.post_key for row in rows])
    new = [row for row in rows if row.post_key not in known]  # nobody else writes meanwhile: BEGIN IMMEDIATE
    if new:
        tail = (shared.source, shared.model, _sqlite_time(shared.scored_at))
        connection.exec_driver_sql(_ROW_BY_ROW, [_sqlite_row(row) + tail for row in new])
    return {row.post_key for row in new}


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
