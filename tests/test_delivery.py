"""Delivery from the outbox to Slack: each failure, then what the outbox says and what the channel shows in the end."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from alert_histories import config, save_days
from deliveries import NOW, decide_dips, dip_of, drain, key_of_dip, notifier_of
from fixtures_slack import Answer, FakeSlack, dead_url

from monitor.delivery import LOOK_AFTER_S, REFUSED_RETRY_S, RESEND_AFTER_S, backoff_s, deliver
from monitor.slack import DryRunNotifier, SlackNotifier, WebhookNotifier
from monitor.store import alerts, evaluation
from monitor.store.database import Database


@pytest.fixture
def db(sqlite_url: str, open_database: Callable[[str], Database]) -> Database:
    """SQLite is enough here: claims and marks are tested on both in test_alerts_store."""
    return open_database(sqlite_url)


def test_waiting_messages_are_sent_once_and_each_to_its_channel(database: Database, slack: FakeSlack) -> None:
    """Sent in order of brands, to the brand's channel where it has one; the row keeps Slack's channel and timestamp."""
    setting = config(brands={"beta": {"channel": "#acme"}})
    decide_dips(database, "acme", "beta", setting=setting)
    assert drain(database, slack, NOW, setting) == 2
    assert drain(database, slack, NOW + timedelta(days=1), setting) == 0
    assert [(one.channel, key) for one, key in zip(slack.posted, slack.keys(), strict=True)] == [
        ("C0BRANDALRT", key_of_dip("acme")),
        ("C0ACMEALERTS", key_of_dip("beta")),
    ]
    row = dip_of(database, "beta")
    assert (row.state, row.slack_channel, row.slack_ts) == ("sent", "C0ACMEALERTS", slack.posted[1].ts)
    assert row.sent_at is not None
    assert (row.attempts, row.next_attempt_at, row.last_error) == (1, None, None)


def test_too_many_requests_wait_as_long_as_slack_asks(db: Database, slack: FakeSlack) -> None:
    """A 429 was not posted: pending, due after Retry-After, then sent once."""
    slack.script = [Answer(429, retry_after="7")]
    decide_dips(db, "acme")
    assert deliver(db, notifier_of(slack), config(), NOW) == 0
    row = dip_of(db)
    assert (row.state, row.last_error) == ("pending", "HTTP 429")
    assert row.next_attempt_at is not None
    assert timedelta(seconds=7) <= row.next_attempt_at - NOW < timedelta(seconds=9)
    assert drain(db, slack, NOW + timedelta(seconds=6)) == 0
    assert drain(db, slack, NOW + timedelta(seconds=9)) == 1
    assert slack.keys() == [key_of_dip("acme")]


def test_what_slack_refuses_is_tried_every_quarter_of_an_hour_until_it_is_put_right(
    db: Database, slack: FakeSlack
) -> None:
    """A channel that does not exist: pending with Slack's word for it, sent once the configuration names another."""
    wrong = config(slack={"channel": "#nowhere"})
    decide_dips(db, "acme", setting=wrong)
    assert drain(db, slack, NOW, wrong) == 1
    assert alerts.failing(db) == (1, "channel_not_found")
    assert drain(db, slack, NOW + timedelta(seconds=REFUSED_RETRY_S - 10), wrong) == 0
    assert drain(db, slack, NOW + timedelta(seconds=REFUSED_RETRY_S + 10)) == 1
    assert (dip_of(db).state, dip_of(db).attempts) == ("sent", 2)
    assert alerts.failing(db) == (0, None)


def test_a_slack_that_is_away_is_tried_again_with_growing_pauses(db: Database, slack: FakeSlack) -> None:
    """Nothing listens: tried after 5, 10, 20 seconds up to five minutes, once per run; later it arrives once."""
    decide_dips(db, "acme")
    away = SlackNotifier("xoxb-good", dead_url(), timeout_s=1)
    now = NOW
    for _ in range(3):
        assert deliver(db, away, config(), now) == 0
        row = dip_of(db)
        assert row.state == "pending"
        assert row.next_attempt_at is not None
        now = row.next_attempt_at
    assert now - NOW >= timedelta(seconds=5 + 10 + 20)
    assert drain(db, slack, now) == 1
    assert [backoff_s(attempt) for attempt in (1, 2, 7, 100)] == [5.0, 10.0, 300.0, 300.0]


