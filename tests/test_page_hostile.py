"""The status page in a real browser: whatever brands, posts, files and errors are called, they are shown as text.

A server of the test's own stands for the attacker's: whatever the page loads or runs would reach it.
"""

import html.parser
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from batches import micro, post, rules, scored
from services import require
from sqlalchemy import insert

from monitor.config import Config, HttpSection
from monitor.dashboard import page
from monitor.health import Health
from monitor.http import HttpServer
from monitor.metrics import Metrics
from monitor.store import daily
from monitor.store.database import Database
from monitor.store.saving import Saver
from monitor.store.schema import alerts

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: what the page may consist of; nothing here loads or runs anything
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "footer", "nav", "div", "section", "article",
    "h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "b", "strong", "em", "small", "span", "time", "table", "thead",
    "tbody", "tr", "th", "td", "details", "summary", "svg", "g", "line", "polyline", "polygon", "circle", "rect",
    "path", "text", "caption", "br", "a", "code",
}  # fmt: skip
PAYLOADS = (
    "<script>fetch('{url}/script')</script>",
    "<img src={url}/img onerror=fetch('{url}/onerror')>",
    "\"><svg onload=fetch('{url}/onload')>",
    "'><body onload=location='{url}/body'>",
    "<iframe src={url}/frame></iframe>",
    "<link rel=stylesheet href={url}/css>",
    "<style>@import '{url}/import';</style>",
    "<meta http-equiv=refresh content=0;{url}/go>",
    "<base href={url}/>",
    "<object data={url}/object>",
    "</title></style></script><script src={url}/src></script>",
    "<!--<script>-->{url}/comment",
    "&lt;script&gt;fetch(1)&lt;/script&gt;",
    "&#60;img src={url}/entity&#62;",
    "javascript:fetch('{url}/js')",
    "$now ${zone} $parts",
    "{{7*7}} ${7*7}",
    "\u202e\u2066right to left\u2069",
    "\x1b[2J\x9b2Jescape",
)


@pytest.fixture
def attacker() -> Iterator[tuple[str, list[str]]]:
    """Address of a server, and the paths that were asked of it."""
    asked: list[str] = []

    class Canary(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Canary)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()
    thread.join()


class Seen(html.parser.HTMLParser):
    """Tags, attributes and visible text of a document."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def browse(address: str, profile: Path) -> str:
    """The document as Chromium has it after loading and running it."""
    require(CHROMIUM is not None, "chromium")
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--disable-extensions", "--no-first-run", "--virtual-time-budget=2000", "--dump-dom", address]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    assert "</html>" in ended.stdout, ended.stderr[-1000:]
    return ended.stdout


@pytest.fixture
def rendered(
    attacker: tuple[str, list[str]], sqlite_url: str, open_database: Callable[[str], Database]
) -> tuple[str, list[str]]:
    """The page of a store full of payloads, and the payloads as they must be read on it."""
    url, _ = attacker
    db = open_database(sqlite_url)
    names = [payload.replace("{url}", url)[:100] for payload in PAYLOADS]
    today = datetime.now(UTC).date()
    records = [
        post(10 * n + back, brand=name, day=today - timedelta(days=back), user_id=name, text=name)
        for n, name in enumerate(names)
        for back in range(3)
    ]
    Saver(db, rules()).save(scored(records, [micro(300_000)] * len(records)))
    daily.refresh(db, datetime.now(UTC))
    values = {"day": today, "kind": "dip", "state": "pending", "attempts": 1, "created_at": datetime.now(UTC)}
    rows = [
        values | {"alert_key": f"{name}/{today}/dip", "brand": name, "message": name, "last_error": name}
        for name in names[:10]
    ]
    db.run(lambda connection: connection.execute(insert(alerts), rows))
    health = Health(Metrics())
    health.up("store", "sqlite")  # without it brands and alerts are not on the page
    for number, name in enumerate(names):
        health.up(f"part {number}", name)
        health.down(f"slack {number} {name}", name, needed=False)
    state = {"lag": 1, "inserted": 1, "seen_before": 0, "refused": 0, "records_per_s": 1.0}
    sources = {name: state | {"kind": name, "paused": name, "records": 3, "caught_up": True} for name in names}
    document = page.render(db, Config(), health, {"sources": sources, "parts": [], "jobs": {}})
    assert document.count("<section>") == len(names)
    return document, names


def test_the_page_is_text_and_nothing_else(
    rendered: tuple[str, list[str]], attacker: tuple[str, list[str]], tmp_path: Path
) -> None:
    """Without the protecting headers: no element, attribute or request came out of any payload, and all can be read."""
    document, names = rendered
    path = tmp_path / "page.html"
    path.write_text(document.replace('http-equiv="refresh"', 'name="refresh"'), encoding="utf-8")
    seen = Seen(browse(path.as_uri(), tmp_path / "profile"))
    assert attacker[1] == []
    assert seen.tags <= TAGS
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in {"src", "srcset", "action"}]
    assert not [value for name, value in seen.attributes if attacker[0] in value and name != "title"]
    assert not [value for _, value in seen.attributes if value.lower().startswith("javascript:")]
    for name in names:
        assert name.replace("\x1b", "").replace("\x9b", "") in seen.text.replace("\x1b", "").replace("\x9b", ""), name


def test_figures_stay_in_one_piece(rendered: tuple[str, list[str]], tmp_path: Path) -> None:
    """A brand's table breaks no number and fits its card, whatever the brands are called and how many posts they
    have."""
    document, _ = rendered
    measure = """<script>
      const rows = [...document.querySelectorAll('section tr')].map(row => row.getBoundingClientRect().height);
      const wide = [...document.querySelectorAll('section')].filter(card => card.scrollWidth > card.clientWidth);
      document.title = `${rows.length} rows, ${rows.filter(height => height > 34).length} broken, ${wide.length} wide`;
    </script>"""
    path = tmp_path / "page.html"
    wide = document.replace("<td>1</td>", "<td>123456</td>", 1).replace('http-equiv="refresh"', 'name="refresh"')
    path.write_text(wide.replace("</body>", measure + "</body>"), encoding="utf-8")
    seen = browse(path.as_uri(), tmp_path / "profile")
    assert f"<title>{4 * len(PAYLOADS)} rows, 0 broken, 0 wide</title>" in seen


def test_the_served_page_lets_nothing_run(
    rendered: tuple[str, list[str]], attacker: tuple[str, list[str]], tmp_path: Path
) -> None:
    """Should escaping ever fail, the headers still stop it: the payloads bare in a served page load and run nothing."""
    bare = "".join(name for name in rendered[1] if "refresh" not in name and "<base" not in name)
    metrics = Metrics()
    server = HttpServer(
        HttpSection(port=0), None, Health(metrics), metrics, lambda: f"<html><body>{bare}</body></html>"
    )
    server.start()
    try:
        browse(server.url, tmp_path / "profile")
    finally:
        server.stop()
    assert attacker[1] == []


def test_the_browser_would_have_run_them(attacker: tuple[str, list[str]], tmp_path: Path) -> None:
    """The payloads work where nothing stops them: the two tests above can fail."""
    path = tmp_path / "bare.html"
    bare = "".join(payload.replace("{url}", attacker[0]) for payload in PAYLOADS[:3])
    path.write_text(f"<html><body>{bare}</body></html>")
    browse(path.as_uri(), tmp_path / "profile")
    assert {"/script", "/img", "/onload"} <= set(attacker[1])
