"""Commands that look into the store and change it, on SQLite and on PostgreSQL."""

import csv
import io
import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from batches import DAY, NOW, STREAM, everything, letter, post, rows, rules, scored
from cli_runs import Cli, make_cli, seed
from sqlalchemy import insert

from monitor.config import Config
from monitor.posts import StreamPartition
from monitor.store import daily, evaluation, files, instances, positions
from monitor.store import settings as store_settings
from monitor.store.database import Database
from monitor.store.saving import Saver
from monitor.store.schema import alerts

POSTS = {"name": "posts", "kind": "kafka", "bootstrap_servers": ["127.0.0.1:1"], "topics": ["posts"]}
INBOX = {"name": "inbox", "kind": "drop_folder", "path": "inbox"}


@pytest.fixture
def cli(tmp_path: Path, store_url: str, database: Database) -> Cli:
    """Commands over a seeded database, once of each kind."""
    seed(database)
    return make_cli(tmp_path, store_url)


def lines_of(output: str) -> list[dict[str, object]]:
    """The objects of JSON lines."""
    return [json.loads(line) for line in output.splitlines()]


def test_report_prints_the_daily_rows(cli: Cli, database: Database) -> None:
    """`report` prints brand, day, total, positives, mean_pos and ma3 with all their digits, in order."""
    found = list(csv.DictReader(io.StringIO(cli.ok("report"))))
    assert list(found[0]) == ["brand", "created_at", "total", "positives", "mean_pos", "ma3"]
    stored = daily.daily_rows(database)
    assert len(found) == len(stored) == 24
    for line, row in zip(found, stored, strict=True):
        assert (line["brand"], line["created_at"]) == (row.brand, row.day.isoformat())
        assert (int(line["total"]), int(line["positives"])) == (row.total, row.positives)
        assert (float(line["mean_pos"]), float(line["ma3"])) == (row.mean_pos, row.ma3)


def test_report_takes_brand_and_days(cli: Cli) -> None:
    """--brand, --since and --until choose rows; both days are included."""
    since, until = DAY - timedelta(days=3), DAY - timedelta(days=1)
    output = cli.ok("report", "--brand", "globex", "--since", str(since), "--until", str(until))
    assert [line.split(",")[:2] for line in output.splitlines()[1:]] == [
        ["globex", str(since + timedelta(days=n))] for n in range(3)
    ]


def test_report_lists_alert_days_on_stderr(cli: Cli) -> None:
    """Days with ma3 under the threshold are listed on standard error, and do not disturb the CSV."""
    result = cli.run("report")
    headline, *listed = result.stderr.splitlines()
    assert headline == "ALERT DAYS:"
    assert [line.split()[:2] for line in listed[1:]] == [["acme", str(DAY - timedelta(days=1))], ["acme", str(DAY)]]
    assert "ALERT" not in result.stdout
    assert cli.run("report", "--brand", "globex").stderr == "ALERT DAYS: none\n"


def test_report_writes_files(cli: Cli, tmp_path: Path) -> None:
    """-o and --plot write whole files, and leave nothing beside them."""
    cli.ok("report", "-o", str(tmp_path / "out" / ".." / "report.csv"), "--plot", str(tmp_path / "plot.png"))
    assert (tmp_path / "report.csv").read_text(encoding="utf-8") == cli.ok("report")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*.part"))


