"""`demo`: the real daemon in a fresh folder, fed by a simulator; shows rows arriving, the daily table and the alert."""

import logging
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from monitor import daemon, settings
from monitor.errors import MonitorError
from monitor.settings import Secrets
from monitor.signals import Signals
from monitor.simulator import Simulator, drop
from monitor.store import alerts as alert_store
from monitor.store import daily
from monitor.store.database import Database

log = logging.getLogger(__name__)

POSTS_PER_FILE = 12
PORT = 8080  #: of the status page, if it is free
FILE_EVERY_S = 1.0
SAY_EVERY_S = 2.0


def demo(port: int | None = None) -> int:
    """Run until Ctrl-C. Reads no secret and nothing of the current folder; `port` of the status page: `PORT` if free,
    else any."""
    folder = Path(tempfile.mkdtemp(prefix="sentiment-monitor-demo-"))
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(_configuration(_free_port(port)), sort_keys=False), encoding="utf-8")
    (folder / "inbox").mkdir()
    config = settings.load(path, environ={})
    signals = Signals()
    stop = threading.Event()
    story = [
        threading.Thread(target=_feed, args=(folder / "inbox", stop), name="simulator", daemon=True),
        threading.Thread(target=_tell, args=(path, config, port, stop), name="teller", daemon=True),
    ]
    with (folder / "daemon.log").open("w", encoding="utf-8") as log_file:
        for thread in story:
            thread.start()
        try:
            return daemon.run(
                config, secrets=Secrets({}), signals=signals, log_stream=log_file, announce=lambda _: None
            )
        finally:
            stop.set()
            for thread in story:
                thread.join(2)
            _say(_goodbye(folder))


def _configuration(port: int) -> dict[str, Any]:
    """The embedded default, only quicker, and with alerts on the running day from its first minute."""
    return {
        "sources": [{"name": "inbox", "kind": "drop_folder", "path": "inbox", "settle_s": 0.2}],
        "schedule": {"refresh_s": 1, "deliver_s": 1},
        "alerts": {"running_day_from": "00:00"},
        "http": {"port": port},
    }


def _free_port(wanted: int | None) -> int:
    import socket

    if wanted is not None:
        return wanted
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _feed(inbox: Path, stop: threading.Event) -> None:
    """Two weeks of history in one file, then today's posts, a few every second."""
    simulator = Simulator()
    drop(inbox, "history.csv", list(simulator.history(datetime.now(UTC))))
    n_files = 0
    while not stop.wait(FILE_EVERY_S):
        n_files += 1
        drop(inbox, f"today-{n_files:04d}.csv", list(simulator.today(datetime.now(UTC), POSTS_PER_FILE)))


def _tell(path: Path, config: Any, wanted_port: int | None, stop: threading.Event) -> None:
    """What the terminal shows: rows arriving, then once the alert is there the daily table and the alert."""
    _say(
        f"The monitor starts in {path.parent}\n"
        "Three simulated brands are writing into its drop folder; one of them is in trouble.\n"
    )
    db = Database(config.store_url())
    told: set[str] = set()
    url_told = False
    last_total = -1
    while not stop.wait(SAY_EVERY_S):
        try:
            rows = daily.daily_rows(db) if Path(str(db.path)).exists() else []
            alerts = alert_store.listing(db, limit=20) if rows else []
        except MonitorError:  # the tables are not there in the first second
            continue
        if not url_told:
            url_told = True
            taken = f" ({PORT} is taken)" if wanted_port is None and config.http.port != PORT else ""
            _say(f"Status page: http://127.0.0.1:{config.http.port}/{taken}\n")
        total = sum(row.total for row in rows)
        if total and total != last_total and not told:
            _say(f"  {total:6,d} posts scored, {len(rows)} daily rows")
        last_total = total
        for alert in alerts:
            if alert.alert_key not in told and alert.message is not None:
                told.add(alert.alert_key)
                _say(_table(rows))
                _say(_shown(alert))
                _say(_next_steps(path))
    db.close()


def _shown(alert: Any) -> str:
    from monitor.messages import as_text

    return as_text(alert.message) + "\n"


def _table(rows: Sequence[Any]) -> str:
    """The last five days of every brand, as in daily_sentiment."""
    since = max(row.day for row in rows) - timedelta(days=4)
    lines = ["", f"{'brand':18} {'day':10} {'total':>6} {'mean_pos':>9} {'ma3':>7}"]
    lines += [
        f"{row.brand:18} {row.day} {row.total:6d} {row.mean_pos:9.3f} {row.ma3:7.3f}"
        for row in rows
        if row.day >= since
    ]
    return "\n".join([*lines, ""])


def _next_steps(path: Path) -> str:
    return (
        "Posts keep coming until Ctrl-C. Meanwhile, in another terminal:\n"
        f"  {_program()} alerts list --config {path}\n"
        f"  {_program()} report --config {path}\n"
    )


def _goodbye(folder: Path) -> str:
    return (
        f"\nThe demo has ended; what it stored is in {folder} (delete it when you like).\n"
        "To watch your own posts:\n"
        f"  {_program()} init     writes a commented config.yaml\n"
        f"  {_program()} check    says whether everything is in place\n"
        f"  {_program()} run      starts the monitor; drop posts.csv (created_at,text,user_id) into inbox/"
    )


def _program() -> str:
    """How this program is called from here: by its name where the PATH has it, else by its place in the virtual
    environment."""
    own = Path(sys.executable).parent / "sentiment-monitor"
    if shutil.which("sentiment-monitor") or not own.exists():
        return "sentiment-monitor"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
