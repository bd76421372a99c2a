"""Driver words of an alert: the posts of the days that it is about, read by index, against those of the days before."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, select

from monitor.alerts import DayRow
from monitor.drivers import MAX_POSTS, MAX_TEXT_CHARS, Driver, driver_words
from monitor.quotes import Candidate
from monitor.store.schema import posts


def driver_words_in(connection: Connection, dip: Sequence[DayRow], before: Sequence[DayRow]) -> list[Driver]:
    """The words of the days `dip` that stand out against the days `before`, all of one brand; none without `before`.

    At most MAX_POSTS posts are read. Where the days have more, it is the same share of each day's most negative ones:
    these are next to each other in the index, and complaints are compared with complaints.
    """
    total = sum(row.total for row in (*dip, *before))
    if not before or not total:
        return []
    share = min(1.0, MAX_POSTS / total)
    return driver_words(_posts_in(connection, dip, share), _posts_in(connection, before, share))


def _posts_in(connection: Connection, days: Sequence[DayRow], share: float) -> Iterator[Candidate]:
    for row in days:
        found = connection.execute(_most_negative(row, int(row.total * share)))
        yield from (Candidate(post.text, post.user_id) for post in found if post.text)


def _most_negative(row: DayRow, limit: int) -> Select[Any]:
    """By ix_posts_day_brand_pos_prob; their hash, which favours none, settles what has one score."""
    of_day = (posts.c.day == row.day) & (posts.c.brand == row.brand) & posts.c.pos_prob.is_not(None)
    words = func.substr(posts.c.text, 1, MAX_TEXT_CHARS).label("text")
    return (
        select(words, posts.c.user_id)
        .where(of_day)
        .order_by(posts.c.pos_prob, posts.c.content_hash, posts.c.post_key)
        .limit(limit)
    )
