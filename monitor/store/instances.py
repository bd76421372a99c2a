"""Running daemons: each beats every few seconds; one that is silent for longer than `MAX_SILENCE` is taken for dead."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select

from monitor.store.database import Database, insert_into
from monitor.store.schema import instances

MAX_SILENCE = timedelta(seconds=15)
KEPT = timedelta(days=1)  #: rows of dead daemons, for whoever asks what ran last


@dataclass(frozen=True)
class Instance:
    """One daemon; `state` is what it said of itself (lag, rates, parts, jobs)."""

    instance: str
    role: str
    started_at: datetime
    beat_at: datetime
    state: dict[str, Any]


def beat(db: Database, instance: str, role: str, started_at: datetime, now: datetime, state: Mapping[str, Any]) -> None:
    """Say that `instance` lives, and what it is doing (JSON-serialisable)."""
    values = {"role": role, "started_at": started_at, "beat_at": now, "state": json.dumps(state, default=str)}

    def work(connection: Connection) -> None:
        statement = insert_into(connection, instances).values(instance=instance, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["instance"], set_=values))
        connection.execute(delete(instances).where(instances.c.beat_at < now - KEPT))

    db.run(work)


def remove(db: Database, instance: str) -> None:
    """Take a daemon off the list when it ends."""
    db.run(lambda connection: connection.execute(delete(instances).where(instances.c.instance == instance)))


def live(db: Database, now: datetime) -> list[Instance]:
    """Daemons that gave a sign of life within the last 15 s, the oldest first."""
    statement = select(instances).where(instances.c.beat_at >= now - MAX_SILENCE).order_by(instances.c.started_at)
    rows = db.read(lambda connection: connection.execute(statement).all())
    return [Instance(row.instance, row.role, row.started_at, row.beat_at, json.loads(row.state)) for row in rows]