def test_a_report_without_matplotlib_lacks_the_plot_alone(tmp_path: Path, sqlite_url: str) -> None:
    """Where matplotlib is missing, CSV and alert days come all the same, and then the hint."""
    with closing(Database(sqlite_url)) as database:
        seed(database)
    config = make_cli(tmp_path, sqlite_url).config
    code = (
        "import sys; sys.modules['matplotlib'] = None; from monitor.cli import main; "
        f"sys.argv = ['x', 'report', '--plot', 'plot.png', '--config', {str(config)!r}]; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert len(ended.stdout.splitlines()) == 25
    headline, *_, hint = ended.stderr.splitlines()
    assert (headline, "pip install matplotlib" in hint) == ("ALERT DAYS:", True)


def test_a_file_that_cannot_be_written_is_named(cli: Cli, tmp_path: Path) -> None:
    """An output that cannot be written is told with its name and why, without a traceback."""
    stderr = cli.fails(1, "report", "-o", str(tmp_path / "missing" / "report.csv"))
    assert stderr == f"sentiment-monitor: {tmp_path / 'missing' / 'report.csv'}: No such file or directory\n"


def test_alerts_list_and_show(cli: Cli, database: Database) -> None:
    """What was decided is listed, for people and as JSON lines, and its message printed as Slack shows it."""
    evaluation.evaluate_all(database, Config(), NOW)
    table = cli.ok("alerts", "list").splitlines()
    assert table[0].split()[:3] == ["alert_key", "state", "rule_ma3"]
    listed = lines_of(cli.ok("alerts", "list", "--json"))
    pending = [alert for alert in listed if alert["state"] == "pending"]
    assert [alert["brand"] for alert in pending] == ["acme"]
    key = str(pending[0]["alert_key"])
    message = cli.ok("alerts", "show", key)
    assert "acme" in message
    assert "0.45" in message
    assert lines_of(cli.ok("alerts", "list", "--json", "--state", "sent")) == []
    assert "there is no alert" in cli.fails(2, "alerts", "show", "acme/2026-01-01/dip")


def test_a_brand_cannot_steer_the_terminal_by_its_key(cli: Cli, database: Database) -> None:
    """Wherever a key is said again, what would move the cursor is shown as a sign of its own."""
    key = "\x1b]0;mine\x07/2026-11-01/dip"
    row = {"brand": "b", "day": NOW.date(), "kind": "dip", "attempts": 0, "created_at": NOW, "message": None}
    rows = [row | {"alert_key": key, "state": "pending", "last_error": "\x1b[2Jgone"}]
    database.run(lambda connection: connection.execute(insert(alerts), rows))
    for words in (("alerts", "list"), ("alerts", "show", key), ("alerts", "drop", key)):
        result = cli.run(*words)
        assert result.exit_code == 0
        assert "/2026-11-01/dip" in result.output
        assert not {"\x1b", "\x07"} & set(result.output), words


def test_alerts_drop(cli: Cli, database: Database) -> None:
    """An alert that waits can be given up, once."""
    evaluation.evaluate_all(database, Config(), NOW)
    key = str(lines_of(cli.ok("alerts", "list", "--json", "--state", "pending"))[0]["alert_key"])
    assert cli.ok("alerts", "drop", key) == f"dropped {key}\n"
    assert lines_of(cli.ok("alerts", "list", "--json", "--state", "pending")) == []
    assert "waits" in cli.fails(2, "alerts", "drop", key)


def test_alerts_simulate_writes_nothing(cli: Cli, database: Database) -> None:
    """The rules are tried on stored history by day, and nothing is stored."""
    found = lines_of(cli.ok("alerts", "simulate", "--since", str(DAY - timedelta(days=11)), "--json"))
    assert ("acme", "dip") in {(alert["brand"], alert["kind"]) for alert in found}
    assert {alert["brand"] for alert in found} == {"acme"}
    assert rows(database, "SELECT count(*) FROM alerts") == [(0,)]
    assert cli.run("alerts", "simulate", "--since", "2030-01-01").stderr == "nothing would have been sent\n"


def test_deadletters_list_and_show(cli: Cli) -> None:
    """Refused records are listed latest first, filtered by reason, and shown with their content."""
    listed = lines_of(cli.ok("deadletters", "list", "--json"))
    assert [(one["reason"], one["position"]) for one in listed] == [("empty_text", 5001), ("bad_json", 5000)]
    (bad,) = lines_of(cli.ok("deadletters", "list", "--reason", "bad_json", "--json"))
    number = str(bad["dead_letter_id"])
    assert cli.ok("deadletters", "show", number).splitlines()[-1] == "{"
    assert cli.ok("deadletters", "show", number, "--raw") == "{"
    assert lines_of(cli.ok("deadletters", "show", number, "--json"))[0]["raw"] == "{"
    assert "there is no dead letter 999" in cli.fails(2, "deadletters", "show", "999")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("deadletters list --source inbux", "there is no source inbux; configured are inbox"),
        ("deadletters list --reason bad_jason", "there is no reason 'bad_jason'; there are bad_json,"),
        ("deadletters replay --source inbux", "there is no source inbux"),
        ("deadletters replay --id 999", "there is no dead letter 999"),
        ("deadletters purge --id 1 --id 998 --yes", "there is no dead letter 998"),
        ("alerts list --state waiting", "there is no state 'waiting'; there are pending,"),
    ],
)
def test_what_is_not_there_is_wrong_usage(tmp_path: Path, sqlite_url: str, words: str, sentence: str) -> None:
    """A misspelt filter must not look like an empty answer: exit code 2, and what there is."""
    with closing(Database(sqlite_url)) as database:
        seed(database)
    assert sentence in make_cli(tmp_path, sqlite_url).fails(2, *words.split())


