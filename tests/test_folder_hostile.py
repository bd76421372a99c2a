"""A drop folder that others may write to: nothing leads out of it, nothing in it stops or swells the monitor."""

import gzip
import os
import resource
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from batches import post, rows, rules, scored
from fixtures_disk import fill, seen_at

from monitor.config import DropFolderSection
from monitor.errors import SourceUnavailable, StoreUnavailable
from monitor.parsing import Parser
from monitor.posts import Batch, DeadLetter, Post, Reason, Record, Saved
from monitor.sources.drop_folder import DropFolder
from monitor.sources.memory import MemoryPositions
from monitor.store import migrate
from monitor.store.database import Database
from monitor.store.saving import Saver

NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
STAMP = "20261121T101500Z"
HEADER = b"created_at,text,user_id\n"
SECRET = b"created_at,text\n2026-11-20,not yours to read\n"


class Folder:
    """A drop folder outside of which lies a file that must stay unread, and the source that reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path / "inbox"
        self.outside = path / "outside.csv"
        self.outside.write_bytes(SECRET)
        self.positions = MemoryPositions()
        self.section = DropFolderSection(name="inbox", kind="drop_folder", path=self.path, settle_s=0)
        self.path.mkdir(exist_ok=True)
        self.source = self.make()

    def make(self) -> DropFolder:
        """A source, not opened."""
        parser = Parser(self.section, "acme", UTC, 1000)
        return DropFolder(self.section, parser, self.positions, lambda: NOW, path=self.path, rescan_s=0.0)

    def put(self, name: str | bytes, content: bytes) -> Path:
        """A file of a minute ago."""
        path = self.path / os.fsdecode(name)
        path.write_bytes(content)
        os.utime(path, (NOW.timestamp() - 60, NOW.timestamp() - 60))
        return path

    def read(self) -> list[Record]:
        """All that is ready, saved and committed; the folder may take a few polls to find a change.

        A file is looked through in steps, which are many polls on a busy machine.
        """
        records: list[Record] = []
        n_idle = 0
        while n_idle < 3 or (n_idle < 100 and any(self.source.lag().values())):
            polled = self.source.poll(500, 0.05)
            batch = Batch("inbox", polled.records, polled.positions, polled.file, polled.ends_file)
            records += batch.records
            n_idle = 0 if batch.records or batch.ends_file else n_idle + 1
            self.positions.offsets.update(batch.positions)
            if batch.records or batch.ends_file:
                self.source.commit(batch, Saved(len(batch.posts), 0, {}))
        return records

    def names(self, place: str = "") -> list[str]:
        """What lies there, the monitor's own folders and lock left out."""
        ours = {"processing", "done", "failed", ".lock"}
        return sorted(path.name for path in (self.path / place).iterdir() if path.name not in ours)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """An open drop folder."""
    made = Folder(tmp_path)
    made.source.open()
    yield made
    made.source.close()
    assert made.outside.read_bytes() == SECRET


def csv(*texts: str) -> bytes:
    """A file of these texts."""
    return HEADER + b"".join(b"2026-11-20,%s,u\n" % text.encode() for text in texts)


def texts_of(records: list[Record]) -> list[str]:
    """The texts of the accepted records."""
    return [record.text for record in records if isinstance(record, Post)]


# ---- nothing leads out of it -------------------------------------------------------------------------------------


def test_links_and_devices_are_never_read(folder: Folder) -> None:
    """Symbolic links to files and folders, pipes and sockets stay where they are, whatever their names."""
    (folder.path / "link.csv").symlink_to(folder.outside)
    (folder.path / "loop.csv").symlink_to("loop.csv")
    (folder.path / "folder.csv").symlink_to(folder.path.parent)
    (folder.path / "zero.csv").symlink_to("/dev/zero")
    os.mkfifo(folder.path / "pipe.csv")
    (folder.path / "real.csv").mkdir()
    folder.put("good.csv", csv("one"))
    assert texts_of(folder.read()) == ["one"]
    assert folder.names() == ["folder.csv", "link.csv", "loop.csv", "pipe.csv", "real.csv", "zero.csv"]
    assert folder.names("failed") == []


def into_link(path: Path, outside: Path) -> None:
    """Put a link to `outside` in the file's place."""
    path.unlink()
    path.symlink_to(outside)


def into_pipe(path: Path, outside: Path) -> None:
    """Put a pipe that nobody writes to in the file's place."""
    path.unlink()
    os.mkfifo(path)


