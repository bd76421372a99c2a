"""Refused records: kept with their bytes and the reason, looked at, put through again, thrown away."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, select, true, tuple_, update

from monitor.posts import MAX_RAW_BYTES, DeadLetter, Reason, StreamPartition
from monitor.store.blanking import overwrite_in
from monitor.store.database import Database, insert_into
from monitor.store.schema import dead_letters
from monitor.store.texts import storable

LOST = " lost "  #: in the stream of dead letters whose records Kafka has lost, followed by a number


@dataclass(frozen=True)
class StoredDeadLetter:
    """One row of dead_letters; `raw` is None after retention or where texts are not kept."""

    dead_letter_id: int
    source: str
    stream: str
    partition: int
    position: int
    received_at: datetime
    reason: str
    detail: str
    raw: bytes | None
    raw_truncated: bool
    replayed_at: datetime | None


def save(db: Database, letters: Sequence[DeadLetter], *, keep_raw: bool = True) -> int:
    """Store refused records; one whose place is known stays as it was first refused. Returns how many are new."""
    return db.run(lambda connection: save_in(connection, letters, keep_raw=keep_raw))


def save_in(connection: Connection, letters: Sequence[DeadLetter], *, keep_raw: bool) -> int:
    """`save` inside a transaction of the caller.

    Rows go in sorted by their key, so that two savers cannot block each other for good.
    """
    if not letters:
        return 0
    rows = sorted((_row_of(letter, keep_raw=keep_raw) for letter in letters), key=_key_of_row)
    statement = insert_into(connection, dead_letters).on_conflict_do_nothing()
    options = {"preserve_rowcount": True}
    n = connection.execute(statement, rows, execution_options=options).rowcount
    if n < len(rows) and (lost := _lost_in(connection, rows)):
        for place in lost:
            set_aside_in(connection, *place, only=True)
        n += connection.execute(statement, rows, execution_options=options).rowcount
    return n


def _lost_in(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[tuple[str, StreamPartition, int]]:
    """Places in Kafka whose letter is of another record than that of a row: one that the brokers lost since."""
    columns, lost = dead_letters.c, []
    for row in rows:
        if "@" not in row["stream"] or row["raw"] is None:
            continue  # a file's content tells it apart; without bytes nothing does
        at = [columns[name] == row[name] for name in ("source", "stream", "partition", "position")]
        known = connection.execute(select(columns.raw, columns.raw_truncated).where(*at)).one()
        if known.raw is not None and (bytes(known.raw), known.raw_truncated) != (row["raw"], row["raw_truncated"]):
            lost.append((row["source"], StreamPartition(row["stream"], row["partition"]), row["position"]))
    return lost


def set_aside_in(connection: Connection, source: str, lost: StreamPartition, first: int, *, only: bool = False) -> None:
    """Dead letters of records that Kafka lost, `first` and later ones (or that one `only`), make room for new records.

    They stay, under the name of the stream with LOST and a number.
    """
    columns, stream = dead_letters.c, storable(lost.stream)
    name = f"{stream}{LOST}"
    known = select(columns.stream).where(columns.source == source, columns.stream.startswith(name, autoescape=True))
    numbers = [int(found.removeprefix(name)) for found in connection.execute(known.distinct()).scalars()]
    at = (columns.source == source, columns.stream == stream, columns.partition == lost.partition)
    places = columns.position == first if only else columns.position >= first
    connection.execute(update(dead_letters).where(*at, places).values(stream=f"{name}{max(numbers, default=0) + 1}"))


def listing(
    db: Database, source: str | None = None, reason: Reason | str | None = None, limit: int = 100
) -> list[StoredDeadLetter]:
    """The latest `limit` dead letters, newest first."""
    statement = select(dead_letters).order_by(dead_letters.c.dead_letter_id.desc()).limit(limit)
    if source is not None:
        statement = statement.where(dead_letters.c.source == source)
    if reason is not None:
        statement = statement.where(dead_letters.c.reason == str(reason))
    return [_stored(row) for row in db.read(lambda connection: connection.execute(statement).all())]


def streams_of(
    db: Database, source: str, *, reason: str | None = None, ids: Collection[int] | None = None
) -> list[str]:
    """Streams that hold letters of `ids`, else letters of that reason that were not replayed; no bytes are read."""
    statement = select(dead_letters.c.stream).distinct().where(dead_letters.c.source == source)
    if ids is not None:
        statement = statement.where(dead_letters.c.dead_letter_id.in_(ids))
    else:
        statement = statement.where(dead_letters.c.replayed_at.is_(None))
        statement = statement if reason is None else statement.where(dead_letters.c.reason == reason)
    return sorted(db.read(lambda connection: connection.execute(statement).scalars().all()))


def sources(db: Database) -> list[str]:
    """Sources that have letters, configured or not, sorted."""
    statement = select(dead_letters.c.source).distinct()
    return sorted(db.read(lambda connection: connection.execute(statement).scalars().all()))


def missing(db: Database, ids: Collection[int]) -> list[int]:
    """Those of `ids` that no letter has, sorted."""
    statement = select(dead_letters.c.dead_letter_id).where(dead_letters.c.dead_letter_id.in_(ids))
    return sorted(set(ids) - set(db.read(lambda connection: connection.execute(statement).scalars().all())))


def in_order(db: Database, source: str, stream: str, n_at_once: int) -> Iterator[StoredDeadLetter]:
    """Every letter of a stream by partition and position, read `n_at_once` at a time: each may hold 64 KiB."""
    place = tuple_(dead_letters.c.partition, dead_letters.c.position)
    of_stream = (dead_letters.c.source == source, dead_letters.c.stream == stream)
    statement = select(dead_letters).where(*of_stream).order_by(dead_letters.c.partition, dead_letters.c.position)
    after: tuple[int, int] | None = None
    while True:
        page = (statement if after is None else statement.where(place > after)).limit(n_at_once)
        rows = _rows(db, page)
        yield from map(_stored, rows)
        if len(rows) < n_at_once:
            return
        after = rows[-1].partition, rows[-1].position


def _rows(db: Database, statement: Select[Any]) -> Sequence[Row[Any]]:
    return db.read(lambda connection: connection.execute(statement).all())


def get(db: Database, dead_letter_id: int) -> StoredDeadLetter | None:
    """One dead letter, None where there is none of that number."""
    statement = select(dead_letters).where(dead_letters.c.dead_letter_id == dead_letter_id)
    row = db.read(lambda connection: connection.execute(statement).one_or_none())
    return None if row is None else _stored(row)


@dataclass(frozen=True)
class Which:
    """Dead letters that fit every condition given (`replayed`: replayed ones only)."""

    ids: Collection[int] | None = None
    before: datetime | None = None
    source: str | None = None
    replayed: bool = False
    through: int | None = None  # the highest number: those that came later are not meant

    @property
    def condition(self) -> ColumnElement[bool]:
        """The same in SQL."""
        columns = dead_letters.c
        given: list[ColumnElement[bool]] = [true()]
        if self.ids is not None:
            given.append(columns.dead_letter_id.in_(self.ids))
        if self.before is not None:
            given.append(columns.received_at < self.before)
        if self.source is not None:
            given.append(columns.source == self.source)
        if self.replayed:
            given.append(columns.replayed_at.is_not(None))
        if self.through is not None:
            given.append(columns.dead_letter_id <= self.through)
        return and_(*given)


def count(db: Database, which: Which) -> int:
    """How many there are."""
    statement = select(func.count()).select_from(dead_letters).where(which.condition)
    return db.read(lambda connection: connection.execute(statement).scalar_one())


def those_now(db: Database, which: Which) -> Which:
    """The same without what comes from now on."""
    last = db.read(lambda connection: connection.execute(select(func.max(dead_letters.c.dead_letter_id))).scalar())
    return replace(which, through=last or 0)


def purge(db: Database, which: Which) -> int:
    """Delete them, their bytes from SQLite's file and log too; returns how many."""

    def work(connection: Connection) -> int:
        overwrite_in(connection, [dead_letters.c.raw], which.condition)
        return connection.execute(delete(dead_letters).where(which.condition)).rowcount

    n = db.run(work)
    db.drop_old_pages()
    return n