def test_names_never_stored_are_told(tmp_path: Path, sqlite_url: str) -> None:
    """A brand, file, id or user that may come yet is no wrong usage: the empty answer says that there is none."""
    with closing(Database(sqlite_url)) as database:
        seed(database)
    cli = make_cli(tmp_path, sqlite_url)
    for words in ("report", "alerts list", "alerts simulate --since 2026-11-01"):
        told = cli.run(*words.split(), "--brand", "acne")
        assert (told.exit_code, told.stderr.splitlines()[0]) == (
            0,
            "there is no brand acne; stored so far: acme, globex",
        )
    for option in ("file", "id", "user"):
        told = cli.run("posts", "forget", f"--{option}", "nosuch", "--yes")
        assert (told.exit_code, told.stderr) == (0, f"there is no {option} nosuch in what is stored\n")
    assert "there is no" not in cli.run("posts", "forget", "--user", "user1", "--yes").stderr


def test_deadletters_are_safe_to_look_at(cli: Cli, database: Database) -> None:
    """Escape sequences in a refused record do not reach the terminal."""
    bad = msgspec.structs.replace(letter(6000), raw=b"\x1b[31mred\x07\n\xe2\x80\xaeleft")
    Saver(database, rules()).save(scored([bad]))
    number = str(lines_of(cli.ok("deadletters", "list", "--json", "--limit", "1"))[0]["dead_letter_id"])
    assert cli.ok("deadletters", "show", number).splitlines()[-2:] == ["\ufffd[31mred\ufffd", "\ufffdleft"]


def test_deadletters_purge(cli: Cli, database: Database) -> None:
    """Dead letters go when told which, and only those."""
    assert cli.ok("deadletters", "purge", "--before", "2026-01-01", "--yes") == "0 dead letters deleted\n"
    assert cli.ok("deadletters", "purge", "--source", "posts", "--yes") == "2 dead letters deleted\n"
    assert rows(database, "SELECT count(*) FROM dead_letters") == [(0,)]


@pytest.mark.parametrize(
    ("words", "question"),
    [
        ("deadletters purge --all", "Delete 2 dead letters for good? [y/N]"),
        ("posts forget --user user3", "Delete 137 posts of 12 days, and what finished files and alerts have of them"),
        ("db rebuild-days", "Count every day of "),
    ],
)
def test_what_deletes_asks_first(cli: Cli, database: Database, words: str, question: str) -> None:
    """Without --yes it says how much it is about; no is an answer, and none at all needs --yes. Neither changes
    anything."""
    before = everything(database) | {"settings": []}
    no, none = cli.run(*words.split(), input="n\n"), cli.run(*words.split(), input="")
    assert question in no.stderr
    assert (no.exit_code, no.stdout, no.stderr.splitlines()[-1]) == (0, "", "nothing was changed")
    assert (none.exit_code, none.stdout) == (2, "")
    assert "with --yes it is done without asking" in none.stderr
    assert everything(database) | {"settings": []} == before  # where the key of hashed users is made
    assert cli.run(*words.split(), input="y\n").exit_code == 0


