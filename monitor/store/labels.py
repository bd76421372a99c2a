"""Sums of hand-labelled posts, by brand and model: what corrects the daily means of that brand and model."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, func, select

from monitor.corrections import Correction, LabelSums
from monitor.store.brands import mark_dirty_in
from monitor.store.database import Database, insert_into
from monitor.store.many_brands import is_one_of
from monitor.store.schema import brands, daily_totals, label_sums

_KEY = ("brand", "model")


def save(db: Database, model: str, sums: Mapping[str, LabelSums], now: datetime) -> list[str]:
    """Store the sums of each brand under `model`, in place of earlier ones of it.

    Every day of those brands is computed again at the next refresh. Returns the brands that nothing was ever counted
    under: their sums wait for posts.
    """
    return db.run(lambda connection: _save_in(connection, model, sums, now))


def _save_in(connection: Connection, model: str, sums: Mapping[str, LabelSums], now: datetime) -> list[str]:
    statement = insert_into(connection, label_sums)
    new = {name: statement.excluded[name] for name in (*LabelSums._fields, "calibrated_at")}
    rows = [
        {"brand": brand, "model": model, "calibrated_at": now} | one._asdict() for brand, one in sorted(sums.items())
    ]
    connection.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=new), rows)
    known = set(connection.execute(select(brands.c.brand).where(brands.c.brand.in_(list(sums)))).scalars())
    first_days = (
        select(daily_totals.c.brand, func.min(daily_totals.c.day))
        .where(daily_totals.c.brand.in_(list(sums)))
        .group_by(daily_totals.c.brand)
    )
    mark_dirty_in(connection, {brand: day for brand, day in connection.execute(first_days)}, now)  # noqa: C416  rows
    return sorted(set(sums) - known)


def corrections_in(connection: Connection, group: Sequence[str]) -> dict[tuple[str, str], Correction]:
    """The correction of each (brand, model) that has labels."""
    columns = [label_sums.c[name] for name in (*_KEY, *LabelSums._fields)]
    rows = connection.execute(select(*columns).where(is_one_of(connection, label_sums.c.brand, group)))
    return {(row.brand, row.model): Correction.of(LabelSums(*row[2:])) for row in rows}
