"""Evaluation against the store: a brand's episode, its daily rows and the outbox in one transaction, on any replica."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial

from sqlalchemy import select

from monitor.alerts import DayRow, Rule, rule_for
from monitor.config import Config
from monitor.episodes import EpisodeState, PlannedAlert, decide, first_day_needed
from monitor.errors import MonitorError
from monitor.store.database import Database
from monitor.store.deciding import decide_in, rows_in, view_of, words_in
from monitor.store.schema import brands, episodes

log = logging.getLogger(__name__)

BRANDS_AT_ONCE = 100  #: of one transaction: six statements for all of them, and their episodes locked for milliseconds


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
    words: str  # that were said more often than before the dip, comma separated; empty where texts are not stored


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
        if refreshed_at is not None and evaluated != view_of(config, brand, refreshed_at, now)
    ]
    groups = [changed[start : start + BRANDS_AT_ONCE] for start in range(0, len(changed), BRANDS_AT_ONCE)]
    return sum(_evaluate_group(db, group, config, now, dry_run=dry_run) for group in groups)


def evaluate(db: Database, brand: str, config: Config, now: datetime, *, dry_run: bool = False) -> list[str]:
    """Decide one brand in one transaction; returns the keys of new messages (none or one)."""
    return db.run(partial(decide_in, group=[brand], config=config, now=now, dry_run=dry_run))


def _evaluate_group(db: Database, group: Sequence[str], config: Config, now: datetime, *, dry_run: bool) -> int:
    """Together; where that fails unexpectedly, one by one, so that one bad brand does not silence the others."""
    try:
        return len(db.run(partial(decide_in, group=group, config=config, now=now, dry_run=dry_run)))
    except MonitorError:
        raise
    except Exception:  # noqa: BLE001 - told below, with the brand that it belongs to
        log.debug("brands are evaluated one by one")
    n_new, failure = 0, None
    for brand in group:
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
        rows = db.read(lambda connection, name=name: rows_in(connection, [name], date.min)[name])  # type: ignore[misc]
        rule = rule_for(config.alerts, name)
        planned = [alert for alert in _replay(rows, rule, config, now) if alert.day >= since]
        told += [_simulated(db, alert, rule, rows, config) for alert in planned]
    return told


def _simulated(db: Database, alert: PlannedAlert, rule: Rule, rows: Sequence[DayRow], config: Config) -> SimulatedAlert:
    rule_ma3, total = (alert.window.rule_ma3, alert.window.days[-1].total) if alert.window else (None, None)
    found = db.read(partial(words_in, alert=alert, rule=rule, rows=rows)) if config.store.keep_text else None
    words = ", ".join(found.words) if found else ""
    kind = alert.kind.value
    return SimulatedAlert(alert.alert_key, alert.brand, alert.day, kind, rule_ma3, rule.threshold, total, words)


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