def into_folder(path: Path, outside: Path) -> None:
    """Put a folder in the file's place."""
    path.unlink()
    path.mkdir()


def into_nothing(path: Path, outside: Path) -> None:
    """Cut the file to no bytes."""
    os.truncate(path, 0)


def away(path: Path, outside: Path) -> None:
    """Remove the file."""
    path.unlink()


@pytest.mark.parametrize("change", [into_link, into_pipe, into_folder, into_nothing, away])
def test_a_file_exchanged_while_the_monitor_was_away(folder: Folder, change: Callable[[Path, Path], None]) -> None:
    """What lies in processing/ instead of a taken file is not followed or waited for: that file fails, others go on."""
    folder.put("a.csv", csv("one", "two"))
    polled = folder.source.poll(1, 1.0)
    assert texts_of(polled.records) == ["one"]
    folder.source.close()
    change(folder.path / "processing" / f"{STAMP}-a.csv", folder.outside)
    folder.source = folder.make()
    folder.source.open()
    folder.put("b.csv", csv("three"))
    assert texts_of(folder.read()) == ["three"]
    assert folder.names("processing") == []
    assert list(folder.positions.outcomes.values()) == ["failed", "done"]


@pytest.mark.parametrize("change", [into_link, into_folder, away])
def test_a_file_exchanged_before_it_is_taken(folder: Folder, change: Callable[[Path, Path], None]) -> None:
    """Between two scans: it is another thing now, which is not read."""
    path = folder.put("a.csv", csv("one"))
    folder.source.mark_end()
    change(path, folder.outside)
    assert folder.read() == []
    assert folder.source.reached_end()


@pytest.mark.parametrize("place", ["processing", "done", "failed"])
def test_a_link_in_place_of_our_own_folders_is_refused(tmp_path: Path, place: str) -> None:
    """Taken files cannot be led elsewhere; the sentence names the link."""
    folder = Folder(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder.path / place).symlink_to(elsewhere)
    with pytest.raises(SourceUnavailable, match=f"{place} in it is a symbolic link"):
        folder.source.open()
    folder.source.close()
    assert list(elsewhere.iterdir()) == []


def test_a_link_put_in_place_of_done_later_is_refused_too(folder: Folder) -> None:
    """The file stays in processing/ until the link is gone, and then moves on."""
    elsewhere = folder.path.parent / "elsewhere"
    elsewhere.mkdir()
    (folder.path / "done").rmdir()
    (folder.path / "done").symlink_to(elsewhere)
    folder.put("a.csv", csv("one"))
    with pytest.raises(SourceUnavailable, match="symbolic link"):
        folder.read()
    (folder.path / "done").unlink()
    folder.read()
    assert list(elsewhere.iterdir()) == []
    assert f"{STAMP}-a.csv" in folder.names("done")


def test_reports_and_locks_are_never_written_through_links(tmp_path: Path) -> None:
    """A link that waits under the name of a report is replaced; one under the name of the lock is refused."""
    folder = Folder(tmp_path)
    (folder.path / "done").mkdir()
    report = folder.path / "done" / f"{STAMP}-a.csv.report.txt"
    report.symlink_to(folder.outside)
    folder.put("a.csv", csv("one"))
    folder.source.open()
    folder.read()
    folder.source.close()
    assert "rows counted" in report.read_text()
    assert not report.is_symlink()
    assert folder.outside.read_bytes() == SECRET
    (folder.path / "processing" / ".lock").unlink()
    (folder.path / "processing" / ".lock").symlink_to(folder.outside)
    with pytest.raises(SourceUnavailable, match="symbolic links"):
        folder.source.open()
    folder.source.close()