@pytest.mark.parametrize(
    "doubtful",
    [Answer(silent=True, posts=True), Answer(drops=True, posts=True), Answer(502, posts=True)],
    ids=["silence", "reset", "502"],
)
def test_what_was_posted_without_an_answer_is_found_and_not_repeated(
    db: Database, slack: FakeSlack, doubtful: Answer
) -> None:
    """Unknown first; the look-up finds the key in the channel's history: sent, and the channel shows it once."""
    slack.script = [doubtful]
    decide_dips(db, "acme")
    assert drain(db, slack, NOW) == 0
    assert dip_of(db).state == "unknown"
    assert drain(db, slack, NOW + timedelta(seconds=LOOK_AFTER_S + 5)) == 1
    row = dip_of(db)
    assert (row.state, row.slack_ts, row.attempts) == ("sent", slack.posted[0].ts, 1)
    assert slack.keys() == [key_of_dip("acme")]


def test_what_was_not_posted_is_seen_to_be_missing_and_sent(db: Database, slack: FakeSlack) -> None:
    """A 500 that posted nothing: the history says so, and the message goes out in the same breath."""
    slack.script = [Answer(500)]
    decide_dips(db, "acme")
    assert drain(db, slack, NOW) == 0
    assert drain(db, slack, NOW + timedelta(seconds=LOOK_AFTER_S + 5)) == 0  # looked: not there
    assert dip_of(db).state == "pending"
    assert drain(db, slack, NOW + timedelta(seconds=LOOK_AFTER_S + 10)) == 1
    assert slack.keys() == [key_of_dip("acme")]


def test_a_look_up_waits_while_slack_does_not_answer(db: Database, slack: FakeSlack) -> None:
    """History answers 503: still unknown, looked for again a minute later."""
    slack.script = [Answer(silent=True, posts=True)]
    slack.lookups = [Answer(503)]
    decide_dips(db, "acme")
    drain(db, slack, NOW)
    look_at = NOW + timedelta(seconds=LOOK_AFTER_S + 5)
    assert drain(db, slack, look_at) == 0
    assert dip_of(db).state == "unknown"
    assert drain(db, slack, look_at + timedelta(seconds=65)) == 1
    assert slack.keys() == [key_of_dip("acme")]


@pytest.mark.parametrize(("mode", "state", "n_posted"), [("at_least_once", "sent", 2), ("at_most_once", "unknown", 1)])
def test_without_the_history_scope_the_configuration_decides(
    db: Database, slack: FakeSlack, mode: str, state: str, n_posted: int
) -> None:
    """Posted without an answer and no way to look: sent again after a pause, or never."""
    setting = config(slack={"delivery": mode})
    slack.scopes = {"chat:write"}
    slack.script = [Answer(drops=True, posts=True)]
    decide_dips(db, "acme", setting=setting)
    now = NOW
    for wait_s in (0.0, LOOK_AFTER_S + 5, RESEND_AFTER_S, 3600.0):
        now += timedelta(seconds=wait_s)
        drain(db, slack, now, setting)
    assert dip_of(db).state == state
    assert len(slack.posted) == n_posted
    assert alerts.n_waiting(db) == 0


def test_messages_are_a_second_apart(db: Database, slack: FakeSlack) -> None:
    """Of three messages the second and third wait for the rest of the second since the one before."""
    decide_dips(db, "acme", "beta", "gamma")
    pauses: list[float] = []
    while deliver(db, notifier_of(slack), config(), NOW, pause=pauses.append):
        pass
    assert len(slack.posted) == 3
    assert len(pauses) == 2
    assert all(0 < pause_s <= 1 for pause_s in pauses)


def test_a_webhook_delivers_too(db: Database, slack: FakeSlack) -> None:
    """Sent without timestamp; the channel stays the configured one."""
    decide_dips(db, "acme")
    assert deliver(db, WebhookNotifier(slack.webhook_url, timeout_s=1), config(), NOW) == 1
    row = dip_of(db)
    assert (row.state, row.slack_channel, row.slack_ts) == ("sent", "#brand-alerts", None)
    assert [one.channel for one in slack.posted] == ["webhook"]


def test_without_a_token_each_message_is_shown_once(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Dry run: shown as Slack would, the log has brand, day, figures and key but no text; nothing is left to do."""
    save_days(db, {0: 0.2})
    evaluation.evaluate_all(db, config(), NOW, dry_run=True)
    shown: list[str] = []
    with caplog.at_level("INFO"):
        worked = [deliver(db, DryRunNotifier(shown.append), config(), NOW) for _ in range(2)]
    assert worked == [1, 0]
    assert len(shown) == 1
    assert "acme is down" in shown[0]
    (record,) = [record for record in caplog.records if record.name == "monitor.delivery"]
    figures = {name: getattr(record, name) for name in ("alert_key", "brand", "day", "rule_ma3", "threshold", "total")}
    assert figures == {
        "alert_key": key_of_dip("acme"),
        "brand": "acme",
        "day": "2026-11-01",
        "rule_ma3": pytest.approx(0.2),
        "threshold": 0.45,
        "total": 4,
    }
