"""The outbox: which messages wait, who is sending one, what became of them. Evaluation puts them in (evaluation.py)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from monitor.store.database import Database
from monitor.store.schema import alerts

#: every state a row can be in
STATES = ("pending", "sending", "sent", "unknown", "past", "superseded", "dry_run", "dropped")
_OPEN = ("pending", "sending", "unknown")  #: states that can still become `sent`

#: an `unknown` message that at_most_once gave up has no next attempt and waits for nothing
_WAITS = alerts.c.state.in_(_OPEN) & alerts.c.next_attempt_at.is_not(None)


@dataclass(frozen=True)
class AlertRow:
    """One row of `alerts`; null columns are None."""

    alert_key: str
    episode: str | None
    brand: str
    day: date
    kind: str
    rule_ma3: float | None
    ma3: float | None
    mean_pos: float | None
    total: int | None
    threshold: float | None
    message: str | None
    state: str
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    sent_at: datetime | None
    slack_channel: str | None
    slack_ts: str | None
    last_error: str | None


@dataclass(frozen=True)
class Change:
    """What becomes of a claimed row. None is written as null, but for the channel, which then stays as it was."""

    state: str
    next_attempt_at: datetime | None = None
    error: str | None = None
    channel: str | None = None
    ts: str | None = None


def listing(
    db: Database, brand: str | None = None, state: str | None = None, limit: int | None = None
) -> list[AlertRow]:
    """Rows, the latest decided first."""
    query = select(alerts).order_by(alerts.c.created_at.desc(), alerts.c.day.desc(), alerts.c.alert_key).limit(limit)
    if brand is not None:
        query = query.where(alerts.c.brand == brand)
    if state is not None:
        query = query.where(alerts.c.state == state)
    return db.read(lambda connection: [AlertRow(**row) for row in connection.execute(query).mappings()])


def get(db: Database, alert_key: str) -> AlertRow | None:
    """The row of that key."""
    query = select(alerts).where(alerts.c.alert_key == alert_key)
    row = db.read(lambda connection: connection.execute(query).mappings().one_or_none())
    return AlertRow(**row) if row else None


def drop(db: Database, alert_key: str) -> bool:
    """Give up a message that waits; one that is being sent just now may still arrive. False where none waits."""
    statement = (
        update(alerts)
        .where(alerts.c.alert_key == alert_key, alerts.c.state.in_(_OPEN))
        .values(state="dropped", next_attempt_at=None)
    )
    return db.run(lambda connection: connection.execute(statement).rowcount > 0)


def counts(db: Database) -> dict[str, int]:
    """Rows by state; states without rows are absent."""
    query = select(alerts.c.state, func.count()).group_by(alerts.c.state)
    rows = db.read(lambda connection: connection.execute(query).all())
    return {row[0]: row[1] for row in rows}


def failing(db: Database) -> tuple[int, str | None]:
    """How many messages wait after an attempt that Slack refused or that failed, and the latest such error."""
    query = (
        select(alerts.c.last_error)
        .where(_WAITS, alerts.c.last_error.is_not(None))
        .order_by(alerts.c.created_at.desc(), alerts.c.alert_key)
    )
    errors = db.read(lambda connection: connection.execute(query).scalars().all())
    return len(errors), errors[0] if errors else None


def n_waiting(db: Database) -> int:
    """Messages that may still be sent."""
    return db.read(lambda connection: connection.execute(select(func.count()).where(_WAITS)).scalar_one())


def claim(
    db: Database,
    now: datetime,
    lease_s: float,
    after_lease_s: float = 0.0,
    channel_of: Callable[[str], str] | None = None,
) -> AlertRow | None:
    """Take the oldest due message (or None) for `lease_s` seconds: `sending` is to be sent, `unknown` looked for.

    `channel_of` names the channel of a brand's messages now: one that is to be sent gets it as its slack_channel, which
    is where it must be looked for if need be, whatever the configuration says by then.
    A lease that ran out makes its row `unknown`, to be looked for `after_lease_s` later: its holder may have posted.
    The number of `attempts` fences: only its holder can `mark` the row.
    """
    return db.run(lambda connection: _claim_in(connection, now, lease_s, after_lease_s, channel_of))


def claim_dry_run(db: Database, now: datetime) -> AlertRow | None:
    """Take the oldest message that is to be shown instead of sent; it is taken once only."""
    due = (alerts.c.state == "dry_run") & (alerts.c.next_attempt_at <= now)
    return db.run(
        lambda connection: _take(connection, due, {"attempts": alerts.c.attempts + 1, "next_attempt_at": None})
    )


def mark(db: Database, claimed: AlertRow, change: Change, now: datetime) -> bool:
    """Write what became of a claimed message. False where the claim was lost: taken again, sent or dropped meanwhile.

    A message that would wait again is superseded where its episode has a later one by now.
    """
    return db.run(lambda connection: _mark_in(connection, claimed, change, now))


def last_sent_at(db: Database) -> datetime | None:
    """When Slack last took a message."""
    query = select(alerts.c.sent_at).where(alerts.c.sent_at.is_not(None)).order_by(alerts.c.sent_at.desc()).limit(1)
    return db.read(lambda connection: connection.execute(query).scalar_one_or_none())


def _claim_in(
    connection: Connection,
    now: datetime,
    lease_s: float,
    after_lease_s: float,
    channel_of: Callable[[str], str] | None,
) -> AlertRow | None:
    lease_end = now + timedelta(seconds=lease_s)
    over = (alerts.c.state == "sending") & (alerts.c.next_attempt_at <= now)
    look_at = now + timedelta(seconds=after_lease_s)
    connection.execute(
        update(alerts)
        .where(over)
        .values(state="unknown", next_attempt_at=look_at, last_error="the sender stopped before it had an answer")
    )
    due = alerts.c.next_attempt_at <= now
    waiting = (alerts.c.state == "pending") & alerts.c.message.is_not(None) & due
    send = {"state": "sending", "attempts": alerts.c.attempts + 1, "next_attempt_at": lease_end}
    look = {"next_attempt_at": lease_end}
    return _take(connection, waiting, send, channel_of) or _take(connection, (alerts.c.state == "unknown") & due, look)


def _take(
    connection: Connection,
    due: ColumnElement[bool],
    values: dict[str, Any],
    channel_of: Callable[[str], str] | None = None,
) -> AlertRow | None:
    ordered = select(alerts.c.alert_key, alerts.c.brand).where(due).order_by(alerts.c.created_at, alerts.c.alert_key)
    oldest = connection.execute(ordered.limit(1).with_for_update(skip_locked=True)).one_or_none()
    if oldest is None:
        return None
    if channel_of is not None:
        values = {**values, "slack_channel": channel_of(oldest.brand)}
    taken = update(alerts).where(alerts.c.alert_key == oldest.alert_key).values(**values)
    return AlertRow(**connection.execute(taken.returning(alerts)).mappings().one())


def _mark_in(connection: Connection, claimed: AlertRow, change: Change, now: datetime) -> bool:
    superseded = change.state == "pending" and _has_later_in(connection, claimed)
    values = {
        "state": "superseded" if superseded else change.state,
        "next_attempt_at": None if superseded else change.next_attempt_at,
        "last_error": change.error,
        "slack_channel": change.channel or alerts.c.slack_channel,
        "slack_ts": change.ts,
        "sent_at": now if change.state == "sent" else None,
    }
    is_ours = (alerts.c.alert_key == claimed.alert_key) & (alerts.c.attempts == claimed.attempts)
    statement = update(alerts).where(is_ours, alerts.c.state.in_(("sending", "unknown"))).values(**values)
    return connection.execute(statement).rowcount > 0


def _has_later_in(connection: Connection, claimed: AlertRow) -> bool:
    if claimed.episode is None:
        return False
    later = (
        (alerts.c.episode == claimed.episode) & (alerts.c.created_at > claimed.created_at) & (alerts.c.state != "past")
    )
    return connection.execute(select(func.count()).where(later)).scalar_one() > 0
