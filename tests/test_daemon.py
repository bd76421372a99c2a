"""The daemon as a process: start, readiness, signals, exit codes, a second daemon, reload, and how `--once` ends."""

import json
import re
import shutil
import signal
import socket
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from daemon_process import DaemonProcess, command, wait_until, write_config
from fixtures_daemon import RunOnce
from fixtures_slack import Answer, FakeSlack
from forked_daemon import ForkedDaemon
from ports import free_port
from stored import is_refreshed, n_posts, select, url_in
from traffic import csv_bytes, drop, rows

from monitor.errors import ConfigError


def with_other(config: Path, name: str, **sections: Any) -> Path:
    """A second configuration beside the first."""
    document = yaml.safe_load(config.read_text()) | sections
    path = config.with_name(name)
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: str) -> Iterator[DaemonProcess]:
    """One daemon on the embedded default, ready, for the tests that only look at it."""
    folder = tmp_path_factory.mktemp("daemon")
    with DaemonProcess(write_config(folder, scoring={"bundle": tiny_bundle})) as daemon:
        yield daemon.wait_ready()


def test_a_ready_daemon_counts_what_is_dropped(running: DaemonProcess) -> None:
    """Ready: every part is named and ok; a file dropped then gets its daily rows; the log is JSON lines."""
    status, parts = running.ask("/readyz")
    assert status == 200
    assert {line.split(":")[0] for line in parts.splitlines()} == {"ok   bundle", "ok   store", "ok   source inbox"}
    assert running.ask("/livez") == (200, "ok\n")
    folder = running.config.parent
    n_before = n_posts(url_in(folder))
    drop(folder, "posts.csv", csv_bytes(rows(70)))
    wait_until(
        lambda: n_posts(url_in(folder)) == n_before + 70 and is_refreshed(url_in(folder)),
        "the posts and their daily rows",
    )
    drop(folder, "empty.csv", b"")
    for metric in (
        'posts_saved_total{outcome="inserted",source="inbox"} 70.0',
        'dead_letters_total{reason="bad_file",source="inbox"} 1.0',
    ):
        wait_until(lambda metric=metric: f"sentiment_monitor_{metric}" in running.ask("/metrics")[1], metric)  # type: ignore[misc]
    events = [json.loads(line)["event"] for line in running.log().splitlines()]
    assert {"bundle loaded", "started", "a file is through"} <= set(events)


def test_sighup_reloads_the_alert_rules_and_keeps_the_old_ones_when_they_are_wrong(running: DaemonProcess) -> None:
    """A good file is taken over, a wrong one is named in the log; the daemon goes on either way."""
    good = running.config.read_text()
    with_other(running.config, running.config.name, alerts={"threshold": 0.3})
    running.send(signal.SIGHUP)
    wait_until(lambda: "alert rules reloaded" in running.log(), "the reload")
    with_other(running.config, running.config.name, alerts={"treshold": 0.3})
    running.send(signal.SIGHUP)
    wait_until(lambda: "the old alert rules stay" in running.log(), "the refusal")
    assert "treshold" in running.log()
    running.config.write_text(good)
    assert running.is_ready()


def test_a_second_daemon_on_the_same_sqlite_file_is_refused_in_plain_words(running: DaemonProcess) -> None:
    """Exit 69 naming the remedy, whether the port is taken as well or another one; the first goes on."""
    for config in (running.config, with_other(running.config, "second.yaml", http={"port": free_port()})):
        done = command("run", config=config)
        assert done.returncode == 69
        assert "Another daemon is already using" in done.stderr
        assert "PostgreSQL" in done.stderr
    once = command("run", "--once", config=running.config)
    assert (once.returncode, once.stdout) == (69, "")
    assert once.stderr.splitlines()[-1].startswith("sentiment-monitor: Another daemon is already using")
    assert running.is_ready()


