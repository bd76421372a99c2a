"""CSV files through the whole daemon: every row once, in the right day, equal to pandas on the input and the scores."""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cli_runs import Cli
from daemon_process import wait_until, write_config
from fixtures_daemon import RunOnce
from forked_daemon import ForkedDaemon
from stored import check_days, check_file, check_totals, is_refreshed, n_posts, posts, select, url_in
from test_models_linear import make_linear_bundle
from traffic import FIELDS, csv_bytes, drop, rows

from models.corpora import CLASSES
from models.linear_plan import LinearPlan

N_ROWS = 3_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An installation with an empty inbox."""
    (tmp_path / "inbox").mkdir()
    return tmp_path


def test_a_file_is_counted_as_pandas_counts_it(
    folder: Path, tiny_bundle: str, run_once: RunOnce, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows, daily rows and ma3 equal the reference; the same again, renamed and with ten rows corrected, adds ten."""
    config = write_config(folder, scoring={"bundle": tiny_bundle})
    given = rows(N_ROWS)
    content = drop(folder, "posts.csv", csv_bytes(given))
    assert run_once(config) == 0
    assert f"inbox: {N_ROWS} counted, 0 seen before, 0 refused" in capsys.readouterr().out
    check_file(url_in(folder), content)
    check_totals(url_in(folder))

    for number in range(10):
        given[number * 50] = given[number * 50] | {"text": f"corrected {number}"}
    drop(folder, "posts-corrected.csv", csv_bytes(given))
    assert run_once(config) == 0
    assert f"inbox: 10 counted, {N_ROWS - 10} seen before, 0 refused" in capsys.readouterr().out
    assert n_posts(url_in(folder)) == N_ROWS + 10
    check_totals(url_in(folder))
    check_days(url_in(folder), posts(url_in(folder)))
    (report,) = (folder / "inbox" / "done").glob("*-posts-corrected.csv.report.txt")
    assert f"rows counted:     10\nrows seen before: {N_ROWS - 10}\nrows refused:     0\n" in report.read_text()


def test_days_are_right_when_the_daemon_has_stopped(folder: Path, tiny_bundle: str) -> None:
    """Whoever drops a file, sees it done and stops the daemon has its days, however rarely it refreshes; one that was
    killed leaves them to its next start, and `report` says so.
    """
    config = write_config(folder, scoring={"bundle": tiny_bundle}, schedule={"refresh_s": 3600})
    for number, is_killed in enumerate((True, False)):
        with ForkedDaemon(config) as daemon:
            daemon.wait_ready()
            wait_until(lambda: daemon.ask("/readyz")[0] == 200, "the first refresh, with nothing to do")
            before = n_posts(url_in(folder))
            drop(folder, f"posts-{number}.csv", csv_bytes(rows(300, seed=number)))
            wait_until(partial(has_grown, url_in(folder), before + 300), "the posts")
            if is_killed:
                daemon.kill()
            else:
                assert daemon.stop() == 0
        assert is_refreshed(url_in(folder)) != is_killed
        assert ("a daemon refreshes them" in Cli(config).run("report").stderr) == is_killed
    check_days(url_in(folder), posts(url_in(folder)))


