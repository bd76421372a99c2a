"""Files taken from drop folders, and what became of their rows.

The counters are written by `save`, with the rows themselves.
"""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, or_, select, update

from monitor.posts import DeadLetter, Saved, StreamPartition
from monitor.store.database import Database, insert_into
from monitor.store.deadletters import save_in
from monitor.store.positions import reset_in
from monitor.store.schema import files


@dataclass(frozen=True)
class TakenFile:
    """A file that is in processing/."""

    taken_name: str  # its name there
    name: str  # the name it was dropped under
    sha256: str  # of the decompressed content: the stream of its position
    taken_at: datetime


@dataclass(frozen=True)
class FileCounts:
    """Rows of one file so far. `refused`: reason -> (rows, line of the first; None where the line is not known)."""

    counted: int
    seen_before: int
    refused: dict[str, tuple[int, int | None]]


def take(db: Database, source: str, taken_name: str, name: str, sha256: str, now: datetime) -> None:
    """Note that a file was taken, and start its content at row 0, in one transaction.

    Taking the same content again reads it again (names and earlier readings suppress nothing, only row keys do). A name
    noted before, for a file that never moved (a crash between this and the move), begins anew: as unfinished.
    """

    def work(connection: Connection) -> None:
        row = {"source": source, "taken_name": taken_name}
        anew = {
            "name": name,
            "sha256": sha256,
            "taken_at": now,
            "finished_at": None,
            "outcome": None,
            "counted": 0,
            "seen_before": 0,
            "refused": "{}",
        }
        statement = insert_into(connection, files).values(**row, **anew)
        connection.execute(statement.on_conflict_do_update(index_elements=list(files.primary_key), set_=anew))
        reset_in(connection, source, StreamPartition(sha256, 0), 0)

    db.run(work)


def finish(db: Database, source: str, taken_name: str, outcome: str, now: datetime) -> None:
    """Note that a file moved to `outcome`/ (done or failed); the first note stays."""
    statement = update(files).where(
        files.c.source == source, files.c.taken_name == taken_name, files.c.finished_at.is_(None)
    )
    db.run(lambda connection: connection.execute(statement.values(finished_at=now, outcome=outcome)))


def unfinished(db: Database, source: str) -> list[TakenFile]:
    """Files taken and not finished, in the order in which they were taken."""
    statement = (
        select(files)
        .where(files.c.source == source, files.c.finished_at.is_(None))
        .order_by(files.c.taken_at, files.c.taken_name)
    )
    rows = db.read(lambda connection: connection.execute(statement).all())
    return [TakenFile(row.taken_name, row.name, row.sha256, row.taken_at) for row in rows]


def counts(db: Database, source: str, taken_name: str) -> FileCounts:
    """What became of a file's rows so far; zeros for a file that is not known."""
    statement = select(files.c.counted, files.c.seen_before, files.c.refused).where(
        files.c.source == source, files.c.taken_name == taken_name
    )
    row = db.read(lambda connection: connection.execute(statement).one_or_none())
    return FileCounts(0, 0, {}) if row is None else FileCounts(row.counted, row.seen_before, _refused_of(row.refused))


def shas_of(db: Database, name: str) -> list[tuple[str, str]]:
    """(source, sha256) of every file that was dropped as `name` or taken as `name`."""
    statement = (
        select(files.c.source, files.c.sha256).where(or_(files.c.name == name, files.c.taken_name == name)).distinct()
    )
    return [(row.source, row.sha256) for row in db.read(lambda connection: connection.execute(statement).all())]


def save_dead_file(db: Database, dead_letter: DeadLetter, *, keep_raw: bool = True) -> None:
    """Store the one dead letter of a file that cannot be used at all (`bad_file`)."""
    db.run(lambda connection: save_in(connection, [dead_letter], keep_raw=keep_raw))


def add_counts_in(
    connection: Connection, source: str, taken_name: str, saved: Saved, refused: list[tuple[str, int | None]]
) -> None:
    """Add one batch to a file's counters.

    `refused` has (reason, line) of each refused record, in the order of the file.
    """
    statement = select(files.c.counted, files.c.seen_before, files.c.refused).where(
        files.c.source == source, files.c.taken_name == taken_name
    )
    row = connection.execute(statement.with_for_update()).one_or_none()
    if row is None:
        return
    by_reason = _refused_of(row.refused)
    for reason, line in refused:
        n, first_line = by_reason.get(reason, (0, line))
        by_reason[reason] = (n + 1, first_line)
    values = {
        "counted": row.counted + saved.n_inserted,
        "seen_before": row.seen_before + saved.n_seen_before,
        "refused": json.dumps(by_reason),
    }
    connection.execute(update(files).where(files.c.source == source, files.c.taken_name == taken_name).values(**values))


def _refused_of(stored: str) -> dict[str, tuple[int, int | None]]:
    return {reason: (n, line) for reason, (n, line) in json.loads(stored).items()}
