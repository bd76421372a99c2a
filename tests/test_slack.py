"""Sending: every answer of Slack, a webhook or the network becomes the right result, against a real HTTP server."""

import threading

import pytest
from fixtures_slack import Answer, FakeSlack, dead_url

from monitor import messages
from monitor.config import AlertsSection, BrandRule, Config
from monitor.errors import ConfigError
from monitor.settings import Secrets
from monitor.slack import DryRunNotifier, SlackNotifier, WebhookNotifier, notifier_for

MESSAGE = messages.trial_message("#brand-alerts")
KEY = "acme/2026-11-20/dip"


def notifier(slack: FakeSlack, token: str = "xoxb-good") -> SlackNotifier:
    """The notifier under test, with a short patience."""
    return SlackNotifier(token, slack.url, timeout_s=1)


def test_a_message_is_posted_once_with_its_key_and_without_previews(slack: FakeSlack) -> None:
    """One post: text, blocks, the alert_key as metadata, no unfurling, no parsing of names."""
    result = notifier(slack).send(MESSAGE, "#brand-alerts", KEY)
    assert (result.outcome, result.channel, result.ts) == ("sent", "C0BRANDALRT", slack.posted[0].ts)
    body = slack.posted[0].body
    assert body["text"] == MESSAGE["text"]
    assert body["blocks"] == MESSAGE["blocks"]
    assert (body["unfurl_links"], body["unfurl_media"]) == (False, False)
    assert not {"link_names", "parse"} & set(body)
    assert slack.keys() == [KEY]
    assert slack.n_requests == 1


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (Answer(429, retry_after="7"), "retry", "HTTP 429"),
        (Answer(error="ratelimited"), "retry", "ratelimited"),
        (Answer(error="service_unavailable"), "retry", "service_unavailable"),
        (Answer(error="not_in_channel"), "refused", "not_in_channel"),
        (Answer(error="token_revoked"), "refused", "token_revoked"),
        (Answer(error="invalid_blocks"), "refused", "invalid_blocks"),
        (Answer(404, page="<html>not here</html>"), "refused", "HTTP 404"),
        (Answer(error="internal_error", posts=True), "unknown", "internal_error"),
        (Answer(500, posts=True), "unknown", "HTTP 500"),
        (Answer(502, page="<html>bad gateway</html>", posts=True), "unknown", "HTTP 502"),
        (Answer(page="<html>please log in</html>"), "unknown", "HTTP 200"),
        (Answer(page="[1, 2]"), "unknown", "no answer from Slack: AttributeError"),
        (Answer(drops=True, posts=True), "unknown", "no answer from Slack: RemoteDisconnected"),
        (Answer(silent=True, posts=True), "unknown", "no answer from Slack: TimeoutError"),
    ],
)
def test_every_answer_says_whether_the_message_was_posted(
    slack: FakeSlack, answer: Answer, outcome: str, error: str
) -> None:
    """429 and error codes were not posted; 5xx, silence and strange pages leave it open. One request each."""
    slack.script = [answer]
    result = notifier(slack).send(MESSAGE, "#brand-alerts", KEY)
    assert result.outcome == outcome
    assert result.error is not None
    assert result.error.startswith(error)
    assert slack.n_requests == 1


def test_retry_after_is_kept_for_the_outbox(slack: FakeSlack) -> None:
    """The seconds that a 429 asks for come back as a number; without them it is half a minute."""
    slack.script = [Answer(429, retry_after="7"), Answer(429)]
    assert [notifier(slack).send(MESSAGE, "#brand-alerts", KEY).retry_after_s for _ in range(2)] == [7.0, 30.0]


def test_wrong_token_and_unknown_channel_are_refused_without_showing_the_token(slack: FakeSlack) -> None:
    """Slack's own word for it is the error; the token is not in it."""
    wrong = notifier(slack, "xoxb-wrong").send(MESSAGE, "#brand-alerts", KEY)
    nowhere = notifier(slack).send(MESSAGE, "#nowhere", KEY)
    assert [(one.outcome, one.error) for one in (wrong, nowhere)] == [
        ("refused", "invalid_auth"),
        ("refused", "channel_not_found"),
    ]


def test_a_refused_connection_and_an_unknown_host_were_certainly_not_posted() -> None:
    """Nothing listens, or the name does not resolve: `retry`."""
    for base_url in (dead_url(), "http://slack.invalid/api/"):
        result = SlackNotifier("xoxb-good", base_url, timeout_s=1).send(MESSAGE, "#brand-alerts", KEY)
        assert result.outcome == "retry"
        assert "xoxb" not in str(result)


