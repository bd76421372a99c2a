"""Slack at the far end: a bot token, an incoming webhook, or neither (dry run). Every answer becomes a SendResult.

Sending is never repeated in here: the outbox decides what comes next. What may have been posted is `unknown`; `retry`
and `refused` say that it certainly was not.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from slack_sdk import WebClient, WebhookClient
from slack_sdk.webhook import WebhookResponse

from monitor.config import LOCAL_HOSTS, Config
from monitor.errors import ConfigError
from monitor.messages import as_text
from monitor.protocols import Notifier, SendResult
from monitor.settings import Secrets
from monitor.slack_answers import by_status, result_of

TIMEOUT_S = 10
EVENT_TYPE = "sentiment_alert"  #: of the metadata that carries the alert_key
_MAX_PAGES = 5  #: of channels or messages that are read to find one
_CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{7,}")

#: the SDK reports each failure at ERROR, which our own line says better
_sdk_log = logging.getLogger("slack_sdk.quiet")
_sdk_log.setLevel(logging.CRITICAL)


class SlackNotifier:
    """The Web API with a bot token (scope chat:write; channels:history and channels:read to find what was posted)."""

    def __init__(self, token: str, base_url: str = "https://slack.com/api/", timeout_s: int = TIMEOUT_S) -> None:
        client = _DirectWebClient if _is_loopback(base_url) else WebClient
        self._client = client(token, base_url, timeout_s, retry_handlers=[], logger=_sdk_log)
        self._channel_ids: dict[str, str] = {}

    def send(self, message: Mapping[str, object], channel: str, alert_key: str) -> SendResult:
        metadata = {"event_type": EVENT_TYPE, "event_payload": {"alert_key": alert_key}}
        try:
            answer = self._client.chat_postMessage(
                channel=channel,
                text=str(message["text"]),
                blocks=message["blocks"],  # type: ignore[arg-type]  # dicts, as the SDK takes them
                metadata=metadata,
                unfurl_links=False,
                unfurl_media=False,
            )
        except Exception as error:  # noqa: BLE001  whatever goes wrong past the socket, the message may have been posted
            return result_of(error)
        return SendResult("sent", channel=answer.get("channel"), ts=answer.get("ts"))

    def find(self, channel: str, alert_key: str, oldest_ts: float) -> SendResult | None:
        try:
            channel_id = self._channel_id(channel)
            return self._find_in(channel_id, alert_key, oldest_ts) if channel_id else None
        except Exception as error:  # noqa: BLE001  as above: a look-up never raises
            result = result_of(error)
            if result.outcome == "refused":  # no scope, not in the channel: it cannot be told, today or tomorrow
                return None
            return SendResult("unknown", error=result.error, retry_after_s=result.retry_after_s)

    def check(self) -> SendResult:
        """Whether the token works (auth.test): `sent`, or why not."""
        try:
            self._client.auth_test()
        except Exception as error:  # noqa: BLE001  as above
            return result_of(error)
        return SendResult("sent")

    def _channel_id(self, channel: str) -> str | None:
        """History is read by id, while channels are configured by name; public ones are looked through first.

        Each kind of channel needs a scope of its own: without that for private ones the public ones are still found.
        """
        if _CHANNEL_ID.fullmatch(channel):
            return channel
        name = channel.lstrip("#")
        for types in ("public_channel", "private_channel"):
            if name not in self._channel_ids:
                self._learn_channels(types, name)
        return self._channel_ids.get(name)

    def _learn_channels(self, types: str, name: str) -> None:
        cursor = ""
        for _ in range(_MAX_PAGES):
            page = self._client.conversations_list(types=types, exclude_archived=True, limit=999, cursor=cursor)
            self._channel_ids.update({one["name"]: one["id"] for one in page["channels"]})
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor or name in self._channel_ids:
                break

    def _find_in(self, channel_id: str, alert_key: str, oldest_ts: float) -> SendResult | None:
        cursor = ""
        for _ in range(_MAX_PAGES):
            page = self._client.conversations_history(
                channel=channel_id, oldest=f"{oldest_ts:.6f}", include_all_metadata=True, limit=200, cursor=cursor
            )
            for posted in page["messages"]:
                if _alert_key_of(posted) == alert_key:
                    return SendResult("sent", channel=channel_id, ts=posted["ts"])
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return SendResult("retry")
        return None


class WebhookNotifier:
    """An incoming webhook: one URL, one channel, no way to look anything up."""

    def __init__(self, url: str, timeout_s: int = TIMEOUT_S) -> None:
        client = _DirectWebhookClient if _is_loopback(url) else WebhookClient
        self._client = client(url, timeout_s, retry_handlers=[], logger=_sdk_log)

    def send(self, message: Mapping[str, object], channel: str, alert_key: str) -> SendResult:  # noqa: ARG002
        try:
            answer = self._client.send(
                text=str(message["text"]),
                blocks=message["blocks"],  # type: ignore[arg-type]  # dicts, as the SDK takes them
                unfurl_links=False,
                unfurl_media=False,
            )
        except Exception as error:  # noqa: BLE001  whatever goes wrong past the socket, the message may have been posted
            return result_of(error)
        return (
            SendResult("sent")
            if answer.status_code == 200
            else by_status(answer.status_code, answer.body, answer.headers)
        )

    def find(self, channel: str, alert_key: str, oldest_ts: float) -> SendResult | None:  # noqa: ARG002
        return None


class DryRunNotifier:
    """No token: the message is shown instead of sent."""

    def __init__(self, show: Callable[[str], object] | None = None) -> None:
        """`show` takes the message as a person would see it; None where nobody looks (the log has the figures)."""
        self._show = show

    def send(self, message: Mapping[str, object], channel: str, alert_key: str) -> SendResult:  # noqa: ARG002
        if self._show is not None:
            self._show(as_text(message) + "\n")
        return SendResult("dry_run")

    def find(self, channel: str, alert_key: str, oldest_ts: float) -> SendResult | None:  # noqa: ARG002
        return None


def notifier_for(config: Config, secrets: Secrets) -> tuple[Notifier, bool]:
    """The way to Slack that the secrets allow, and whether that is a dry run. With both secrets the token wins.

    Raises ConfigError for a secret that cannot be one, and for a webhook with per-brand channels: it has one channel.
    """
    token, url = secrets.secret("SLACK_BOT_TOKEN"), secrets.secret("SLACK_WEBHOOK_URL")
    if token:
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ConfigError("SLACK_BOT_TOKEN is not a token: it holds blanks or characters that no token has")
        return SlackNotifier(token, config.alerts.slack.base_url), False
    if not url:
        return DryRunNotifier(sys.stdout.write if sys.stdout.isatty() else None), True
    if not re.fullmatch(r"https?://[\x21-\x7e]+", url):
        raise ConfigError("SLACK_WEBHOOK_URL is not a web address: it must begin with https://")
    routed = sorted(brand for brand, own in config.alerts.brands.items() if own.channel)
    if routed:
        raise ConfigError(
            f"alerts.brands gives {', '.join(routed)} a channel, and SLACK_WEBHOOK_URL always posts to its own: "
            "use SLACK_BOT_TOKEN, or remove the channels"
        )
    return WebhookNotifier(url), False


def _alert_key_of(posted: Mapping[str, Any]) -> str | None:
    metadata = posted.get("metadata") or {}
    if metadata.get("event_type") != EVENT_TYPE:
        return None
    key: str | None = (metadata.get("event_payload") or {}).get("alert_key")
    return key


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in LOCAL_HOSTS


def _open_direct(request: Request, timeout_s: int) -> HTTPResponse:
    response: HTTPResponse = build_opener(ProxyHandler({})).open(request, timeout=timeout_s)
    return response


class _DirectWebClient(WebClient):
    """Reaches this machine itself: a proxy that the environment names for the world cannot."""

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:  # noqa: ARG002
        with _open_direct(req, self.timeout) as response:
            return {"status": response.status, "headers": response.headers, "body": response.read().decode()}


class _DirectWebhookClient(WebhookClient):
    """As _DirectWebClient."""

    def _perform_http_request_internal(self, url: str, req: Request) -> WebhookResponse:
        with _open_direct(req, self.timeout) as response:
            headers = dict(response.headers.items())
            return WebhookResponse(url=url, status_code=response.status, body=response.read().decode(), headers=headers)
