"""One evaluation of a few brands inside a transaction: episodes locked, daily rows in, outbox rows and episodes out."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from monitor.alerts import DayRow, Kind, Rule, days_before, rule_for
from monitor.config import Config
from monitor.episodes import Decision, EpisodeState, PlannedAlert, decide
from monitor.messages import Words, render
from monitor.quotes import Candidate, pick
from monitor.store.database import insert_into
from monitor.store.driving import driver_words_in
from monitor.store.many_brands import is_one_of
from monitor.store.needed_rows import needed_rows_in
from monitor.store.schema import alerts, brands, daily_sentiment, episodes, posts

_MAX_CANDIDATES = 300  #: most negative posts that quotes are picked from: authors who flood and copies fall out

_ROW_COLUMNS = [daily_sentiment.c[name] for name in DayRow.__struct_fields__]
_STATE_COLUMNS = [episodes.c[name] for name in ("began_on", "announced", "settled_through", "decided_through")]


def decide_in(
    connection: Connection, group: Sequence[str], config: Config, now: datetime, *, dry_run: bool
) -> list[str]:
    """Decide some brands and write episodes and outbox; returns the keys of new messages, at most one a brand.

    1. lock the brands' episode rows, 2. read their daily rows, 3. decide each, 4. write its outbox rows, with the
    message as it reads now, 5. supersede what waited of the same episode, 6. write the episode rows.
    """
    names = sorted(group)
    remembered = _lock_episodes_in(connection, names)
    refreshed_at = select(brands.c.brand, brands.c.refreshed_at).where(is_one_of(connection, brands.c.brand, names))
    refreshed: dict[str, datetime | None] = {brand: at for brand, at in connection.execute(refreshed_at)}  # noqa: C416  rows, not pairs
    rules = {brand: rule_for(config.alerts, brand) for brand in names}
    rows = needed_rows_in(connection, remembered, rules, now.astimezone(config.zone).date())
    new: list[str] = []
    states = []
    for brand in names:
        decision = decide(remembered[brand], rows[brand], rules[brand], now, config.zone)
        new += _tell_in(connection, decision, rules[brand], rows[brand], config, now, dry_run=dry_run)
        at = refreshed.get(brand)
        evaluated = view_of(config, brand, at, now) if at and decision.is_complete else None
        states.append(_columns_of(brand, decision.state, evaluated))
    connection.execute(update(episodes).where(episodes.c.brand == bindparam("of_brand")), states)
    return new


def rows_in(connection: Connection, group: Sequence[str], since: date) -> dict[str, list[DayRow]]:
    """The daily rows of each brand from `since` on, by day."""
    query = select(*_ROW_COLUMNS).where(daily_sentiment.c.brand.in_(group), daily_sentiment.c.day >= since)
    rows: dict[str, list[DayRow]] = {brand: [] for brand in group}
    for row in connection.execute(query.order_by(daily_sentiment.c.brand, daily_sentiment.c.day)).all():
        rows[row[0]].append(DayRow(*row))
    return rows


def view_of(config: Config, brand: str, refreshed_at: datetime, now: datetime) -> str:
    """All that a decision depends on, in short: when the rows were refreshed, the day and its half, the rule."""
    local = now.astimezone(config.zone)
    rule = rule_for(config.alerts, brand)
    return f"{refreshed_at.isoformat()} {local.date()} {local.time() >= rule.running_day_from} {rule}"


def _lock_episodes_in(connection: Connection, names: Sequence[str]) -> dict[str, EpisodeState]:
    """In the order of their names, so that two replicas cannot block each other for good."""
    query = select(episodes.c.brand, *_STATE_COLUMNS).where(is_one_of(connection, episodes.c.brand, names))
    query = query.order_by(episodes.c.brand)
    found = connection.execute(query.with_for_update()).all()
    if len(found) < len(names):
        fresh = [{"brand": brand, "announced": 0} for brand in names if brand not in {row.brand for row in found}]
        connection.execute(insert_into(connection, episodes).on_conflict_do_nothing(), fresh)
        found = connection.execute(query.with_for_update()).all()
    return {brand: EpisodeState(began_on, bool(announced), *days) for brand, began_on, announced, *days in found}


def _columns_of(brand: str, state: EpisodeState, evaluated: str | None) -> dict[str, Any]:
    return {
        "of_brand": brand,
        "episode": f"{brand}/{state.began_on.isoformat()}" if state.began_on else None,
        "began_on": state.began_on,
        "announced": int(state.announced),
        "settled_through": state.settled_through,
        "decided_through": state.decided_through,
        "evaluated": evaluated,
    }


def _tell_in(
    connection: Connection,
    decision: Decision,
    rule: Rule,
    rows: Sequence[DayRow],
    config: Config,
    now: datetime,
    *,
    dry_run: bool,
) -> list[str]:
    new: list[str] = []
    state_if_new = "dry_run" if dry_run else "pending"
    for alert in decision.planned:
        is_news = alert.state == "pending"
        message = _message_in(connection, alert, rule, rows, config) if is_news else None
        values = _values(alert, rule, state_if_new if is_news else alert.state, message, config, now)
        if _insert_in(connection, values) and is_news:
            _supersede_in(connection, alert)
            new.append(alert.alert_key)
    return new


def _message_in(connection: Connection, alert: PlannedAlert, rule: Rule, rows: Sequence[DayRow], config: Config) -> str:
    quotes = pick(_candidates_in(connection, alert)) if config.store.keep_text else None
    words = words_in(connection, alert, rule, rows) if config.store.keep_text else None
    return msgspec.json.encode(render(alert, rule, rows, quotes, config.http.public_url, words)).decode()


def words_in(connection: Connection, alert: PlannedAlert, rule: Rule, rows: Sequence[DayRow]) -> Words | None:
    """What was said more often in the dip that the alert is about; None for other kinds, and without days before."""
    if alert.window is None or alert.kind not in {Kind.DIP, Kind.STILL_DOWN}:
        return None
    before = days_before(alert.window, alert.began_on, rows, rule)
    found = driver_words_in(connection, alert.window.days, before)
    return Words([one.word for one in found], before[0].day, before[-1].day) if found else None


def _candidates_in(connection: Connection, alert: PlannedAlert) -> list[Candidate]:
    """The brand's most negative posts of the day, the most negative first."""
    of_day = (posts.c.day == alert.day) & (posts.c.brand == alert.brand) & posts.c.pos_prob.is_not(None)
    query = (
        select(posts.c.text, posts.c.user_id)
        .where(of_day)
        .order_by(posts.c.pos_prob, posts.c.content_hash, posts.c.post_key)
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
    if alert.episode is None:  # a silence: it has no episode, and shares that with the silences of other brands
        return
    older = (
        (alerts.c.episode == alert.episode) & (alerts.c.state == "pending") & (alerts.c.alert_key != alert.alert_key)
    )
    connection.execute(update(alerts).where(older).values(state="superseded", next_attempt_at=None))