def test_the_proxy_of_the_world_is_not_asked_for_this_machine(
    slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With HTTP_PROXY set to a dead port, a Slack (or webhook) on localhost is still reached."""
    monkeypatch.setenv("HTTP_PROXY", dead_url())
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert notifier(slack).send(MESSAGE, "#brand-alerts", KEY).outcome == "sent"
    assert WebhookNotifier(slack.webhook_url, timeout_s=1).send(MESSAGE, "", KEY).outcome == "sent"


def test_a_posted_message_is_found_by_its_key_on_any_page(slack: FakeSlack) -> None:
    """The channel's name is turned into its id, and history is read page by page until the metadata matches."""
    slack.page_size = 2
    for number in range(5):
        notifier(slack).send(MESSAGE, "#brand-alerts", f"acme/2026-11-2{number}/dip")
    found = notifier(slack).find("#brand-alerts", "acme/2026-11-20/dip", 0.0)
    assert found is not None
    assert (found.outcome, found.ts) == ("sent", slack.posted[0].ts)
    missing = notifier(slack).find("C0BRANDALRT", "acme/2026-11-29/dip", 0.0)
    assert missing is not None
    assert missing.outcome == "retry"


def test_what_cannot_be_looked_up_is_none_and_a_slack_that_is_away_is_unknown(slack: FakeSlack) -> None:
    """Missing scopes, a foreign channel and webhooks cannot tell; a 503 or a 429 asks for another look."""
    slack.lookups = [Answer(503), Answer(429, retry_after="9")]
    away = [notifier(slack).find("#brand-alerts", KEY, 0.0) for _ in range(2)]
    assert [(one.outcome, one.retry_after_s) for one in away if one] == [("unknown", None), ("unknown", 9.0)]
    assert notifier(slack).find("#nowhere", KEY, 0.0) is None
    for missing in ("channels:history", "channels:read"):
        slack.scopes = {"chat:write", "channels:read", "channels:history"} - {missing}
        assert notifier(slack).find("#brand-alerts", KEY, 0.0) is None
    assert WebhookNotifier(slack.webhook_url).find("", KEY, 0.0) is None


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (Answer(), "sent", None),
        (Answer(429, retry_after="3"), "retry", "HTTP 429 ok"),
        (Answer(403, error="action_prohibited"), "refused", "HTTP 403 action_prohibited"),
        (Answer(410, error="channel_is_archived"), "refused", "HTTP 410 channel_is_archived"),
        (Answer(500, error="rollup_error"), "unknown", "HTTP 500 rollup_error"),
        (Answer(drops=True), "unknown", "no answer from Slack: RemoteDisconnected"),
    ],
)
def test_a_webhook_answers_in_its_own_words(slack: FakeSlack, answer: Answer, outcome: str, error: str | None) -> None:
    """200 is sent; other codes mean the same as with the Web API, and the URL is never in the error."""
    slack.script = [answer]
    result = WebhookNotifier(slack.webhook_url, timeout_s=1).send(MESSAGE, "#ignored", KEY)
    assert (result.outcome, result.error) == (outcome, error)
    if outcome == "sent":
        assert slack.posted[0].body == {**MESSAGE, "unfurl_links": False, "unfurl_media": False}


def test_check_asks_slack_whether_the_token_works(slack: FakeSlack) -> None:
    """auth.test, nothing posted."""
    assert notifier(slack).check().outcome == "sent"
    assert notifier(slack, "xoxb-wrong").check().error == "invalid_auth"
    assert slack.posted == []


def test_without_a_secret_messages_are_shown_and_the_token_wins_over_the_webhook() -> None:
    """Nothing: dry run. Webhook: webhook. Both: token."""
    hook = {"SLACK_WEBHOOK_URL": "https://hooks.slack.example/services/T/B/x"}
    kinds = [notifier_for(Config(), Secrets(environ)) for environ in ({}, hook, {"SLACK_BOT_TOKEN": "xoxb-1", **hook})]
    assert [(type(one), dry_run) for one, dry_run in kinds] == [
        (DryRunNotifier, True),
        (WebhookNotifier, False),
        (SlackNotifier, False),
    ]


def test_secrets_that_cannot_be_and_a_webhook_with_channels_are_refused_without_being_shown() -> None:
    """ConfigError names the secret or the brand, never the value."""
    routed = Config(alerts=AlertsSection(brands={"acme": BrandRule(channel="#acme")}))
    hook = "https://hooks.slack.example/services/T/B/private"
    for config, environ, said in (
        (Config(), {"SLACK_BOT_TOKEN": "xoxb private"}, "SLACK_BOT_TOKEN"),
        (Config(), {"SLACK_WEBHOOK_URL": "hooks.slack.example/private"}, "SLACK_WEBHOOK_URL"),
        (routed, {"SLACK_WEBHOOK_URL": hook}, "acme"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            notifier_for(config, Secrets(environ))
        assert "private" not in str(caught.value)
    assert isinstance(notifier_for(routed, Secrets({"SLACK_BOT_TOKEN": "xoxb-1"}))[0], SlackNotifier)


def test_a_dry_run_shows_the_message_as_slack_would() -> None:
    """What is shown is as_text of the message, once."""
    shown: list[str] = []
    assert DryRunNotifier(shown.append).send(MESSAGE, "#brand-alerts", KEY).outcome == "dry_run"
    assert shown == [messages.as_text(MESSAGE) + "\n"]


def test_the_fake_serves_several_posts_at_once(slack: FakeSlack) -> None:
    """Three senders, one of them never answered: the other two are not held up."""
    slack.script = [Answer(silent=True)]
    outcomes: list[str] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(notifier(slack).send(MESSAGE, "#acme", KEY).outcome))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["sent", "sent", "unknown"]