def test_a_run_that_was_stopped_says_so(
    folder: Path, tiny_bundle: str, run_once: RunOnce, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal before the end is no failure, but not everything was read: the last line says so."""
    config = write_config(folder, scoring={"bundle": tiny_bundle})
    drop(folder, "posts.csv", csv_bytes(rows(300)))
    assert run_once(config, is_stopping=True) == 0
    assert "stopped by a signal, perhaps before the end" in capsys.readouterr().out
    assert run_once(config) == 0
    assert "inbox: 300 counted" in (out := capsys.readouterr().out)
    assert "stopped" not in out


def has_grown(url: str, n: int) -> bool:
    """Whether so many posts are stored."""
    return n_posts(url) == n


@pytest.mark.parametrize("classes", [("negative", "positive"), CLASSES], ids=["two classes", "three"])
def test_a_linear_bundle_is_served(
    folder: Path, run_once: RunOnce, capsys: pytest.CaptureFixture[str], classes: tuple[str, ...]
) -> None:
    """Weights of words in place of a network: named in the configuration, rows and days as with any other."""
    bundle = make_linear_bundle(folder / "words", LinearPlan(), classes)
    config = write_config(folder, scoring={"bundle": str(bundle)})
    drop(folder, "posts.csv", csv_bytes(rows(300)))
    assert run_once(config) == 0
    assert "inbox: 300 counted, 0 seen before, 0 refused" in capsys.readouterr().out
    check_totals(url_in(folder))
    check_days(url_in(folder), posts(url_in(folder)))
    (model,) = set(select(url_in(folder), "SELECT model FROM posts")["model"])
    assert str(model).startswith("words@")


@pytest.mark.parametrize("has_offset", [True, False], ids=["with offsets", "without offsets"])
def test_days_are_those_of_the_zone_over_both_clock_changes(
    folder: Path, tiny_bundle: str, run_once: RunOnce, has_offset: bool
) -> None:
    """Europe/Berlin in March and October 2026: every half hour of the days around, given in UTC or in local time."""
    config = write_config(folder, scoring={"bundle": tiny_bundle}, time_zone="Europe/Berlin")
    zone = ZoneInfo("Europe/Berlin")
    starts = [datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)]
    moments = [start + timedelta(minutes=30 * step) for start in starts for step in range(2 * 48)]
    local = [moment.astimezone(zone) for moment in moments]
    stamps = [moment.isoformat() if has_offset else moment.replace(tzinfo=None).isoformat(" ") for moment in local]
    drop(
        folder,
        "dst.csv",
        csv_bytes([dict(zip(FIELDS, (stamp, f"post {n}", "", "acme"), strict=True)) for n, stamp in enumerate(stamps)]),
    )
    assert run_once(config) == 0
    found = posts(url_in(folder)).set_index("row").sort_index()
    assert list(found["day"]) == [moment.date().isoformat() for moment in local]
    # an ambiguous local time is the first of the two; in October that is the hour before the clocks go back
    expected = [moment if has_offset else moment.replace(tzinfo=None, fold=0).replace(tzinfo=zone) for moment in local]
    stored = select(url_in(folder), "SELECT position, created_at FROM posts")
    stored["row"] = stored["position"].str.rpartition(":")[2].astype(int)
    assert list(stored.set_index("row").sort_index()["created_at"]) == [
        moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f") for moment in expected
    ]
    check_days(url_in(folder), found)


def test_a_time_that_the_clocks_skip_moves_forward(folder: Path, tiny_bundle: str, run_once: RunOnce) -> None:
    """02:30 on the last Sunday of March 2026 does not exist in Berlin: it is taken as 03:30 summer time."""
    config = write_config(folder, scoring={"bundle": tiny_bundle}, time_zone="Europe/Berlin")
    drop(folder, "skipped.csv", b"created_at,text\n2026-03-29 02:30,nobody saw this hour\n")
    assert run_once(config) == 0
    assert select(url_in(folder), "SELECT created_at FROM posts").iloc[0, 0] == "2026-03-29 01:30:00.000000"


def test_a_killed_daemon_goes_on_in_the_middle_of_a_file(folder: Path, tiny_bundle: str) -> None:
    """SIGKILL while a file is read: the next start resumes it, every row counts once, the report adds up."""
    scoring = {"bundle": tiny_bundle, "max_batch_posts": 200}
    config = write_config(folder, scoring=scoring)
    content = drop(folder, "big.csv", csv_bytes(rows(12_000, seed=2)))
    with ForkedDaemon(config) as daemon:
        wait_until(lambda: n_posts(url_in(folder)) >= 1_000, "the first rows")
        daemon.kill()
    n_first = n_posts(url_in(folder))
    assert n_first < 12_000
    with ForkedDaemon(config) as daemon:
        wait_until(lambda: n_posts(url_in(folder)) == 12_000 and is_refreshed(url_in(folder)), "every row")
        wait_until(lambda: any((folder / "inbox" / "done").glob("*-big.csv")), "the end of the file")
        assert daemon.stop() == 0
    check_file(url_in(folder), content)
    check_totals(url_in(folder))
    (report,) = (folder / "inbox" / "done").glob("*.report.txt")
    assert "rows counted:     12000\nrows seen before: 0\nrows refused:     0\n" in report.read_text()
