"""Taking people's words out of rows that stay: posts, dead letters, and the quotes in alerts.

The callers say of which rows.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    Text,
    and_,
    cast,
    delete,
    false,
    func,
    or_,
    select,
    update,
)

from monitor.messages import WORDS_BLOCK
from monitor.store.database import on_postgresql
from monitor.store.schema import alerts, dead_letters, posts

KEYS_AT_ONCE = 5_000  #: in one statement; SQLite takes 32,766 values
_QUOTE = "rich_text_quote"  #: the Block Kit element that quotes stand in (messages.py)
_KEPT = [posts.c.text, posts.c.user_id, posts.c.lang]


def blank_posts_in(connection: Connection, day: date, limit: int) -> int:
    """Blank text, user_id and lang of up to `limit` posts of one day; returns how many there were to blank."""
    unblanked = and_(posts.c.day == day, or_(*(column.is_not(None) for column in _KEPT)))
    some = connection.execute(select(posts.c.post_key).where(unblanked).limit(limit)).scalars().all()
    which = posts.c.post_key.in_(some)
    overwrite_in(connection, _KEPT, which)
    return connection.execute(update(posts).where(which).values({column.name: None for column in _KEPT})).rowcount


def delete_posts_in(connection: Connection, which: ColumnElement[bool]) -> int:
    """Delete those posts; returns how many there were."""
    if on_postgresql(connection):
        return connection.execute(delete(posts).where(which)).rowcount
    keys = connection.execute(select(posts.c.post_key).where(which)).scalars().all()
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = posts.c.post_key.in_(keys[start : start + KEYS_AT_ONCE])
        overwrite_in(connection, [*_KEPT, posts.c.id], some)
        connection.execute(delete(posts).where(some))
    return len(keys)


def overwrite_in(connection: Connection, columns: Sequence[Column[Any]], which: ColumnElement[bool]) -> None:
    """On SQLite, write zeros of the same length over those columns, before they are blanked or their rows deleted.

    SQLite overwrites a row of unchanged size in place. Whatever changes sizes may move neighbours to other pages, and
    leaves what they were behind, where secure_delete does not reach.
    """
    if on_postgresql(connection):
        return
    zeros = {}
    for column in columns:
        n_bytes = func.length(cast(column, LargeBinary))
        is_text = isinstance(column.type, Text)
        zeros[column.name] = (
            func.substr(func.hex(func.zeroblob(n_bytes)), 1, n_bytes) if is_text else func.zeroblob(n_bytes)
        )
    has_some = or_(*(column.is_not(None) for column in columns))
    connection.execute(update(columns[0].table).where(which, has_some).values(zeros))


def blank_dead_letters_in(connection: Connection, which: ColumnElement[bool]) -> int:
    """Blank the bytes of those dead letters; returns how many."""
    has_some = and_(which, dead_letters.c.raw.is_not(None))
    overwrite_in(connection, [dead_letters.c.raw], has_some)
    return connection.execute(update(dead_letters).where(has_some).values(raw=None)).rowcount


def count_dead_letters_in(connection: Connection, which: ColumnElement[bool]) -> int:
    """How many `blank_dead_letters_in` would blank."""
    statement = select(func.count()).select_from(dead_letters).where(which, dead_letters.c.raw.is_not(None))
    return connection.execute(statement).scalar_one()


def blank_messages_in(connection: Connection, which: ColumnElement[bool]) -> int:
    """Blank whole messages of those alerts; returns how many."""
    has_some = and_(which, alerts.c.message.is_not(None))
    overwrite_in(connection, [alerts.c.message], has_some)
    return connection.execute(update(alerts).where(has_some).values(message=None)).rowcount


def take_quotes_out_in(connection: Connection, which: ColumnElement[bool], *, words_only: bool = False) -> int:
    """Take quotes and driver words out of the messages of those alerts, which can still be shown and sent.

    Returns how many had some.
    """
    marks = [WORDS_BLOCK] if words_only else [_QUOTE, WORDS_BLOCK]
    has_some = or_(*(alerts.c.message.contains(mark) for mark in marks))
    query = select(alerts.c.alert_key, alerts.c.message).where(which, has_some)
    rows = connection.execute(query.order_by(alerts.c.alert_key)).all()
    for row in rows:
        message = json.dumps(without_quotes(json.loads(row.message), words_only=words_only), ensure_ascii=False)
        is_it = alerts.c.alert_key == row.alert_key
        overwrite_in(connection, [alerts.c.message], is_it)
        connection.execute(update(alerts).where(is_it).values(message=message))
    return len(rows)


def without_quotes(message: Any, *, words_only: bool = False) -> Any:
    """The message without the rich-text blocks that quote posts, whose headings would announce nothing."""
    blocks = message.get("blocks", [])
    return {
        **message,
        "blocks": [
            block for block in blocks if block.get("block_id") != WORDS_BLOCK and (words_only or not _has_quotes(block))
        ],
    }


def of_later_days(first_days: Mapping[str, date]) -> ColumnElement[bool]:
    """Alerts about each brand from its day on: their driver words may come from posts of that day."""
    return or_(false(), *(and_(alerts.c.brand == brand, alerts.c.day >= day) for brand, day in first_days.items()))


def of_brand_days(pairs: Collection[tuple[str, date]]) -> ColumnElement[bool]:
    """Alerts about those brands and days."""
    return or_(*(and_(alerts.c.brand == brand, alerts.c.day == day) for brand, day in sorted(pairs)))


def _has_quotes(block: dict[str, Any]) -> bool:
    return any(element.get("type") == _QUOTE for element in block.get("elements", []))
