"""Retention: people's words go after a while.

Rows and keys stay, so that counts stay right and replays still count once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial

from sqlalchemy import ColumnElement, Connection, func, select, true

from monitor.store.blanking import blank_dead_letters_in, blank_messages_in, blank_posts_in, take_quotes_out_in
from monitor.store.database import Database
from monitor.store.schema import alerts, dead_letters, posts

POSTS_AT_ONCE = 5_000  #: posts blanked per transaction, so that savers never wait long
_OPEN = ("pending", "sending", "unknown")  #: alerts that may still be sent


@dataclass(frozen=True)
class Retained:
    """How many rows were blanked."""

    n_posts: int
    n_dead_letters: int
    n_messages: int


def retain(db: Database, now: datetime, retention_days: int, *, keep_text: bool) -> Retained:
    """Blank what is older than `retention_days`: words of posts, bytes of dead letters, messages of alerts.

    With `keep_text` False everything is as if it were too old, but for the messages of newer alerts, which only lose
    their quotes. Posts go by day, in short transactions; a run that is cut off goes on where it stopped at the next
    one.
    """
    cutoff = (now - timedelta(days=retention_days)).date()  # days before this one are too old
    n_posts = sum(_blank_day(db, day) for day in _days(db, cutoff if keep_text else date.max))
    n_dead_letters, n_messages = db.run(lambda connection: _blank_rest_in(connection, now, cutoff, keep_text=keep_text))
    if n_posts or n_dead_letters or n_messages:
        db.drop_old_pages()
    return Retained(n_posts, n_dead_letters, n_messages)


def _days(db: Database, before: date) -> Iterator[date]:
    """Days with posts before that date, found one by one through the index."""
    day = date.min
    while True:
        found = db.read(partial(_first_day_in, after=day, before=before))
        if found is None:
            return
        yield found
        day = found


def _first_day_in(connection: Connection, after: date, before: date) -> date | None:
    return connection.execute(select(func.min(posts.c.day)).where(posts.c.day > after, posts.c.day < before)).scalar()


def _blank_day(db: Database, day: date) -> int:
    n_posts = 0
    while n := db.run(lambda connection: blank_posts_in(connection, day, POSTS_AT_ONCE)):
        n_posts += n
    return n_posts


def _blank_rest_in(connection: Connection, now: datetime, cutoff: date, *, keep_text: bool) -> tuple[int, int]:
    midnight = datetime.combine(cutoff, time(), tzinfo=now.tzinfo)
    old_letters: ColumnElement[bool] = dead_letters.c.received_at < midnight if keep_text else true()
    n_dead_letters = blank_dead_letters_in(connection, old_letters)
    old = alerts.c.day < cutoff
    n_messages = blank_messages_in(connection, old & alerts.c.state.not_in(_OPEN))
    n_messages += take_quotes_out_in(connection, old if keep_text else true())
    return n_dead_letters, n_messages
