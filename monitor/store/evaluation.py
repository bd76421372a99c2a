"""Evaluation against the store: a brand's episode, its daily rows and the outbox in one transaction, on any replica."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from monitor.alerts import DayRow, Rule, rule_for
from monitor.config import Config
from monitor.episodes import Decision, EpisodeState, PlannedAlert, decide, first_day_needed
from monitor.errors import MonitorError
from monitor.messages import render
from monitor.quotes import Candidate, pick
from monitor.store.database import Database, insert_into
from monitor.store.schema import alerts, brands, daily_sentiment, episodes, posts

log = logging.getLogger(__name__)

_MAX_CANDIDATES = 300  #: most negative posts that quotes are picked from: authors who flood and copies fall out

_ROW_COLUMNS = [daily_sentiment.c[name] for name in DayRow.__struct_fields__]


@dataclass(frozen=True)
class SimulatedAlert:
    """A message that would have been sent."""

    alert_key: str
    brand: str
    day: date
    kind: str
    rule_ma3: float | None  # None for no_data, as is total
    threshold: float
    total: int | None


def evaluate_all(db: Database, config: Config, now: datetime, *, dry_run: bool = False) -> int:
    """Evaluate every brand whose rows, day or rule changed since the last time; returns the number of new messages.

    Any number of replicas may do so at any time: each brand's episode is locked first. Raises StoreUnavailable at once,
    and anything unexpected about one brand after the others have been evaluated.
    """
    query = select(brands.c.brand, brands.c.refreshed_at, episodes.c.evaluated).join(
        episodes, episodes.c.brand == brands.c.brand, isouter=True
    )
    known = db.read(lambda connection: connection.execute(query.order_by(brands.c.brand)).all())
    changed = [
        brand
        for brand, refreshed_at, evaluated in known
        if refreshed_at is not None and evaluated != _view(config, brand, refreshed_at, now)
    ]
    n_new, failure = 0, None
    for brand in changed:
        try:
            n_new += len(evaluate(db, brand, config, now, dry_run=dry_run))
        except MonitorError:
            raise
        except Exception as error:
            log.exception("a brand could not be evaluated", extra={"brand": brand})
            failure = error
    if failure is not None:
        raise failure
    return n_new


def evaluate(db: Database, brand: str, config: Config, now: datetime, *, dry_run: bool = False) -> list[str]:
    """Decide one brand and write episode and outbox in one transaction; returns the keys of new messages (none or one).

    1. lock the brand's episode row, 2. read its daily rows, 3. decide, 4. write the outbox rows, with the message as it
    reads now, 5. supersede what waited of the same episode, 6. write the episode row.
    """
    return db.run(lambda connection: _evaluate_in(connection, brand, config, now, "dry_run" if dry_run else "pending"))


def simulate(
    db: Database, config: Config, since: date, now: datetime, brand: str | None = None
) -> list[SimulatedAlert]:
    """What the rules as configured would have announced from `since` to yesterday, each day decided at its end.

    A replay of the stored daily rows: writes nothing, takes days as they are now, and knows no running days.
    """
    names = (
        [brand]
        if brand is not None
        else db.read(lambda connection: list(connection.execute(select(brands.c.brand)).scalars()))
    )
    told: list[SimulatedAlert] = []
    for name in sorted(names):
        rows = db.read(lambda connection, name=name: _rows_in(connection, name, date.min))  # type: ignore[misc]
        rule = rule_for(config.alerts, name)
        told += [_simulated(alert, rule) for alert in _replay(rows, rule, config, now) if alert.day >= since]
    return told


def _evaluate_in(connection: Connection, brand: str, config: Config, now: datetime, state_if_new: str) -> list[str]:
    remembered = _lock_episode_in(connection, brand)
    refreshed_at = connection.execute(select(brands.c.refreshed_at).where(brands.c.brand == brand)).scalar_one_or_none()
    rule = rule_for(config.alerts, brand)
    rows = _rows_in(connection, brand, first_day_needed(remembered, rule))
    decision = decide(remembered, rows, rule, now, config.zone)
    new: list[str] = []
    for alert in decision.planned:
        is_news = alert.state == "pending"
        message = _message_in(connection, alert, rule, rows, config) if is_news else None
        values = _values(alert, rule, state_if_new if is_news else alert.state, message, config, now)
        if _insert_in(connection, values) and is_news:
            _supersede_in(connection, alert)
            new.append(alert.alert_key)
    evaluated = _view(config, brand, refreshed_at, now) if refreshed_at and decision.is_complete else None
    _remember_in(connection, brand, decision, evaluated)
    return new


def _lock_episode_in(connection: Connection, brand: str) -> EpisodeState:
    connection.execute(insert_into(connection, episodes).values(brand=brand, announced=0).on_conflict_do_nothing())
    row = connection.execute(select(episodes).where(episodes.c.brand == brand).with_for_update()).one()
    return EpisodeState(row.began_on, bool(row.announced), row.settled_through, row.decided_through)


def _remember_in(connection: Connection, brand: str, decision: Decision, evaluated: str | None) -> None:
    state = decision.state
    values = {
        "episode": f"{brand}/{state.began_on.isoformat()}" if state.began_on else None,
        "began_on": state.began_on,
        "announced": int(state.announced),
        "settled_through": state.settled_through,
        "decided_through": state.decided_through,
        "evaluated": evaluated,
    }
    connection.execute(update(episodes).where(episodes.c.brand == brand).values(**values))


def _rows_in(connection: Connection, brand: str, since: date) -> list[DayRow]:
    query = select(*_ROW_COLUMNS).where(daily_sentiment.c.brand == brand, daily_sentiment.c.day >= since)
    return [DayRow(*row) for row in connection.execute(query.order_by(daily_sentiment.c.day))]


def _message_in(connection: Connection, alert: PlannedAlert, rule: Rule, rows: Sequence[DayRow], config: Config) -> str:
    quotes = pick(_candidates_in(connection, alert)) if config.store.keep_text else None
    return msgspec.json.encode(render(alert, rule, rows, quotes, config.http.public_url)).decode()


def _candidates_in(connection: Connection, alert: PlannedAlert) -> list[Candidate]:
    """The brand's most negative posts of the day, the most negative first."""
    of_day = (posts.c.day == alert.day) & (posts.c.brand == alert.brand) & posts.c.pos_prob.is_not(None)
    query = (
        select(posts.c.text, posts.c.user_id)
        .where(of_day)
        .order_by(posts.c.pos_prob, posts.c.post_key)
        .limit(_MAX_CANDIDATES)
    )
    return [Candidate(text, user_id) for text, user_id in connection.execute(query) if text]


