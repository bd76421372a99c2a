"""A real HTTP server in Slack's place: the few Web API methods that the monitor calls, and an incoming webhook.

Each post takes the next answer of its script (an empty script: 200) and is recorded where Slack would have posted it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from ports import free_port

WEBHOOK_PATH = "/services/T0/B0/hook"


@dataclass(frozen=True)
class Answer:
    """What the server does with one post."""

    status: int = 200
    error: str | None = None  # Slack's error code in a 200 answer; a webhook's body
    retry_after: str | None = None
    page: str | None = None  # not JSON: as a proxy answers
    posts: bool | None = None  # whether the message appears in the channel; default: only with a plain 200
    silent: bool = False  # no answer until the server ends
    drops: bool = False  # the connection closes without an answer

    @property
    def accepts(self) -> bool:
        """Whether the message appears in the channel."""
        plain = self.status == 200 and not (self.error or self.page or self.silent or self.drops)
        return plain if self.posts is None else self.posts


@dataclass
class Posted:
    """A message as the channel shows it."""

    channel: str
    ts: str
    body: dict[str, Any]


@dataclass
class FakeSlack:
    """The server; `url` is the base_url of the Web API."""

    server: ThreadingHTTPServer
    posted: list[Posted] = field(default_factory=list)
    script: list[Answer] = field(default_factory=list)  # answers to come, for posts
    lookups: list[Answer] = field(default_factory=list)  # answers to come, for conversations.history
    channels: dict[str, str] = field(default_factory=lambda: {"brand-alerts": "C0BRANDALRT", "acme": "C0ACMEALERTS"})
    token: str = "xoxb-good"
    scopes: set[str] = field(default_factory=lambda: {"chat:write", "channels:read", "channels:history"})
    page_size: int = 200
    n_requests: int = 0
    clock_s: float | None = None  # Slack's own clock; then messages before `oldest` are not shown
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Base URL of the Web API."""
        return f"http://127.0.0.1:{self.server.server_address[1]}/api/"

    @property
    def webhook_url(self) -> str:
        """URL of the incoming webhook."""
        return f"http://127.0.0.1:{self.server.server_address[1]}{WEBHOOK_PATH}"

    def keys(self) -> list[str]:
        """The alert_key of every posted message, in order."""
        return [one.body["metadata"]["event_payload"]["alert_key"] for one in self.posted]

    def post(self, channel: str, body: dict[str, Any]) -> Posted:
        """Let a message appear."""
        second = 1_790_000_000 if self.clock_s is None else int(self.clock_s)
        self.posted.append(Posted(channel, f"{second + len(self.posted)}.000100", body))
        return self.posted[-1]


class _Handler(BaseHTTPRequestHandler):
    slack: FakeSlack

    def do_POST(self) -> None:
        slack = self.slack
        slack.n_requests += 1
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "json" in self.headers.get("Content-Type", ""):
            body = json.loads(raw or b"{}")
        else:
            body = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
        if self.path == WEBHOOK_PATH:
            self._post(slack.script.pop(0) if slack.script else Answer(), "webhook", body)
        elif self.headers.get("Authorization") != f"Bearer {slack.token}":
            self._json({"ok": False, "error": "invalid_auth"})
        else:
            self._method(self.path.removeprefix("/api/"), body)

    def _method(self, method: str, body: dict[str, Any]) -> None:
        slack = self.slack
        if method == "auth.test":
            self._json({"ok": True, "team": "Test", "user": "monitor"})
        elif method == "conversations.list":
            listed = [{"name": name, "id": channel_id} for name, channel_id in slack.channels.items()]
            self._guarded("channels:read", {"ok": True, "channels": listed, "response_metadata": {"next_cursor": ""}})
        elif method == "conversations.history":
            answer = slack.lookups.pop(0) if slack.lookups else Answer()
            if answer.status != 200 or answer.error:
                self._answer(answer, {})
            else:
                self._guarded("channels:history", self._history(body))
        elif method == "chat.postMessage":
            channel = str(body["channel"])
            channel_id = slack.channels.get(
                channel.lstrip("#"), channel if channel in slack.channels.values() else None
            )
            if channel_id is None:
                self._json({"ok": False, "error": "channel_not_found"})
            else:
                self._post(slack.script.pop(0) if slack.script else Answer(), channel_id, body)

    def _history(self, body: dict[str, Any]) -> dict[str, Any]:
        slack = self.slack
        if body["channel"] not in slack.channels.values():
            return {"ok": False, "error": "channel_not_found"}
        oldest = 0.0 if slack.clock_s is None else float(body.get("oldest") or 0)
        here = [one for one in reversed(slack.posted) if one.channel == body["channel"] and float(one.ts) >= oldest]
        start = int(body.get("cursor") or 0)
        page = here[start : start + slack.page_size]
        more = str(start + slack.page_size) if start + slack.page_size < len(here) else ""
        shown = [{"ts": one.ts, "text": one.body["text"], "metadata": one.body.get("metadata")} for one in page]
        return {"ok": True, "messages": shown, "response_metadata": {"next_cursor": more}}

    def _post(self, answer: Answer, channel: str, body: dict[str, Any]) -> None:
        posted = self.slack.post(channel, body) if answer.accepts else None
        if answer.silent:
            self.slack.ended.wait(30)
        if answer.silent or answer.drops:
            self.close_connection = True
            return
        self._answer(answer, {"ok": True, "channel": channel, "ts": posted.ts if posted else "0"})

    def _answer(self, answer: Answer, good: dict[str, Any]) -> None:
        headers = {"Retry-After": answer.retry_after} if answer.retry_after else {}
        if self.path == WEBHOOK_PATH or answer.page is not None or answer.status >= 400:
            self._write(answer.status, answer.page or answer.error or "ok", "text/html", headers)
        else:
            self._json({"ok": False, "error": answer.error} if answer.error else good)

    def _guarded(self, scope: str, good: dict[str, Any]) -> None:
        self._json(good if scope in self.slack.scopes else {"ok": False, "error": "missing_scope"})

    def _json(self, answer: dict[str, Any]) -> None:
        self._write(200, json.dumps(answer), "application/json", {})

    def _write(self, status: int, text: str, kind: str, headers: dict[str, str]) -> None:
        encoded = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(encoded)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as http.server names it
        pass


def dead_url() -> str:
    """A base_url of this machine where nothing listens."""
    return f"http://127.0.0.1:{free_port()}/api/"


@contextmanager
def running_slack(port: int = 0) -> Iterator[FakeSlack]:
    """A fresh Slack without messages, on this machine; port 0 is a free one."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    fake = FakeSlack(server)
    handler.slack = fake  # type: ignore[attr-defined]  # the class made above
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        fake.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    """`running_slack` for one test."""
    with running_slack() as fake:
        yield fake
