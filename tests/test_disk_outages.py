"""A disk that fills, or may not be written, under a whole daemon: it says so, waits, and goes on by itself."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from daemon_process import wait_until, write_config
from fixtures_disk import fill, resize, seen_at
from forked_daemon import ForkedDaemon
from stored import check_days, check_file, check_totals, is_refreshed, n_posts, posts
from traffic import csv_bytes, drop, rows

N_ROWS = 9_000  #: more than a small disk holds


def finished(inbox: Path) -> list[str]:
    """Files in done/, by the names they were dropped under."""
    found = sorted(path.name for path in (inbox / "done").iterdir())
    return [name.partition("-")[2] for name in found if not name.endswith(".report.txt")]


def check_reports(inbox: Path, *n_counted: int) -> None:
    """Each file in done/ has its report, a whole one that names so many rows, and nothing else is there."""
    reports = sorted((inbox / "done").glob("*.report.txt"))
    assert len(list((inbox / "done").iterdir())) == 2 * len(reports)
    found = [re.findall(r"^rows counted: +(\d+)$", report.read_text(), re.MULTILINE) for report in reports]
    assert found == [[str(n)] for n in n_counted]


def waits(daemon: ForkedDaemon, part: str, why: str) -> bool:
    """Whether /readyz says that the daemon waits for that part, and why; it must be alive then."""
    status, told = daemon.ask("/readyz")
    if status != 503 or not any(line.startswith(f"WAIT {part}:") and why in line for line in told.splitlines()):
        return False
    assert daemon.ask("/livez") == (200, "ok\n")
    return True


@pytest.mark.parametrize("is_stopped", [False, True], ids=["all along", "stopped and started while it is full"])
def test_a_daemon_waits_for_a_full_disk_under_its_database(
    small_disk: Path, tmp_path: Path, tiny_bundle: str, is_stopped: bool
) -> None:
    """Its own rows fill the disk: it says so once, lives, stops in time, and every row is counted once in the end."""
    resize(small_disk, "3m")
    url = f"sqlite:///{small_disk}/sentiment.db"
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle, "max_batch_posts": 200}, store={"url": url})
    with ExitStack() as stack:
        daemon = stack.enter_context(ForkedDaemon(config))
        content = drop(tmp_path, "posts.csv", csv_bytes(rows(N_ROWS)))
        wait_until(lambda: waits(daemon, "store", "full"), "the full disk to be told")
        assert 0 < n_posts(url) < N_ROWS
        assert "posts.csv" not in finished(tmp_path / "inbox")
        if is_stopped:
            assert daemon.stop() == 0
            daemon = stack.enter_context(ForkedDaemon(config))
            wait_until(lambda: waits(daemon, "store", "full"), "the full disk to be told again")
        assert 'sentiment_monitor_part_up{part="store"} 0.0' in daemon.ask("/metrics")[1]
        resize(small_disk, "64m")
        wait_until(lambda: n_posts(url) == N_ROWS and is_refreshed(url), "the rest")
        wait_until(lambda: finished(tmp_path / "inbox") == ["posts.csv"] and daemon.is_ready(), "readiness")
        check_file(url, content)
        check_totals(url)
        check_reports(tmp_path / "inbox", N_ROWS)
        assert daemon.stop() == 0
    assert daemon.log().count("store is not available") == 1
    assert daemon.log().count("store works again") == 1


@contextmanager
def without_room(disk: Path, inbox: Path) -> Iterator[None]:
    """No byte can be written; what is there can be moved."""
    ballast = fill(disk)
    yield
    ballast.unlink()


@contextmanager
def not_to_be_written(disk: Path, inbox: Path) -> Iterator[None]:
    """The inbox with all that is below it is read-only."""
    with seen_at(disk, inbox, read_only=True):
        yield


@contextmanager
def nothing_to_be_filed(disk: Path, inbox: Path) -> Iterator[None]:
    """Files can be taken and read; only done/ is read-only."""
    (disk / "done").mkdir(exist_ok=True)
    with seen_at(disk / "done", inbox / "done", read_only=True):
        yield


Outage = Callable[[Path, Path], AbstractContextManager[None]]


@pytest.mark.parametrize("when", ["before the file", "while it is read"])
@pytest.mark.parametrize(
    ("outage", "why"),
    [
        (without_room, "No space left"),
        (not_to_be_written, "Read-only file system"),
        (nothing_to_be_filed, "Read-only file system"),
    ],
    ids=["full", "read-only", "done read-only"],
)
def test_a_daemon_waits_for_a_folder_that_cannot_be_written(
    small_disk: Path, tmp_path: Path, tiny_bundle: str, outage: Outage, why: str, when: str
) -> None:
    """It says so once, counts what it can read, and files, moves and reports when the folder can be written again."""
    inbox, url = tmp_path / "inbox", f"sqlite:///{tmp_path}/data/sentiment.db"
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle, "max_batch_posts": 100})
    content = csv_bytes(rows(4_000))
    (small_disk / "a.csv.part").write_bytes(content)
    with seen_at(small_disk, inbox), ForkedDaemon(config) as daemon:
        daemon.wait_ready()
        if when == "before the file":
            with outage(small_disk, inbox):
                (small_disk / "a.csv.part").rename(small_disk / "a.csv")
                wait_until(lambda: waits(daemon, "source inbox", why), "the folder to be missed")
        else:
            (small_disk / "a.csv.part").rename(small_disk / "a.csv")
            wait_until(lambda: n_posts(url) > 0, "the first rows")
            with outage(small_disk, inbox):
                wait_until(lambda: waits(daemon, "source inbox", why), "the folder to be missed")
                assert n_posts(url) == 4_000
                assert finished(inbox) == []
        wait_until(lambda: finished(inbox) == ["a.csv"] and is_refreshed(url), "the file to be through")
        check_file(url, content)
        drop(tmp_path, "b.csv", csv_bytes(rows(70, seed=2)))
        wait_until(lambda: finished(inbox) == ["a.csv", "b.csv"] and daemon.is_ready(), "the next file")
        wait_until(lambda: is_refreshed(url), "the daily rows")
        assert n_posts(url) == 4_070
        check_totals(url)
        check_days(url, posts(url))
        check_reports(inbox, 4_000, 70)
        assert daemon.stop() == 0
    assert daemon.log().count("source inbox is not available") == 1
    assert daemon.log().count("source inbox works again") == 1
