"""Statements about many brands at once: those of a list, and each from a day of its own on."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import ColumnElement, Connection, Text, any_, bindparam, func, select
from sqlalchemy.dialects import postgresql

from monitor.store.database import on_postgresql


def is_one_of(connection: Connection, brand: ColumnElement[str], names: Iterable[str]) -> ColumnElement[bool]:
    """`brand IN (...)` with one parameter: a hundred would be written into the statement and read again each time."""
    listed = list(names)
    if on_postgresql(connection):
        return brand == any_(bindparam(None, listed, postgresql.ARRAY(Text), unique=True))
    each = func.json_each(msgspec.json.encode(listed).decode()).table_valued("value")
    return brand.in_(select(each.c.value))


def days_since(starts: str, table: str, *, postgresql: bool) -> str:
    """FROM clause: the rows `d` of `table` of each brand of `starts` (a relation brand, since) from its day on, by
    ranges of its primary key.

    SQLite does not turn a cross join around. PostgreSQL does, and as it guesses a third of all days to be wanted it
    would read the whole table for the last three: OFFSET 0 keeps the inner query apart.
    """
    of_brand = f"d.brand = {starts}.brand AND d.day >= {starts}.since"
    if postgresql:
        return f"FROM {starts} CROSS JOIN LATERAL (SELECT * FROM {table} AS d WHERE {of_brand} OFFSET 0) AS d"  # noqa: S608  constants
    return f"FROM {starts} CROSS JOIN {table} AS d ON {of_brand}"