def test_posts_forget_corrects_the_days(cli: Cli, database: Database) -> None:
    """A user's posts go, and totals and daily rows are right at once."""
    (before,) = rows(database, "SELECT count(*) FROM posts WHERE user_id = 'user3'")
    output = cli.ok("posts", "forget", "--user", "user3", "--yes")
    assert output.startswith(f"{before[0]} posts forgotten, 24 days corrected")
    assert rows(database, "SELECT count(*) FROM posts WHERE user_id = 'user3'") == [(0,)]
    assert rows(database, "SELECT sum(total) FROM daily_sentiment") == rows(database, "SELECT count(*) FROM posts")
    assert cli.ok("db", "check") == "totals and posts agree\n"
    assert cli.ok("posts", "forget", "--id", "id-1", "--yes").startswith("1 posts forgotten, 1 days corrected")


def test_db_commands(cli: Cli, database: Database) -> None:
    """Versions are told, a recount agrees, and where it does not the figures are named and rebuilt."""
    assert cli.ok("db", "upgrade").endswith("nothing to do\n")
    assert "(this program: " in cli.ok("db", "current")
    assert cli.ok("db", "check") == "totals and posts agree\n"
    day = DAY.isoformat()
    change = f"UPDATE daily_totals SET n = 39 WHERE brand = 'acme' AND day = '{day}'"
    database.run(lambda connection: connection.exec_driver_sql(change))
    result = cli.run("db", "check")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].endswith("n 39, should be 40")
    store_settings.claim_time_zone(database, "UTC")
    assert cli.ok("db", "rebuild-days", "--yes") == "days are counted in UTC; 0 posts moved to another day\n"
    assert cli.ok("db", "check") == "totals and posts agree\n"


def test_rebuild_days_moves_posts_to_another_zone(tmp_path: Path, store_url: str, database: Database) -> None:
    """Another time_zone is refused by `check` until `db rebuild-days` has counted every day again in it."""
    late = msgspec.structs.replace(post(0, day=DAY), created_at=datetime(2026, 11, 20, 23, 30, tzinfo=UTC))
    Saver(database, rules()).save(scored([late]))
    store_settings.claim_time_zone(database, "UTC")
    cli = make_cli(tmp_path, store_url, time_zone="Europe/Berlin")
    assert "its days are counted in UTC, not Europe/Berlin" in cli.run("check").stdout
    assert cli.ok("db", "rebuild-days", "--yes") == "days are counted in Europe/Berlin; 1 posts moved to another day\n"
    assert [row.day for row in daily.daily_rows(database)] == [date(2026, 11, 21)]
    assert "its days are counted" not in cli.run("check").stdout


def test_rebuild_days_refuses_beside_a_daemon(cli: Cli, database: Database) -> None:
    """Days are not counted again while a daemon writes."""
    instances.beat(database, "host:1:1", "all", NOW, datetime.now(UTC), {})
    assert "a daemon runs" in cli.fails(2, "db", "rebuild-days", "--yes")