def _values(
    alert: PlannedAlert, rule: Rule, state: str, message: str | None, config: Config, now: datetime
) -> dict[str, Any]:
    last = alert.window.days[-1] if alert.window else None
    return {
        "alert_key": alert.alert_key,
        "episode": alert.episode,
        "brand": alert.brand,
        "day": alert.day,
        "kind": alert.kind.value,
        "rule_ma3": alert.window.rule_ma3 if alert.window else None,
        "ma3": last.ma3 if last else None,
        "mean_pos": last.mean_pos if last else None,
        "total": last.total if last else 0,
        "threshold": rule.threshold,
        "message": message,
        "state": state,
        "attempts": 0,
        "next_attempt_at": now if message else None,
        "created_at": now,
        "slack_channel": channel_of(config, alert.brand),
    }


def channel_of(config: Config, brand: str) -> str:
    """Where messages about `brand` go."""
    own = config.alerts.brands.get(brand)
    return own.channel if own and own.channel else config.alerts.slack.channel


def _insert_in(connection: Connection, values: dict[str, Any]) -> bool:
    """True where no row had that key: what was announced stays as announced."""
    statement = insert_into(connection, alerts).values(**values).on_conflict_do_nothing().returning(alerts.c.alert_key)
    return connection.execute(statement).scalar_one_or_none() is not None


def _supersede_in(connection: Connection, alert: PlannedAlert) -> None:
    older = (
        (alerts.c.episode == alert.episode) & (alerts.c.state == "pending") & (alerts.c.alert_key != alert.alert_key)
    )
    connection.execute(update(alerts).where(older).values(state="superseded", next_attempt_at=None))


def _view(config: Config, brand: str, refreshed_at: datetime, now: datetime) -> str:
    """All that a decision depends on, in short: when the rows were refreshed, the day and its half, the rule."""
    local = now.astimezone(config.zone)
    rule = rule_for(config.alerts, brand)
    return f"{refreshed_at.isoformat()} {local.date()} {local.time() >= rule.running_day_from} {rule}"


def _simulated(alert: PlannedAlert, rule: Rule) -> SimulatedAlert:
    rule_ma3, total = (alert.window.rule_ma3, alert.window.days[-1].total) if alert.window else (None, None)
    return SimulatedAlert(alert.alert_key, alert.brand, alert.day, alert.kind.value, rule_ma3, rule.threshold, total)


def _replay(rows: Sequence[DayRow], rule: Rule, config: Config, now: datetime) -> list[PlannedAlert]:
    told: dict[str, PlannedAlert] = {}
    state = EpisodeState()
    today = now.astimezone(config.zone).date()
    day = rows[0].day if rows else today
    while day < today:
        needed = [row for row in rows if first_day_needed(state, rule) <= row.day <= day]
        midnight = datetime.combine(day + timedelta(days=1), time(), tzinfo=config.zone)
        decision = decide(state, needed, rule, midnight, config.zone)
        for alert in decision.planned:
            if alert.state == "pending":
                told.setdefault(alert.alert_key, alert)
        state = decision.state
        day += timedelta(days=1)
    return list(told.values())
