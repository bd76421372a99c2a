"""Delivery when senders die or stop, and through random trouble: each message is posted exactly once in the end."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from alert_histories import config
from deliveries import NOW, decide_dips, dip_of, drain, key_of_dip, notifier_of
from fixtures_slack import Answer, FakeSlack

from monitor.delivery import LEASE_S, LOOK_AFTER_S, deliver
from monitor.slack import WebhookNotifier
from monitor.store import alerts
from monitor.store.database import Database


@pytest.fixture
def db(sqlite_url: str, open_database: Callable[[str], Database]) -> Database:
    """SQLite is enough here: claims and marks are tested on both in test_alerts_store."""
    return open_database(sqlite_url)


def test_a_sender_that_died_after_posting_is_made_up_for(db: Database, slack: FakeSlack) -> None:
    """Claimed, posted, killed: when the lease has run out the message is found, not sent again."""
    decide_dips(db, "acme")
    claimed = alerts.claim(db, NOW, LEASE_S)
    assert claimed is not None
    notifier_of(slack).send({"text": "the message", "blocks": []}, "#brand-alerts", claimed.alert_key)
    over = NOW + timedelta(seconds=LEASE_S)
    assert drain(db, slack, over) == 0
    assert dip_of(db).state == "unknown"
    assert drain(db, slack, over + timedelta(seconds=LOOK_AFTER_S)) == 1
    assert dip_of(db).state == "sent"
    assert slack.keys() == [key_of_dip("acme")]


def test_a_sender_that_died_before_posting_is_made_up_for(db: Database, slack: FakeSlack) -> None:
    """Claimed, killed: when the lease has run out the message is seen to be missing and sent once."""
    decide_dips(db, "acme")
    assert alerts.claim(db, NOW, LEASE_S) is not None
    for later_s in (LEASE_S, LEASE_S + LOOK_AFTER_S, LEASE_S + LOOK_AFTER_S + 5):
        drain(db, slack, NOW + timedelta(seconds=later_s))
    assert (dip_of(db).state, dip_of(db).attempts) == ("sent", 2)
    assert slack.keys() == [key_of_dip("acme")]


def test_a_sender_that_was_stopped_after_its_claim_does_not_post(db: Database, slack: FakeSlack) -> None:
    """The lease is looked at right before the post: with 50 of 60 seconds gone the message goes back instead."""
    decide_dips(db, "acme")
    ticks = iter([0.0, *[50.0] * 9])
    assert deliver(db, notifier_of(slack), config(), NOW, ticks=lambda: next(ticks)) == 0
    assert slack.posted == []
    assert dip_of(db).state == "pending"


def died(database: Database, slack: FakeSlack, *, posts: bool) -> datetime:
    """A sender is killed with a message claimed, after it posted or before; returns when its lease is over."""
    claimed = alerts.claim(database, NOW, LEASE_S, LOOK_AFTER_S, lambda _: "#brand-alerts")
    assert claimed is not None
    if posts:
        notifier_of(slack).send({"text": "the message", "blocks": []}, "#brand-alerts", claimed.alert_key)
    drain(database, slack, NOW + timedelta(seconds=LEASE_S), config(slack={"channel": "#acme"}))
    return NOW + timedelta(seconds=LEASE_S)


def unanswered(database: Database, slack: FakeSlack, *, posts: bool) -> datetime:
    """Slack's answer is lost."""
    slack.script = [Answer(drops=True, posts=posts)]
    drain(database, slack, NOW)
    return NOW


@pytest.mark.parametrize("trouble", [died, unanswered])
@pytest.mark.parametrize("was_posted", [True, False], ids=["posted", "not posted"])
def test_after_another_channel_was_configured_a_message_is_looked_for_where_it_went(
    database: Database, slack: FakeSlack, trouble: Callable[..., datetime], was_posted: bool
) -> None:
    """The channel was changed, by a reload or a restart, while nobody knew whether the message had arrived: it is found
    in the old one and not repeated, or seen to be missing there and sent to the new one."""
    decide_dips(database, "acme", setting=config(slack={"channel": "#older"}))  # and again before it was sent
    over = trouble(database, slack, posts=was_posted)
    assert dip_of(database).state == "unknown"
    changed = config(slack={"channel": "#acme"})
    for later_s in (LOOK_AFTER_S + 5, LOOK_AFTER_S + 10, 3600):
        drain(database, slack, over + timedelta(seconds=later_s), changed)
    channel = "C0BRANDALRT" if was_posted else "C0ACMEALERTS"
    assert [one.channel for one in slack.posted] == [channel]
    row = dip_of(database)
    assert (row.state, row.slack_channel, row.attempts) == ("sent", channel, 1 if was_posted else 2)


@pytest.mark.parametrize(("mode", "state", "n_posted"), [("at_least_once", "sent", 2), ("at_most_once", "unknown", 1)])
def test_what_a_webhook_may_have_posted_is_not_taken_for_missing_by_a_token(
    db: Database, slack: FakeSlack, mode: str, state: str, n_posted: int
) -> None:
    """Its messages carry no metadata, so that the channel's history cannot tell: the configuration decides."""
    setting = config(slack={"delivery": mode})
    decide_dips(db, "acme", setting=setting)
    slack.script = [Answer(drops=True, posts=True)]
    deliver(db, WebhookNotifier(slack.webhook_url, timeout_s=1), setting, NOW)
    assert dip_of(db).state == "unknown"
    for later_s in (LOOK_AFTER_S + 5, LOOK_AFTER_S + 65, 3600):
        drain(db, slack, NOW + timedelta(seconds=later_s), setting)
    assert dip_of(db).state == state
    assert len(slack.posted) == n_posted


TROUBLES = {
    "429": Answer(429, retry_after="1"),
    "500": Answer(500),
    "500 after posting": Answer(500, posts=True),
    "reset": Answer(drops=True),
    "reset after posting": Answer(drops=True, posts=True),
    "page of a proxy": Answer(page="<html>busy</html>"),
    "not now": Answer(error="service_unavailable"),
    "refused": Answer(error="is_archived"),
    "taken": Answer(),
}


@pytest.mark.parametrize("seed", range(6))
def test_through_any_trouble_each_message_is_posted_exactly_once(db: Database, slack: FakeSlack, seed: int) -> None:
    """Random answers, look-ups that fail, senders that die before and after posting; at the end Slack is well again."""
    rng = random.Random(seed)
    now = NOW
    for step in range(25):
        now += timedelta(seconds=rng.choice([1, 30, 70, 1000]))
        if step % 5 == 0:
            decide_dips(db, f"brand {step}")
        if rng.random() < 0.25:
            _die_holding_a_claim(db, slack, now, posts=rng.random() < 0.5)
        else:
            slack.script = [TROUBLES[rng.choice(list(TROUBLES))]]
            slack.lookups = [Answer(503)] if rng.random() < 0.3 else []
            deliver(db, notifier_of(slack), config(), now, pause=lambda _: None)
    slack.script, slack.lookups = [], []
    for _ in range(10):
        now += timedelta(seconds=1000)
        drain(db, slack, now)
    assert alerts.counts(db) == {"sent": 5}
    assert sorted(slack.keys()) == sorted(key_of_dip(f"brand {step}") for step in range(0, 25, 5))


def _die_holding_a_claim(db: Database, slack: FakeSlack, now: datetime, *, posts: bool) -> None:
    claimed = alerts.claim(db, now, LEASE_S, LOOK_AFTER_S)
    if posts and claimed is not None and claimed.state == "sending":
        notifier_of(slack).send({"text": "the message", "blocks": []}, "#brand-alerts", claimed.alert_key)