def mark_replayed(db: Database, ids: Iterable[int], now: datetime) -> int:
    """Note that these were put through again at `now`; returns how many there were."""
    statement = update(dead_letters).where(dead_letters.c.dead_letter_id.in_(list(ids))).values(replayed_at=now)
    return db.run(lambda connection: connection.execute(statement).rowcount)


def counts(db: Database) -> dict[str, int]:
    """Dead letters by reason, replayed ones left out."""
    statement = (
        select(dead_letters.c.reason, func.count().label("n"))
        .where(dead_letters.c.replayed_at.is_(None))
        .group_by(dead_letters.c.reason)
    )
    return {row.reason: row.n for row in db.read(lambda connection: connection.execute(statement).all())}


def _row_of(letter: DeadLetter, *, keep_raw: bool) -> dict[str, Any]:
    return {
        "source": letter.source,
        "stream": storable(letter.place.stream),
        "partition": letter.place.partition,
        "position": letter.place.offset,
        "received_at": letter.received_at,
        "reason": str(letter.reason),
        "detail": storable(letter.detail),
        "raw": letter.raw[:MAX_RAW_BYTES] if keep_raw else None,
        "raw_truncated": int(letter.raw_truncated or len(letter.raw) > MAX_RAW_BYTES),
    }


def _key_of_row(row: dict[str, Any]) -> tuple[str, str, int, int]:
    return row["source"], row["stream"], row["partition"], row["position"]


def _stored(row: Row[Any]) -> StoredDeadLetter:
    columns = row._asdict()
    return StoredDeadLetter(**{**columns, "raw_truncated": bool(columns["raw_truncated"])})
