"""Taking people's words out of rows that stay: posts, dead letters, and the quotes in alerts.

The callers say of which rows.
"""

import json
from collections.abc import Collection
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from monitor.store.schema import alerts, dead_letters, posts

_QUOTE = "rich_text_quote"  #: the Block Kit element that quotes stand in (messages.py)
_KEPT = [posts.c.text, posts.c.user_id, posts.c.lang]


def blank_posts_in(connection: Connection, day: date, limit: int) -> int:
    """Blank text, user_id and lang of up to `limit` posts of one day; returns how many there were to blank."""
    unblanked = and_(posts.c.day == day, or_(*(column.is_not(None) for column in _KEPT)))
    some = select(posts.c.post_key).where(unblanked).limit(limit)
    statement = update(posts).where(posts.c.post_key.in_(some)).values({column.name: None for column in _KEPT})
    return connection.execute(statement).rowcount


def blank_dead_letters_in(connection: Connection, which: ColumnElement[bool]) -> int:
    """Blank the bytes of those dead letters; returns how many."""
    return connection.execute(
        update(dead_letters).where(which, dead_letters.c.raw.is_not(None)).values(raw=None)
    ).rowcount


def blank_messages_in(connection: Connection, which: ColumnElement[bool]) -> int:
    """Blank whole messages of those alerts; returns how many."""
    return connection.execute(update(alerts).where(which, alerts.c.message.is_not(None)).values(message=None)).rowcount


def take_quotes_out_in(connection: Connection, which: ColumnElement[bool]) -> int:
    """Take the quotes out of the messages of those alerts, which can still be shown and sent.

    Returns how many had some.
    """
    query = select(alerts.c.alert_key, alerts.c.message).where(which, alerts.c.message.contains(_QUOTE))
    rows = connection.execute(query.order_by(alerts.c.alert_key)).all()
    for row in rows:
        message = json.dumps(without_quotes(json.loads(row.message)), ensure_ascii=False)
        connection.execute(update(alerts).where(alerts.c.alert_key == row.alert_key).values(message=message))
    return len(rows)


def without_quotes(message: Any) -> Any:
    """The message without the rich-text blocks that quote posts, whose headings would announce nothing."""
    return {**message, "blocks": [block for block in message.get("blocks", []) if not _has_quotes(block)]}


def of_brand_days(pairs: Collection[tuple[str, date]]) -> ColumnElement[bool]:
    """Alerts about those brands and days."""
    return or_(*(and_(alerts.c.brand == brand, alerts.c.day == day) for brand, day in sorted(pairs)))


def _has_quotes(block: dict[str, Any]) -> bool:
    return any(element.get("type") == _QUOTE for element in block.get("elements", []))
