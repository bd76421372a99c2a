"""The HTTP endpoints over a real socket."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from monitor.config import HttpSection
from monitor.errors import ConfigError, Unavailable
from monitor.health import Health
from monitor.http import MAX_BODY_BYTES, HttpServer
from monitor.metrics import Metrics
from monitor.posts import Score

SCORE = Score(0.75, 1, "positive", 0.2, 0.1, 0.7)


class Site:
    """A running server and what it reports on."""

    def __init__(self, token: str | None = None, host: str = "127.0.0.1") -> None:
        self.metrics = Metrics()
        self.health = Health(self.metrics, monotonic=lambda: self.now)
        self.now = 0.0
        self.server = HttpServer(
            HttpSection(host=host, port=0), token, self.health, self.metrics, lambda: "<p>page</p>"
        )
        self.server.start()

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
        url = f"http://127.0.0.1:{self.server.port}{path}"
        request = urllib.request.Request(url, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), dict(error.headers)


@pytest.fixture
def site() -> Iterator[Site]:
    """A server on localhost without a token."""
    site = Site()
    yield site
    site.server.stop()


@pytest.fixture
def guarded() -> Iterator[Site]:
    """A server on every address, with a token."""
    site = Site(token="open sesame", host="0.0.0.0")
    yield site
    site.server.stop()


def test_livez_tells_a_stuck_loop_and_nothing_else(site: Site) -> None:
    """A part that is away leaves /livez alone; a loop that no longer turns does not."""
    site.health.turn("saver")
    site.health.down("store", "away")
    assert site.ask("/livez")[0] == 200
    site.now = 121.0
    assert site.ask("/livez")[:2] == (503, "stuck: saver\n")
    site.health.turn("saver")
    assert site.ask("/livez")[0] == 200


def test_readyz_has_a_line_for_each_part(site: Site) -> None:
    """503 while a needed part is away; Slack is shown and does not count."""
    assert site.ask("/readyz")[0] == 503
    site.health.up("store", "sqlite")
    site.health.down("slack", "invalid_auth", needed=False)
    assert site.ask("/readyz")[:2] == (200, "ok   store: sqlite\nwarn slack: invalid_auth\n")
    site.health.down("source posts", "no broker")
    status, text, _ = site.ask("/readyz")
    assert (status, text.splitlines()[-1]) == (503, "WAIT source posts: no broker")


def test_metrics_carry_no_brand_and_no_user(site: Site) -> None:
    """Every label is one of a short, closed list."""
    site.metrics.posts_saved.labels("inbox", "inserted").inc(3)
    text = site.ask("/metrics")[1]
    assert 'sentiment_monitor_posts_saved_total{outcome="inserted",source="inbox"} 3.0' in text
    labels = {
        label for metric in site.metrics.registry.collect() for sample in metric.samples for label in sample.labels
    }
    assert labels <= {
        "source",
        "outcome",
        "reason",
        "stage",
        "part",
        "job_name",
        "state",
        "model",
        "device",
        "version",
        "le",
    }


def test_score_answers_in_the_order_of_the_texts(site: Site) -> None:
    """POST /score gives one score a text; without a bundle it says so."""
    body = json.dumps({"texts": ["a", "b"]}).encode()
    assert site.ask("/score", body)[0] == 503
    site.server.score = lambda texts: ("tiny@1", [SCORE] * len(texts))
    status, text, _ = site.ask("/score", body)
    answer = json.loads(text)
    assert (status, answer["model"], len(answer["scores"])) == (200, "tiny@1", 2)
    assert answer["scores"][0]["pos_prob"] == 0.75


@pytest.mark.parametrize("body", [b"", b"[]", b'{"texts": 1}', b'{"texts": ["a"], "more": 1}', b"\xff"])
def test_score_refuses_what_is_no_list_of_texts(site: Site, body: bytes) -> None:
    """A wrong body is 400 with a sentence, never a crash."""
    site.server.score = lambda texts: ("tiny@1", [SCORE] * len(texts))
    status, text, _ = site.ask("/score", body)
    assert (status, text) == (400, 'expected {"texts": ["...", "..."]}\n')


def test_score_limits_size_and_count(site: Site) -> None:
    """Too many texts or bytes are 413."""
    site.server.score = lambda texts: ("tiny@1", [SCORE] * len(texts))
    assert site.ask("/score", json.dumps({"texts": ["a"] * 1001}).encode())[0] == 413
    assert site.ask("/score", b" " * (MAX_BODY_BYTES + 1))[0] == 413


def test_pages_carry_security_headers(site: Site) -> None:
    """No sniffing, no framing, no script, no cross-origin permission."""
    status, text, headers = site.ask("/")
    assert (status, text) == (200, "<p>page</p>")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert not any(name.lower().startswith("access-control") for name in headers)


def test_without_a_token_only_local_names_are_served(site: Site) -> None:
    """A page on another site cannot reach the monitor by pointing its own name at this machine."""
    assert site.ask("/", Host="evil.example")[0] == 421
    assert site.ask("/", Host=f"localhost:{site.server.port}")[0] == 200


def test_off_localhost_a_token_is_needed(guarded: Site) -> None:
    """Everything but /livez and /readyz asks for the token."""
    assert guarded.ask("/livez")[0] == 200
    for path in ("/", "/metrics", "/score", "/nothing"):
        assert guarded.ask(path)[0] == 401
        assert guarded.ask(path, Authorization="Bearer wrong")[0] == 401
    assert guarded.ask("/metrics", Authorization="Bearer open sesame")[0] == 200


def test_off_localhost_without_a_token_is_refused() -> None:
    """The start is refused, in a sentence that names the remedy."""
    with pytest.raises(ConfigError, match="HTTP_TOKEN"):
        Site(host="0.0.0.0")


def test_a_taken_port_is_said_plainly(site: Site) -> None:
    """The message names host and port."""
    section = HttpSection(port=site.server.port)
    with pytest.raises(Unavailable, match=f"http.port {site.server.port}"):
        HttpServer(section, None, site.health, site.metrics, lambda: "")
