"""The daily rows and the totals below them: refresh, read, compare with the posts, count again."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from monitor.store.database import Database, lift_time_limit, stop_writers
from monitor.store.refreshing import refresh_in
from monitor.store.schema import brands, daily_sentiment, daily_totals, posts
from monitor.store.settings import set_time_zone
from monitor.store.totals import Totals, TotalsKey, by_key, counted_from_posts

BRANDS_AT_ONCE = 100  #: brands per transaction of a refresh: their savers wait for it
DAYS_AT_ONCE = 31  #: days that a recount holds in memory
POSTS_AT_ONCE = 20_000  #: posts whose day is computed again at a time


@dataclass(frozen=True)
class DailyRow:
    """One row of daily_sentiment; null columns are None."""

    brand: str
    day: date
    total: int
    positives: int
    n_negative: int
    n_neutral: int
    n_positive: int
    mean_pos: float
    mean_pos_low: float | None
    mean_pos_high: float | None
    ma3: float
    ma3_span_days: int
    mean_pos_corrected: float | None
    corrected_low: float | None
    corrected_high: float | None
    model: str | None
    updated_at: datetime


@dataclass(frozen=True)
class Difference:
    """Totals that are not what their posts amount to; None where one side has no row."""

    brand: str
    day: date
    source: str
    model: str
    stored: Totals | None
    counted: Totals | None


def refresh(db: Database, now: datetime) -> list[str]:
    """Compute the daily rows of every brand whose totals changed, from its earliest changed day on.

    Returns those brands. A row is written, with `updated_at = now`, where a figure changed. Cost grows with the days
    touched, not with posts. Any number of replicas may refresh at once.
    """
    dirty = select(brands.c.brand).where(brands.c.dirty_from.is_not(None)).order_by(brands.c.brand)
    waiting = list(db.read(lambda connection: connection.execute(dirty).scalars().all()))
    refreshed: list[str] = []
    for start in range(0, len(waiting), BRANDS_AT_ONCE):
        group = waiting[start : start + BRANDS_AT_ONCE]
        refreshed += db.run(partial(refresh_in, group=group, now=now))
    return refreshed


def daily_rows(
    db: Database, brand: str | None = None, since: date | None = None, until: date | None = None
) -> list[DailyRow]:
    """Rows of daily_sentiment by brand and day; `since` and `until` are included."""
    statement = select(daily_sentiment).order_by(daily_sentiment.c.brand, daily_sentiment.c.day)
    if brand is not None:
        statement = statement.where(daily_sentiment.c.brand == brand)
    if since is not None:
        statement = statement.where(daily_sentiment.c.day >= since)
    if until is not None:
        statement = statement.where(daily_sentiment.c.day <= until)
    return [DailyRow(**row._asdict()) for row in db.read(lambda connection: connection.execute(statement).all())]


def recount(db: Database) -> list[Difference]:
    """Compare daily_totals with a recount of every post, a month at a time, each month seen at one moment.

    Changes nothing.
    """
    return [
        difference
        for since, until in _months(db)
        for difference in db.read(partial(_differences_in, since=since, until=until))
    ]


def rebuild(db: Database, zone: str, now: datetime | None = None) -> int:
    """Count every day again in `zone`: day of each post, totals, daily rows, and the stored zone.

    One transaction: it happens whole or not at all, and other writers wait (a daemon that counts in another zone must
    not run). Memory is bounded. Returns how many posts changed their day.
    """
    return db.run(lambda connection: _rebuild_in(connection, zone, now or datetime.now(UTC)))


def _months(db: Database) -> Iterator[tuple[date, date]]:
    found = db.read(_ends_in)
    if not found:
        return
    since, last = min(found), max(found)
    while since <= last:
        until = min(last, since + timedelta(days=DAYS_AT_ONCE - 1))
        yield since, until
        since = until + timedelta(days=1)


def _ends_in(connection: Connection) -> list[date]:
    """First and last day of posts and of totals, those that there are."""
    columns = [end(table.c.day) for table in (posts, daily_totals) for end in (func.min, func.max)]
    ends = [connection.execute(select(column)).scalar() for column in columns]
    return [day for day in ends if day is not None]


def _differences_in(connection: Connection, since: date, until: date) -> list[Difference]:
    lift_time_limit(connection)
    within = posts.c.day.between(since, until)
    counted = by_key(connection.execute(counted_from_posts().where(within)))
    columns = [daily_totals.c[name] for name in (*TotalsKey._fields, *Totals._fields)]
    stored = by_key(connection.execute(select(*columns).where(daily_totals.c.day.between(since, until))))
    keys = sorted(key for key in counted.keys() | stored.keys() if counted.get(key) != stored.get(key))
    return [Difference(*key, stored.get(key), counted.get(key)) for key in keys]


def _rebuild_in(connection: Connection, zone: str, now: datetime) -> int:
    lift_time_limit(connection)
    stop_writers(connection)
    n_moved = sum(_correct_days_in(connection, chunk, ZoneInfo(zone)) for chunk in _chunks_in(connection))
    connection.execute(delete(daily_totals))
    columns = [*TotalsKey._fields, *Totals._fields]
    connection.execute(insert(daily_totals).from_select(columns, counted_from_posts()))
    earliest = [func.min(daily_totals.c.day), func.min(daily_sentiment.c.day)]
    days = [day for column in earliest if (day := connection.execute(select(column)).scalar()) is not None]
    if days:
        connection.execute(update(brands).values(dirty_from=min(days)))
        names = list(connection.execute(select(brands.c.brand).order_by(brands.c.brand)).scalars())
        for start in range(0, len(names), BRANDS_AT_ONCE):
            refresh_in(connection, names[start : start + BRANDS_AT_ONCE], now)
    set_time_zone(connection, zone)
    return n_moved


def _chunks_in(connection: Connection) -> Iterator[list[Any]]:
    """(post_key, created_at, day) of every post, in the order of keys."""
    last = ""
    while True:
        query = select(posts.c.post_key, posts.c.created_at, posts.c.day).where(posts.c.post_key > last)
        chunk = list(connection.execute(query.order_by(posts.c.post_key).limit(POSTS_AT_ONCE)).all())
        if not chunk:
            return
        last = chunk[-1].post_key
        yield chunk


def _correct_days_in(connection: Connection, chunk: list[Any], zone: ZoneInfo) -> int:
    days = [(row.post_key, row.created_at.astimezone(zone).date()) for row in chunk]
    moved = [{"of_key": key, "new_day": day} for (key, day), row in zip(days, chunk, strict=True) if day != row.day]
    if moved:
        connection.execute(
            update(posts).where(posts.c.post_key == bindparam("of_key")).values(day=bindparam("new_day")), moved
        )
    return len(moved)
