"""Where each source goes on reading, and whether it is paused.

`save` moves positions forward; everything else here is asked for by people.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, false, select, update

from monitor.posts import StreamPartition
from monitor.store.database import Database, insert_into
from monitor.store.deadletters import set_aside_in
from monitor.store.schema import positions, recent_outcomes


@dataclass(frozen=True)
class Position:
    """`next_offset` is the next record to read; `paused_reason` is None while the source reads.

    `leader_epoch` is that of the record before, in Kafka; None where it is not known.
    """

    next_offset: int
    paused_reason: str | None
    leader_epoch: int | None = None


@dataclass(frozen=True)
class PositionRow:
    """One row of `listing`."""

    source: str
    stream: str
    partition: int
    next_offset: int
    paused_reason: str | None


def load(db: Database, source: str) -> dict[StreamPartition, Position]:
    """Every stored position of a source."""
    rows = db.read(lambda connection: connection.execute(select(positions).where(positions.c.source == source)).all())
    return {StreamPartition(row.stream, row.partition): _position_of(row) for row in rows}


def _position_of(row: Row[Any]) -> Position:
    epoch = row.leader_epoch if row.epoch_offset == row.next_offset else None
    return Position(row.next_offset, row.paused_reason, epoch)


def begin(db: Database, source: str, starts: Mapping[StreamPartition, int]) -> None:
    """Give what has no position yet its first one (value: next offset); existing positions stay as they are."""
    db.run(lambda connection: _begin_in(connection, source, starts))


def reset(db: Database, source: str, stream_partition: StreamPartition, next_offset: int) -> None:
    """Set a position on purpose, backwards too (`sources seek`); a paused source stays paused."""
    db.run(lambda connection: reset_in(connection, source, stream_partition, next_offset))


def go_back(
    db: Database, source: str, stream_partition: StreamPartition, next_offset: int, lost_from: int | None
) -> None:
    """Reset a position in a log whose records from `lost_from` on (None: not known) were lost and are written anew.

    Their dead letters make room for those of the new records, see `deadletters.set_aside_in`.
    """

    def work(connection: Connection) -> None:
        reset_in(connection, source, stream_partition, next_offset)
        if lost_from is not None:
            set_aside_in(connection, source, stream_partition, lost_from)

    db.run(work)


def reset_in(connection: Connection, source: str, stream_partition: StreamPartition, next_offset: int) -> None:
    """`reset` inside a transaction of the caller."""
    moved = {"next_offset": next_offset, "leader_epoch": None, "epoch_offset": None}
    statement = insert_into(connection, positions).values(
        source=source, stream=stream_partition.stream, partition=stream_partition.partition, **moved
    )
    key = [positions.c.source, positions.c.stream, positions.c.partition]
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=moved))


def pause(db: Database, source: str, reason: str, known: Mapping[StreamPartition, int]) -> None:
    """Pause a source on all its rows.

    `known` adds rows for what has none yet (value: next offset); existing positions stay as they are. Its window of
    recent outcomes starts again, so that after `resume` it is judged on what comes then.
    """

    def work(connection: Connection) -> None:
        _begin_in(connection, source, known)
        connection.execute(update(positions).where(positions.c.source == source).values(paused_reason=reason))
        connection.execute(delete(recent_outcomes).where(recent_outcomes.c.source == source))

    db.run(work)


def _begin_in(connection: Connection, source: str, starts: Mapping[StreamPartition, int]) -> None:
    rows = [
        {"source": source, "stream": at.stream, "partition": at.partition, "next_offset": next_offset}
        for at, next_offset in sorted(starts.items(), key=lambda item: (item[0].stream, item[0].partition))
    ]
    if rows:
        connection.execute(insert_into(connection, positions).on_conflict_do_nothing(), rows)


def resume(db: Database, source: str) -> int:
    """Let a paused source read again; returns how many of its rows were paused."""
    statement = (
        update(positions)
        .where(positions.c.source == source, positions.c.paused_reason.is_not(None))
        .values(paused_reason=None)
    )
    return db.run(lambda connection: connection.execute(statement).rowcount)


def paused(db: Database) -> dict[str, str]:
    """Paused sources and why."""
    statement = (
        select(positions.c.source, positions.c.paused_reason).where(positions.c.paused_reason.is_not(None)).distinct()
    )
    return {row.source: row.paused_reason for row in db.read(lambda connection: connection.execute(statement).all())}


def listing(db: Database) -> list[PositionRow]:
    """Every position, by source, stream and partition."""
    statement = select(positions).order_by(positions.c.source, positions.c.stream, positions.c.partition)
    rows = db.read(lambda connection: connection.execute(statement).all())
    return [PositionRow(row.source, row.stream, row.partition, row.next_offset, row.paused_reason) for row in rows]


def check_writable(db: Database) -> None:
    """A write that changes nothing; raises StoreUnavailable or ConfigError where it is not allowed."""
    nothing = update(positions).where(false()).values(next_offset=positions.c.next_offset)
    db.run(lambda connection: connection.execute(nothing))


def reset_outcomes(db: Database, source: str) -> None:
    """Start a source's window of recent outcomes again (after a file was failed, or by `sources resume`)."""
    db.run(lambda connection: connection.execute(delete(recent_outcomes).where(recent_outcomes.c.source == source)))
