"""Daily totals: additive integers, so that any order gives the same figures and posts can be taken out again."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Select, bindparam, case, cast, delete, func, select, update

from monitor.store.database import insert_into
from monitor.store.schema import daily_totals, posts

MILLION = 1_000_000


class TotalsKey(NamedTuple):
    """What a row of daily_totals is about."""

    brand: str
    day: date
    source: str
    model: str


class Totals(NamedTuple):
    """The figures of a row of daily_totals; `sum_micro` and `sumsq_micro` in millionths."""

    n: int
    positives: int
    n_negative: int
    n_neutral: int
    n_positive: int
    sum_micro: int
    sumsq_micro: int


def totals_of(scores: Sequence[tuple[float, int, str]]) -> Totals:
    """What scored posts of one key add up to; each score is (pos_prob, pred, label).

    `pos_prob` has 6 decimals, so its millionths are exact; each square is rounded to millionths.
    """
    micros = [round(pos_prob * MILLION) for pos_prob, _, _ in scores]
    labels = [label for _, _, label in scores]
    return Totals(
        n=len(scores),
        positives=sum(pred for _, pred, _ in scores),
        n_negative=labels.count("negative"),
        n_neutral=labels.count("neutral"),
        n_positive=labels.count("positive"),
        sum_micro=sum(micros),
        sumsq_micro=sum((micro * micro + MILLION // 2) // MILLION for micro in micros),
    )


def add_in(connection: Connection, sums: Mapping[TotalsKey, Totals]) -> None:
    """Add sums to daily_totals, in the order of their keys so that two savers cannot block each other for good."""
    if not sums:
        return
    statement = insert_into(connection, daily_totals)
    added = {name: daily_totals.c[name] + statement.excluded[name] for name in Totals._fields}
    rows = [key._asdict() | sums[key]._asdict() for key in sorted(sums)]
    connection.execute(statement.on_conflict_do_update(index_elements=list(daily_totals.primary_key), set_=added), rows)


def subtract_in(connection: Connection, sums: Mapping[TotalsKey, Totals]) -> None:
    """Take sums out of daily_totals again; rows that count nothing any more go away."""
    if not sums:
        return
    at = [daily_totals.c[name] == bindparam(f"of_{name}") for name in TotalsKey._fields]
    less = {name: daily_totals.c[name] - bindparam(f"less_{name}", type_=BigInteger) for name in Totals._fields}
    rows = [
        {f"of_{name}": value for name, value in key._asdict().items()}
        | {f"less_{name}": value for name, value in sums[key]._asdict().items()}
        for key in sorted(sums)
    ]
    connection.execute(update(daily_totals).where(*at).values(less), rows)
    connection.execute(delete(daily_totals).where(daily_totals.c.n <= 0))


def counted_from_posts() -> Select[Any]:
    """SELECT the totals that the rows of `posts` amount to, grouped by key: what daily_totals must be equal to."""
    micro = cast(func.round(posts.c.pos_prob * MILLION), BigInteger)
    squared = (micro * micro + MILLION // 2) // MILLION

    def n_where(condition: Any) -> Any:
        return cast(func.sum(case((condition, 1), else_=0)), BigInteger)

    columns = [
        func.count().label("n"),
        cast(func.sum(posts.c.pred), BigInteger).label("positives"),
        n_where(posts.c.label == "negative").label("n_negative"),
        n_where(posts.c.label == "neutral").label("n_neutral"),
        n_where(posts.c.label == "positive").label("n_positive"),
        cast(func.sum(micro), BigInteger).label("sum_micro"),
        cast(func.sum(squared), BigInteger).label("sumsq_micro"),
    ]
    keys = [posts.c.brand, posts.c.day, posts.c.source, posts.c.model]
    return select(*keys, *columns).where(posts.c.pos_prob.is_not(None)).group_by(*keys)


def by_key(rows: Any) -> dict[TotalsKey, Totals]:
    """Rows of brand, day, source, model and the figures -> a mapping."""
    return {TotalsKey(*row[:4]): Totals(*row[4:]) for row in rows}