def test_a_taken_port_is_refused_in_plain_words(tmp_path: Path, tiny_bundle: str) -> None:
    """Exit 69 naming host and port, before anything else is done."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = write_config(tmp_path, scoring={"bundle": tiny_bundle}, http={"port": taken.getsockname()[1]})
        done = command("run", config=config)
    assert done.returncode == 69
    assert "cannot listen on http.host 127.0.0.1, http.port" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_wrong_configuration_ends_with_78_before_anything_starts(tmp_path: Path) -> None:
    """The message names key, value and what is allowed, one line a problem."""
    config = write_config(tmp_path, time_zone="Mars/Olympus", scoring={"max_batch_posts": 0}, alrets={})
    done = command("run", config=config)
    assert done.returncode == 78
    for word in ("time_zone", "Mars/Olympus", "max_batch_posts", "alrets"):
        assert word in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_an_altered_bundle_ends_with_78_naming_the_file(tmp_path: Path, tiny_bundle: str) -> None:
    """One byte of the weights changed: refused by its hash, no model is half loaded and no database made."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    weights = bytearray((bundle / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (bundle / "weights.safetensors").write_bytes(weights)
    done = command("run", config=write_config(tmp_path, scoring={"bundle": str(bundle)}))
    assert done.returncode == 78
    assert "weights.safetensors" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_busy_finishes_the_batch_in_hand(
    number: signal.Signals, tmp_path: Path, tiny_bundle: str, run_once: RunOnce
) -> None:
    """Exit 0 with whole batches stored, and the next start counts the rest: nothing lost, nothing twice."""
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle, "max_batch_posts": 100})
    drop(tmp_path, "posts.csv", csv_bytes(rows(8_000)))
    with ForkedDaemon(config) as daemon:
        wait_until(lambda: n_posts(url_in(tmp_path)) > 300, "the first batches")
        assert daemon.stop(number) == 0
    n_stored = n_posts(url_in(tmp_path))
    assert n_stored % 100 == 0
    assert select(url_in(tmp_path), "SELECT next_offset FROM positions").iloc[0, 0] == n_stored
    assert "could not be finished" not in daemon.log()
    if number == signal.SIGTERM:
        assert run_once(config) == 0
        assert n_posts(url_in(tmp_path)) == 8_000


@pytest.mark.postgres
def test_the_roles_share_the_work(postgres_url: str, tmp_path: Path, tiny_bundle: str) -> None:
    """`ingest` stores posts and computes no daily rows; `schedule` computes them and loads no model."""
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle}, store={"url": postgres_url})
    other = with_other(config, "schedule.yaml", http={"port": free_port()})
    with ForkedDaemon(config, "--role", "ingest") as ingest:
        drop(tmp_path, "posts.csv", csv_bytes(rows(80)))
        wait_until(lambda: n_posts(postgres_url) == 80, "the posts")
        assert not is_refreshed(postgres_url)
        with ForkedDaemon(other, "--role", "schedule") as schedule:
            wait_until(lambda: is_refreshed(postgres_url), "the daily rows")
            schedule.wait_ready()
            assert "bundle" not in schedule.ask("/readyz")[1]
            assert schedule.stop() == 0
        assert ingest.stop() == 0


def test_a_stop_while_store_and_broker_are_away_is_quick(tmp_path: Path, tiny_bundle: str) -> None:
    """Nothing answers at the start: the daemon says what it waits for, lives, and ends with 0 at the first signal."""
    broker = {
        "name": "posts",
        "kind": "kafka",
        "bootstrap_servers": ["127.0.0.1:1"],
        "topics": ["posts"],
        "group_id": "g",
    }
    sections = {
        "sources": [broker],
        "scoring": {"bundle": tiny_bundle},
        "store": {"url": "postgresql://monitor@127.0.0.1:1/none"},
    }
    with ForkedDaemon(write_config(tmp_path, **sections)) as daemon:
        wait_until(lambda: "WAIT store: The database" in daemon.ask("/readyz")[1], "the store to be named")
        assert daemon.ask("/readyz")[0] == 503
        assert daemon.ask("/livez")[0] == 200
        assert daemon.stop(deadline_s=8) == 0
    assert daemon.log().count("store is not available") == 1


def test_a_second_signal_leaves_at_once(tmp_path: Path, tiny_bundle: str, slack: FakeSlack) -> None:
    """A message on its way to a Slack that does not answer holds the first stop; the second one ends it with 128+n."""
    slack.script.append(Answer(silent=True))
    alerts = {"threshold": 1.0, "certainty": 0, "min_posts": 1, "hold_s": 0, "slack": {"base_url": slack.url}}
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle}, alerts=alerts)
    drop(tmp_path, "posts.csv", csv_bytes(rows(50)))
    with ForkedDaemon(config, env={"SLACK_BOT_TOKEN": slack.token}) as daemon:
        wait_until(lambda: slack.n_requests > 0, "the first message on its way")
        daemon.send(signal.SIGTERM)
        wait_until(lambda: "stopping" in daemon.log(), "the first stop")
        assert daemon.stop(signal.SIGTERM, deadline_s=2) == 128 + signal.SIGTERM
    assert list(select(url_in(tmp_path), "SELECT state FROM alerts WHERE state = 'sending'")["state"]) == ["sending"]


