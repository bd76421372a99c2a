"""One refresh of a few brands inside a transaction: totals in, daily rows out, computed by aggregates.py."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, TextualSelect, bindparam, delete, or_, select, text, update

from monitor.aggregates import Z95
from monitor.corrections import Correction
from monitor.store.database import insert_into, on_postgresql
from monitor.store.labels import corrections_in
from monitor.store.many_brands import days_since, is_one_of
from monitor.store.schema import brands, daily_sentiment, daily_totals

#: what a refresh computes
COMPUTED = (
    "total", "positives", "n_negative", "n_neutral", "n_positive",
    "mean_pos", "mean_pos_low", "mean_pos_high", "ma3", "ma3_span_days",
    "mean_pos_corrected", "corrected_low", "corrected_high", "model",
)  # fmt: skip


def _select_totals(*, postgresql: bool) -> TextualSelect:
    """The totals that the days since `dirty_from` follow from: of those days, and of the two with posts before them."""
    names = ", ".join(f"d.{column.name}" for column in daily_totals.c)
    is_listed = "= ANY(:brands)" if postgresql else "IN (SELECT value FROM json_each(:brands))"
    statement = text(
        "WITH s AS MATERIALIZED (SELECT b.brand, coalesce("  # noqa: S608  column names, no values
        "(SELECT min(two.day) FROM (SELECT DISTINCT d.day FROM daily_totals AS d"
        " WHERE d.brand = b.brand AND d.day < b.dirty_from ORDER BY d.day DESC LIMIT 2) AS two), b.dirty_from) AS since"
        f" FROM brands AS b WHERE b.brand {is_listed})"
        f" SELECT {names} {days_since('s', 'daily_totals', postgresql=postgresql)}"
    )
    return statement.columns(*daily_totals.c)


_TOTALS, _TOTALS_ON_POSTGRESQL = (_select_totals(postgresql=either) for either in (False, True))


def refresh_in(connection: Connection, group: Sequence[str], now: datetime) -> list[str]:
    """`refresh` of those brands of `group` that are still dirty, inside a transaction of the caller.

    Their rows in `brands` are locked first: a save that adds totals meanwhile waits with its note, and so marks the
    brand again.
    """
    dirty = select(brands.c.brand, brands.c.dirty_from).where(
        is_one_of(connection, brands.c.brand, group), brands.c.dirty_from.is_not(None)
    )
    locked = connection.execute(dirty.order_by(brands.c.brand).with_for_update()).all()
    since: dict[str, date] = {row.brand: row.dirty_from for row in locked}
    if not since:
        return []
    rows = _computed_in(connection, since)
    _write_in(connection, rows, now)
    _delete_days_without_posts_in(connection, since, rows)
    done = update(brands).where(is_one_of(connection, brands.c.brand, since))
    connection.execute(done.values(dirty_from=None, refreshed_at=now))
    return list(since)


def _computed_in(connection: Connection, since: Mapping[str, date]) -> list[dict[str, Any]]:
    """The days of each brand with posts from its day of `since` on."""
    import pandas as pd

    from monitor.aggregates import daily_frame

    group = list(since)
    if on_postgresql(connection):
        totals = connection.execute(_TOTALS_ON_POSTGRESQL, {"brands": group}).all()
    else:
        totals = connection.execute(_TOTALS, {"brands": msgspec.json.encode(group).decode()}).all()
    if not totals:
        return []
    frame = daily_frame(pd.DataFrame(totals, columns=list(daily_totals.columns.keys())))
    records = [row for row in frame.to_dict("records") if row["day"] >= since[row["brand"]]]
    rows = [{str(name): None if pd.isna(value) else value for name, value in record.items()} for record in records]
    corrections = corrections_in(connection, group)
    return [row | _corrected(row, corrections.get((str(row["brand"]), str(row["model"])))) for row in rows]


def _corrected(row: dict[str, Any], correction: Correction | None) -> dict[str, float | None]:
    """The corrected columns of a day; null without labels for the one bundle that scored it."""
    if correction is None:
        return {"mean_pos_corrected": None, "corrected_low": None, "corrected_high": None}
    low, high = row["mean_pos_low"], row["mean_pos_high"]
    error = None if low is None else (high - low) / (2 * Z95)
    corrected = correction.correct(row["mean_pos"], row["total"], error)
    return {
        "mean_pos_corrected": corrected.mean,
        "corrected_low": corrected.low,
        "corrected_high": corrected.high,
    }


def _write_in(connection: Connection, rows: list[dict[str, Any]], now: datetime) -> None:
    if not rows:
        return
    statement = insert_into(connection, daily_sentiment)
    new = {name: statement.excluded[name] for name in COMPUTED}
    changed = or_(*(daily_sentiment.c[name].is_distinct_from(value) for name, value in new.items()))
    statement = statement.on_conflict_do_update(
        index_elements=["brand", "day"], set_=new | {"updated_at": statement.excluded.updated_at}, where=changed
    )
    connection.execute(statement, [row | {"updated_at": now} for row in rows])


def _delete_days_without_posts_in(
    connection: Connection, since: Mapping[str, date], rows: Sequence[Mapping[str, Any]]
) -> None:
    """`rows` are all days with posts of each brand of `since` from that day on."""
    key = (daily_sentiment.c.brand, daily_sentiment.c.day)
    of_brands = is_one_of(connection, daily_sentiment.c.brand, since)
    there = select(*key).where(of_brands, daily_sentiment.c.day >= min(since.values()))
    with_posts = {(row["brand"], row["day"]) for row in rows}
    gone = [
        {"of_brand": brand, "of_day": day}
        for brand, day in connection.execute(there)
        if day >= since[brand] and (brand, day) not in with_posts
    ]
    if gone:
        connection.execute(
            delete(daily_sentiment).where(key[0] == bindparam("of_brand"), key[1] == bindparam("of_day")), gone
        )
