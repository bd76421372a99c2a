"""Known brands: how many there may be, and from which day on a refresh has to compute each again."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime

from sqlalchemy import Connection, func, or_, select, text

from monitor.store.database import Database, insert_into, on_postgresql
from monitor.store.schema import brands

_LOCK_OF_NEW_BRANDS = 7_201_001  #: advisory lock: only one transaction at a time counts and adds brands


def listing(db: Database) -> list[str]:
    """Every known brand, sorted."""
    return sorted(db.read(lambda connection: connection.execute(select(brands.c.brand)).scalars().all()))


def n_waiting(db: Database) -> int:
    """Brands with posts that no refresh has seen yet."""
    count = select(func.count()).select_from(brands).where(brands.c.dirty_from.is_not(None))
    return int(db.read(lambda connection: connection.execute(count).scalar_one()))


def admit_in(
    connection: Connection, wanted: Sequence[str], known: frozenset[str], max_brands: int, now: datetime
) -> frozenset[str]:
    """The brands whose posts may be stored: the known ones, and of `wanted` as many new ones as still fit, in order."""
    if known.issuperset(wanted):
        return known
    stored = _stored(connection)
    if stored.issuperset(wanted) or len(stored) >= max_brands:
        return stored
    if on_postgresql(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_OF_NEW_BRANDS})
        stored = _stored(connection)
    new = [brand for brand in dict.fromkeys(wanted) if brand not in stored][: max(0, max_brands - len(stored))]
    if new:
        connection.execute(
            insert_into(connection, brands).on_conflict_do_nothing(),
            [{"brand": brand, "added_at": now} for brand in new],
        )
    return stored | frozenset(new)


def mark_dirty_in(connection: Connection, days: Mapping[str, date], now: datetime) -> None:
    """Note for each brand the earliest day whose totals changed.

    ON CONFLICT locks the row even where an earlier day is noted already and nothing is to be written: so it waits for
    a refresh that is about to clear the note. A brand without a row (the database was restored under a running daemon)
    gets one.
    """
    if not days:
        return
    statement = insert_into(connection, brands)
    new, old = statement.excluded.dirty_from, brands.c.dirty_from
    statement = statement.on_conflict_do_update(
        index_elements=["brand"], set_={"dirty_from": new}, where=or_(old.is_(None), old > new)
    )
    connection.execute(statement, [{"brand": name, "added_at": now, "dirty_from": days[name]} for name in sorted(days)])


def earliest_days(keys: Iterable[tuple[str, date]]) -> dict[str, date]:
    """(brand, day) pairs -> the earliest day of each brand."""
    earliest: dict[str, date] = {}
    for brand, day in keys:
        earliest[brand] = min(day, earliest.get(brand, day))
    return earliest


def _stored(connection: Connection) -> frozenset[str]:
    return frozenset(connection.execute(select(brands.c.brand)).scalars())