def test_sources_list_shows_positions(tmp_path: Path, store_url: str, database: Database) -> None:
    """Waiting files, files under way, and Kafka positions with why one is paused, though no broker answers."""
    seed(database)
    positions.pause(database, "posts", "7 of 10 refused", {})
    positions.reset(database, "old", StreamPartition("gone@1", 2), 5)
    files.take(database, "inbox", "20261121T101500Z-a.csv", "a.csv", "ab" * 32, NOW)
    positions.reset(database, "inbox", StreamPartition("ab" * 32, 0), 17)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "processing").mkdir()
    for name in ("b.csv", "c.csv.gz", "d.txt", ".e.csv", "processing/20261121T101500Z-a.csv"):
        (tmp_path / "inbox" / name).touch()
    cli = make_cli(tmp_path, store_url, sources=[INBOX, POSTS])
    result = cli.run("sources", "list", "--json")
    assert result.exit_code == 0
    assert "no Kafka broker answers" in result.stderr
    waiting, under_way, topic, gone = lines_of(result.stdout)
    assert (waiting["source"], waiting["lag"]) == ("inbox", 3)
    assert (under_way["stream"], under_way["next_offset"]) == ("processing/20261121T101500Z-a.csv", 17)
    assert (topic["stream"], topic["next_offset"], topic["lag"]) == (STREAM, 5002, None)
    assert topic["paused"] == "7 of 10 refused"
    assert (gone["source"], gone["kind"], gone["next_offset"]) == ("old", "not configured", 5)


def test_sources_resume(tmp_path: Path, store_url: str, database: Database) -> None:
    """A paused source reads again and is judged afresh."""
    seed(database)
    positions.pause(database, "posts", "too many refused", {})
    cli = make_cli(tmp_path, store_url, sources=[POSTS])
    assert cli.ok("sources", "resume", "posts") == "posts reads again\n"
    assert positions.paused(database) == {}
    assert rows(database, "SELECT count(*) FROM recent_outcomes") == [(0,)]
    assert cli.ok("sources", "resume", "posts") == "posts was not paused\n"


def test_seek_refuses_what_it_cannot_do(tmp_path: Path, store_url: str, database: Database) -> None:
    """A drop folder has no position; a running daemon would not notice; brokers that are away are told with 69."""
    cli = make_cli(tmp_path, store_url, sources=[INBOX, POSTS])
    assert "drop a file again" in cli.fails(2, "sources", "seek", "inbox", "--to-beginning")
    assert "no Kafka broker answers" in cli.fails(69, "sources", "seek", "posts", "--to-beginning")
    instances.beat(database, "host:1:1", "all", NOW, datetime.now(UTC), {})
    assert "a daemon runs" in cli.fails(2, "sources", "seek", "posts", "--to-beginning")


def daemon_state() -> dict[str, object]:
    """What a daemon says of itself with every beat."""
    counts = {"lag": 12, "records": 900, "inserted": 890, "seen_before": 4, "refused": 6, "records_per_s": 31.5}
    parts = [{"name": "store", "ok": True, "detail": ""}, {"name": "slack", "ok": False, "detail": "invalid_auth"}]
    jobs = {"refresh": {"at": datetime.now(UTC).isoformat(), "outcome": "ok"}}
    return {"parts": parts, "sources": {"posts": {"kind": "kafka", "paused": None, **counts}}, "jobs": jobs}


def test_status_shows_the_running_daemons(cli: Cli, database: Database) -> None:
    """Parts, sources with lag and rates, job runs, alerts and dead letters of a daemon that lives; else 69."""
    assert "no daemon runs" in cli.fails(69, "status")
    now = datetime.now(UTC)
    instances.beat(database, "host:7:1", "all", now - timedelta(minutes=5), now, daemon_state())
    positions.pause(database, "posts", "too many refused", {})
    shown = cli.ok("status")
    for expected in ("daemon host:7:1, role all, up 5 min", "slack: invalid_auth", "refresh ok", "31.5"):
        assert expected in shown
    for expected in ("1 bad_json, 1 empty_text", "sources resume posts"):
        assert expected in shown
    (as_json,) = lines_of(cli.ok("status", "--json"))
    assert as_json["daemons"][0]["sources"]["posts"]["lag"] == 12  # type: ignore[index]
    assert as_json["dead_letters"] == {"bad_json": 1, "empty_text": 1}