NAMES = [
    b"-rf.csv",
    b"..\\..\\up.csv",
    b"%2e%2e%2fup.csv",
    b"~root.csv",
    b"$(reboot).csv",
    b"a\nb\x1b[2J.csv",
    b"\xff\xfe.csv",
    "\u202etxt.csv".encode(),
    b"x" * 251 + b".csv",
    f"{STAMP}-taken.csv".encode(),
    b"con.csv.gz.csv",
    b".csv.csv",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_no_name_leads_elsewhere(folder: Folder, name: bytes) -> None:
    """Odd names become files in done/ with safe names, their reports beside them, and nothing anywhere else."""
    before = set(folder.path.parent.rglob("*"))
    folder.put(name, csv("one"))
    records = folder.read()
    if name.startswith(b"."):
        assert records == []
        return
    assert texts_of(records) == ["one"]
    made = set(folder.path.parent.rglob("*")) - before
    assert {path.parent for path in made} == {folder.path / "done"}
    moved, report = sorted(path.name for path in made)
    assert report == f"{moved}.report.txt"
    assert moved.isprintable()
    assert report in {path.name for path in (folder.path / "done").iterdir()}
    assert all(line.isprintable() for line in (folder.path / "done" / report).read_text().splitlines())


def test_names_that_are_taken_in_done_and_failed_are_left_alone(folder: Folder) -> None:
    """A clash, dangling links among them, gets a number; what lay there keeps its bytes."""
    (folder.path / "done" / f"{STAMP}-a.csv").write_bytes(b"older")
    (folder.path / "failed" / f"{STAMP}.2-a.csv").symlink_to("nowhere")
    (folder.path / "done" / f"{STAMP}.3-a.csv").mkdir()
    folder.put("a.csv", csv("one"))
    assert texts_of(folder.read()) == ["one"]
    assert f"{STAMP}.4-a.csv" in folder.names("done")
    assert (folder.path / "done" / f"{STAMP}-a.csv").read_bytes() == b"older"


# ---- nothing in it stops or swells the monitor -------------------------------------------------------------------


def bomb(n_bytes: int) -> bytes:
    """A gzip file of valid rows, in many members, that is two hundred and more times smaller than its content."""
    block = b"2026-11-20,aaaaaaaaaa,u\n" * 43_690
    return gzip.compress(HEADER) + gzip.compress(block) * (n_bytes // len(block) + 1)


def test_a_compression_bomb_is_stopped_by_size_and_ratio(folder: Folder) -> None:
    """Past 256 MiB nothing may have grown 200 times: the file fails with a sentence, in bounded memory."""
    folder.put("bomb.csv.gz", bomb(300 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while not folder.positions.dead_files:
        assert folder.source.poll(100, 0.5).records == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
    [letter] = folder.positions.dead_files
    assert (letter.reason, letter.place.offset) == (Reason.BAD_FILE, -1)
    assert letter.detail == "bomb.csv.gz: it grows more than 200 times when decompressed"
    assert folder.names("failed") == [f"{STAMP}-bomb.csv.gz", f"{STAMP}-bomb.csv.gz.report.txt"]


GZIPPED = gzip.compress(csv("one", "two"), mtime=0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (gzip.compress(GZIPPED, mtime=0), "compressed"),
        (GZIPPED[:-6], "not a whole gzip file"),
        (GZIPPED + b"more", "not a whole gzip file"),
        (b"\x1f\x8b\x08\x08" + b"\x00" * 6 + b"n" * 100_000, "not a whole gzip file"),
        (b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\x03\xff\xff", "not a whole gzip file"),
        (gzip.compress(b"\0" * 5_000_000, mtime=0), "not text"),
        (gzip.compress(b"x" * 3_000_000, mtime=0), "header row cannot be read"),
        (b"", "it is empty"),
    ],
    ids=["twice", "cut", "more behind", "endless name", "endless extra", "zeros", "one line", "empty"],
)
def test_gzip_files_that_are_none(folder: Folder, content: bytes, sentence: str) -> None:
    """Every kind of broken gzip is one dead letter with a sentence, and the next file is read."""
    folder.put("a.csv.gz", content)
    folder.put("b.csv", csv("three"))
    assert texts_of(folder.read()) == ["three"]
    found = [letter.detail for letter in folder.positions.dead_files]
    assert len(found) == 1
    assert sentence in found[0]


@pytest.mark.parametrize("more", [b'2026-11-20,"never closed,u\n' * 40, b"\xff\xfe\x00\n" * 40, b"2026-11-20,four,u"])
def test_a_file_that_grows_after_it_was_taken(folder: Folder, more: bytes) -> None:
    """Its writer still holds it open: what is appended is read by the same rules, row by row."""
    folder.put("a.csv", csv("one", "two", "three"))
    assert texts_of(folder.source.poll(1, 1.0).records) == ["one"]
    with (folder.path / "processing" / f"{STAMP}-a.csv").open("ab") as file:
        file.write(more)
    records = folder.read()
    assert texts_of(records)[:2] == ["two", "three"]
    assert all(isinstance(record, Post | DeadLetter) for record in records)
    assert list(folder.positions.outcomes.values()) == ["done"]


def test_a_file_cut_while_it_is_read(folder: Folder) -> None:
    """Rows that are gone are not invented; the file ends and the next one is read."""
    folder.put("a.csv", csv(*(f"text {n}" * 50 for n in range(2000))))
    assert len(folder.source.poll(1, 1.0).records) == 1
    os.truncate(folder.path / "processing" / f"{STAMP}-a.csv", 0)
    folder.put("b.csv", csv("next"))
    assert texts_of(folder.read())[-1] == "next"
    assert len(folder.positions.outcomes) == 2


@pytest.mark.parametrize("is_replaced", [False, True], ids=["removed", "replaced"])
def test_a_file_that_goes_while_it_is_read(folder: Folder, *, is_replaced: bool) -> None:
    """Its rows are read to their end as they were when it was taken, it ends, and the next file is read."""
    folder.put("a.csv", csv("one", "two", "three"))
    assert texts_of(folder.source.poll(1, 1.0).records) == ["one"]
    taken = folder.path / "processing" / f"{STAMP}-a.csv"
    if is_replaced:
        folder.put("new.part", csv("another")).rename(taken)
    else:
        taken.unlink()
    folder.put("b.csv", csv("next"))
    assert texts_of(folder.read()) == ["two", "three", "next"]
    assert list(folder.positions.outcomes.values()) == ["done", "done"]


def test_many_files_cost_no_more_per_file_than_few(folder: Folder) -> None:
    """Until the first file is taken the folder is listed at most three times and one file opened, however many wait."""
    for number in range(2000):
        folder.put(f"{number:05}.csv", csv(f"text {number}"))
    counted: dict[str, int] = {"open": 0, "os.scandir": 0}
    inbox = str(folder.path)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event in counted and str(arguments[0]).startswith(inbox):
            counted[event] += 1

    sys.addaudithook(count)
    assert texts_of(folder.source.poll(10, 1.0).records) == ["text 0"]
    inbox = "nowhere"
    assert counted["os.scandir"] <= 6  # the folder and processing/, three times
    assert counted["open"] <= 3  # inspection, its header, and reading


# ---- disks -------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_waited_for(small_disk: Path) -> None:
    """The report has no room: the file stays in processing/, counted once, and moves when there is room again."""
    folder = Folder(small_disk)
    folder.source.open()
    folder.put("a.csv", csv("one"))
    ballast = fill(small_disk)
    with pytest.raises(SourceUnavailable, match="No space left"):
        folder.read()
    assert folder.names("processing") == [f"{STAMP}-a.csv"]
    ballast.unlink()
    assert folder.read() == []
    assert folder.names("done") == [f"{STAMP}-a.csv", f"{STAMP}-a.csv.report.txt"]
    assert "rows counted" in (folder.path / "done" / f"{STAMP}-a.csv.report.txt").read_text()
    folder.source.close()


def test_a_database_on_a_full_disk_loses_nothing(small_disk: Path) -> None:
    """A save without room is unavailable and leaves nothing; the same batch goes in whole once there is room."""
    db = Database(f"sqlite:///{small_disk}/sentiment.db")
    migrate.upgrade(db)
    saver = Saver(db, rules())
    saver.save(scored([post(0)]))
    ballast = fill(small_disk)
    batch = scored([post(offset, text="words " * 100) for offset in range(1, 500)])
    with pytest.raises(StoreUnavailable, match=r"full|disk"):
        saver.save(batch)
    assert rows(db, "SELECT count(*) FROM posts") == [(1,)]
    ballast.unlink()
    assert saver.save(batch).n_inserted == 499
    assert rows(db, "SELECT sum(n) FROM daily_totals") == [(500,)]
    db.close()


def test_a_read_only_folder_is_waited_for(small_disk: Path, tmp_path: Path) -> None:
    """Nothing can be moved: said in a sentence, the file not taken, and read when the folder can be written again."""
    read_only, link = tmp_path / "read-only", tmp_path / "link"
    link.symlink_to(small_disk)
    folder = Folder(link)
    with seen_at(small_disk, read_only, read_only=True):
        folder.source.open()
        folder.put("a.csv", csv("one"))
        link.unlink()
        link.symlink_to(read_only)
        with pytest.raises(SourceUnavailable, match="Read-only file system"):
            folder.read()
        link.unlink()
        link.symlink_to(small_disk)
        assert texts_of(folder.read()) == ["one"]
        assert folder.names() == []
        folder.source.close()