def test_once_ends_with_65_after_too_much_bad_input(
    tmp_path: Path, tiny_bundle: str, run_once: RunOnce, capsys: pytest.CaptureFixture[str]
) -> None:
    """More than half of a file's rows are bad: it goes to failed/, nothing of it counts, the next file does."""
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle})
    bad = "".join("2026-11-20T10:00,\n" if number % 5 else f"2026-11-20T10:00,good {number}\n" for number in range(400))
    drop(tmp_path, "a-bad.csv", b"created_at,text\n" + bad.encode())
    drop(tmp_path, "b-good.csv", csv_bytes(rows(60)))
    assert run_once(config) == 65
    assert n_posts(url_in(tmp_path)) == 60
    assert [path.name[17:] for path in sorted((tmp_path / "inbox" / "failed").glob("*.csv"))] == ["a-bad.csv"]
    assert [path.name[17:] for path in sorted((tmp_path / "inbox" / "done").glob("*.csv"))] == ["b-good.csv"]
    printed = capsys.readouterr().out
    assert "60 counted" in printed
    assert re.search(r"inbox: failed/\S+-a-bad\.csv: \d+ of the last \d+ .*empty_text \d+ \(first on line 3", printed)


@pytest.mark.parametrize("url", ["postgresql://monitor@127.0.0.1:1/none", "sqlite:////proc/none/sentiment.db"])
def test_once_ends_with_69_when_the_store_stays_away(
    url: str, tmp_path: Path, tiny_bundle: str, run_once: RunOnce
) -> None:
    """After --wait-s seconds, without having touched a file."""
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle}, store={"url": url})
    drop(tmp_path, "posts.csv", csv_bytes(rows(10)))
    assert run_once(config, wait_s=0.3) == 69
    assert [path.name for path in (tmp_path / "inbox").iterdir()] == ["posts.csv"]


def test_once_ends_with_69_while_alerts_wait_for_slack(
    tmp_path: Path, tiny_bundle: str, run_once: RunOnce, slack: FakeSlack
) -> None:
    """The posts are counted, the alert stays in the outbox, and the next run delivers it."""
    slack.script.extend([Answer(status=503, posts=False)] * 50)
    alerts = {"threshold": 1.0, "certainty": 0, "min_posts": 1, "slack": {"base_url": slack.url}}
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle}, alerts=alerts, brand="acme")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    post = {"created_at": f"{yesterday}T10:00", "text": "meh"}
    drop(tmp_path, "posts.csv", csv_bytes([post], ("created_at", "text")))
    assert run_once(config, wait_s=0.5, SLACK_BOT_TOKEN=slack.token) == 69
    assert n_posts(url_in(tmp_path)) == 1
    assert slack.posted == []
    slack.script.clear()
    assert run_once(config, wait_s=20, SLACK_BOT_TOKEN=slack.token) == 0
    assert len(slack.posted) == 1


def test_once_refuses_a_database_of_a_newer_program(tmp_path: Path, tiny_bundle: str, run_once: RunOnce) -> None:
    """Exit 78 in plain words; the database stays as it is."""
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle})
    assert run_once(config) == 0
    with sqlite3.connect(tmp_path / "data" / "sentiment.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ConfigError, match="newer"):
        run_once(config)
    assert ConfigError.exit_code == 78


def test_once_ends_with_0_and_tells_what_it_refused(tmp_path: Path, tiny_bundle: str) -> None:
    """As a process: dead letters are no failure, their counts are printed."""
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle})
    drop(
        tmp_path,
        "posts.csv",
        b"created_at,text,user_id\n2026-11-20T10:00,fine,a\n2026-11-20T10:00,,b\nyesterday,so so,c\n",
    )
    done = command("run", "--once", config=config)
    assert done.returncode == 0
    assert "inbox: 1 counted, 0 seen before, 2 refused (bad_created_at 1, empty_text 1)" in done.stdout
