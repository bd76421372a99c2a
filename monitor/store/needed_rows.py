"""The daily rows that an evaluation needs: two statements for all its brands, however differently they stand."""

from collections.abc import Mapping, Sequence
from datetime import date

import msgspec
from sqlalchemy import Connection, Date, Float, Text, TextualSelect, bindparam, column, text

from monitor.alerts import DayRow, Rule
from monitor.episodes import EpisodeState, Outline, first_day_deciding, first_day_needed, is_good
from monitor.store.database import on_postgresql
from monitor.store.many_brands import days_since
from monitor.store.schema import daily_sentiment

_FIELDS = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in ("brand", "since", "min_posts"))
#: the brands with their first days and least posts, unfolded once
_WANTED = f"WITH w AS MATERIALIZED (SELECT {_FIELDS} FROM json_each(:wanted))"  # noqa: S608  constants
_WANTED_ON_POSTGRESQL = (
    "WITH w AS MATERIALIZED"
    " (SELECT * FROM json_to_recordset(CAST(:wanted AS json)) AS j(brand text, since date, min_posts bigint))"
)


def _select_outlines(*, postgresql: bool) -> TextualSelect:
    days = days_since("w", "daily_sentiment", postgresql=postgresql)
    statement = text(
        f"{_WANTED_ON_POSTGRESQL if postgresql else _WANTED} SELECT w.brand,"
        " min(CASE WHEN d.total >= w.min_posts THEN d.mean_pos END) AS lowest_mean,"
        " max(CASE WHEN d.total >= w.min_posts AND d.day < :today THEN d.day END) AS last_closed,"
        f" max(CASE WHEN d.total > 0 AND d.day <= :today THEN d.day END) AS last_posts {days} GROUP BY w.brand"
    ).bindparams(bindparam("today", type_=Date))
    return statement.columns(
        column("brand", Text), column("lowest_mean", Float), column("last_closed", Date), column("last_posts", Date)
    )


def _select_rows(*, postgresql: bool) -> TextualSelect:
    wanted = _WANTED_ON_POSTGRESQL if postgresql else _WANTED
    names = ", ".join(f"d.{name}" for name in DayRow.__struct_fields__)
    days = days_since("w", "daily_sentiment", postgresql=postgresql)
    statement = text(f"{wanted} SELECT {names} {days} ORDER BY d.brand, d.day")
    return statement.columns(*(daily_sentiment.c[name] for name in DayRow.__struct_fields__))


_OUTLINES, _OUTLINES_ON_POSTGRESQL = (_select_outlines(postgresql=either) for either in (False, True))
_ROWS, _ROWS_ON_POSTGRESQL = (_select_rows(postgresql=either) for either in (False, True))


def needed_rows_in(
    connection: Connection, remembered: Mapping[str, EpisodeState], rules: Mapping[str, Rule], today: date
) -> dict[str, list[DayRow]]:
    """The daily rows by day of each brand of `remembered` that can matter to its decision: the months that late posts
    may change where an episode is open or a day is under the threshold, else the last days."""
    needed = {brand: first_day_needed(state, rules[brand]) for brand, state in remembered.items()}
    outlines = _outlines_in(connection, needed, rules, today)
    since = {
        brand: first
        for brand, outline in outlines.items()
        if (first := first_day_deciding(remembered[brand], rules[brand], outline)) is not None
    }
    rows: dict[str, list[DayRow]] = {brand: [] for brand in remembered} | _rows_in(connection, since, rules)
    # A refresh elsewhere may have been committed since the outlines were read: a bad day is judged with all before it.
    cut = {b: day for b, day in needed.items() if since.get(b, day) > day and not _are_good(rows[b], rules[b])}
    return rows | (_rows_in(connection, cut, rules) if cut else {})


def _are_good(rows: Sequence[DayRow], rule: Rule) -> bool:
    return all(row.total < rule.min_posts or is_good(row.mean_pos, rule) for row in rows)


def _rows_in(connection: Connection, since: Mapping[str, date], rules: Mapping[str, Rule]) -> dict[str, list[DayRow]]:
    """The rows by day of each brand of `since` from its day on, by one statement."""
    rows: dict[str, list[DayRow]] = {brand: [] for brand in since}
    statement = _ROWS_ON_POSTGRESQL if on_postgresql(connection) else _ROWS
    for row in connection.execute(statement, {"wanted": _wanted(since, rules)}).all():
        rows[row[0]].append(DayRow(*row))
    return rows


def _outlines_in(
    connection: Connection, since: Mapping[str, date], rules: Mapping[str, Rule], today: date
) -> dict[str, Outline]:
    """Of the brands that have rows from their day of `since` on."""
    statement = _OUTLINES_ON_POSTGRESQL if on_postgresql(connection) else _OUTLINES
    found = connection.execute(statement, {"wanted": _wanted(since, rules), "today": today})
    return {brand: Outline(*figures) for brand, *figures in found}


def _wanted(since: Mapping[str, date], rules: Mapping[str, Rule]) -> str:
    wanted = [{"brand": brand, "since": day, "min_posts": rules[brand].min_posts} for brand, day in since.items()]
    return msgspec.json.encode(wanted).decode()
