"""Messages that wait, and their delivery to a Slack: what the delivery tests share."""

from datetime import datetime

from alert_histories import after, config, save_days
from fixtures_slack import FakeSlack

from monitor.config import Config
from monitor.delivery import deliver
from monitor.slack import SlackNotifier
from monitor.store import alerts, evaluation
from monitor.store.alerts import AlertRow
from monitor.store.database import Database

NOW = after(0)


def decide_dips(db: Database, *brands: str, setting: Config | None = None) -> None:
    """Let each brand dip on the first day: one message each waits."""
    for brand in brands:
        save_days(db, {0: 0.2}, brand=brand)
    evaluation.evaluate_all(db, setting or config(), NOW)


def notifier_of(slack: FakeSlack) -> SlackNotifier:
    """The bot of that Slack, with a short patience."""
    return SlackNotifier(slack.token, slack.url, timeout_s=3)  # a busy machine takes longer than one


def key_of_dip(brand: str) -> str:
    """alert_key of the message that `decide_dips` makes."""
    return f"{brand}/2026-11-01/dip"


def dip_of(db: Database, brand: str = "acme") -> AlertRow:
    """The outbox row of that message."""
    row = alerts.get(db, key_of_dip(brand))
    assert row is not None
    return row


def drain(db: Database, slack: FakeSlack, now: datetime, setting: Config | None = None) -> int:
    """Deliver until nothing more can be done at `now`; returns how many messages."""
    n = 0
    while deliver(db, notifier_of(slack), setting or config(), now, pause=lambda _: None):
        n += 1
    return n
