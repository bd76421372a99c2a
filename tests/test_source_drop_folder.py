"""The drop folder: which files are taken and when, how rows are read, what a crash or a broken disk leaves, what is
kept.
"""

import errno
import gzip
import io
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from privileges import without_privileges

from monitor import once
from monitor.batching import BatchLimits
from monitor.config import DropFolderSection
from monitor.errors import Refusals, SourceUnavailable, StoreUnavailable, TooManyRefused
from monitor.lanes import Lane
from monitor.parsing import Parser
from monitor.posts import Batch, DeadLetter, Post, Reason, Record, Saved, StreamPartition
from monitor.sources import file_rows, inspection
from monitor.sources.csv_rows import rows_of
from monitor.sources.drop_folder import FILES, DropFolder
from monitor.sources.folders import REPORT_SUFFIX, taken_at_of
from monitor.sources.memory import MemoryPositions
from monitor.sources.occurrences import Occurrences
from monitor.store.files import FileCounts

START = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
LONG_POLL_S = 8.0  #: far longer than a busy machine takes to pass on an event
EMPTY_POLLS = 3  #: in a row: then nothing is ready
HEADER = "created_at,text,user_id\n"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)


class Inbox:
    """A drop folder and its source; files get their times from the test's clock.

    Saving moves the positions as the store does.
    """

    def __init__(self, path: Path, **section: Any) -> None:
        self.path = path
        self.clock = Clock()
        self.positions = MemoryPositions()
        self.section = DropFolderSection(name="inbox", kind="drop_folder", path=path, **section)
        self.keep_text = True
        self.rescan_s = 0.01
        self.source = self.make()
        self.source.open()

    def make(self) -> DropFolder:
        parser = Parser(self.section, "acme", UTC, 1000)
        settings: Any = {"path": self.path, "keep_text": self.keep_text, "rescan_s": self.rescan_s}
        return DropFolder(self.section, parser, self.positions, self.clock, **settings)

    def restart(self) -> None:
        self.source.close()
        self.source = self.make()
        self.source.open()

    def drop(self, name: str, content: str | bytes, age_s: float = 60) -> Path:
        path = self.path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        moment = self.clock.now.timestamp() - age_s
        os.utime(path, (moment, moment))
        return path

    def poll(self, max_records: int = 500) -> Batch:
        polled = self.source.poll(max_records, 0.1)
        return Batch("inbox", polled.records, polled.positions, polled.file, polled.ends_file)

    def next(self, max_records: int = 500) -> Batch:
        """The next batch that has something; on a busy machine one poll may not get as far."""
        deadline = time.monotonic() + 20
        while True:
            batch = self.poll(max_records)
            if batch.records or batch.ends_file:
                return batch
            assert time.monotonic() < deadline

    def save(self, batch: Batch) -> None:
        for partition, offset in batch.positions.items():
            self.positions.offsets[partition] = max(offset, self.positions.offsets.get(partition, 0))
        self.source.commit(batch, Saved(len(batch.posts), 0, {}))

    def read(self, max_records: int = 500, at_least: int = 0) -> list[Record]:
        """Everything that is ready, saved and committed, and `at_least` so many records.

        Several empty polls in a row are the end: on a busy machine a single one may not get as far.
        """
        records: list[Record] = []
        n_empty = 0
        deadline = time.monotonic() + 20
        while True:
            batch = self.poll(max_records)
            records += batch.records
            assert time.monotonic() < deadline
            if batch.records or batch.ends_file:
                self.save(batch)
            n_empty = 0 if batch.records or batch.ends_file else n_empty + 1
            if n_empty >= EMPTY_POLLS and len(records) >= at_least:
                return records

    def names(self, place: str) -> list[str]:
        return sorted(path.name for path in (self.path / place).iterdir() if not path.name.startswith("."))


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    """An open, empty drop folder."""
    made = Inbox(tmp_path / "inbox")
    yield made
    made.source.close()


def csv(*texts: str) -> str:
    """A CSV file of these texts."""
    return HEADER + "".join(f"2026-11-20 09:00,{text},u\n" for text in texts)


def texts_of(records: list[Record]) -> list[str]:
    """The texts of the accepted records."""
    return [record.text for record in records if isinstance(record, Post)]


def letters_of(records: list[Record]) -> list[DeadLetter]:
    """The refused records."""
    return [record for record in records if isinstance(record, DeadLetter)]


# ---- which files, and when -------------------------------------------------------------------------------------------


def test_a_file_is_read_and_moved_to_done_with_its_report(inbox: Inbox) -> None:
    """The stamp is the time of taking, and the report tells what the store counted."""
    inbox.drop("posts.csv", csv("one", "two"))
    inbox.positions.counts["20261121T101500Z-posts.csv"] = FileCounts(
        1, 1, {"bad_row": (2, 17), "id_conflict": (1, None)}
    )
    assert texts_of(inbox.read()) == ["one", "two"]
    done = "20261121T101500Z-posts.csv"
    assert inbox.names("done") == [done, done + REPORT_SUFFIX]
    assert inbox.names("processing") == inbox.names("failed") == []
    assert (inbox.path / "done" / (done + REPORT_SUFFIX)).read_text() == (
        "posts.csv: done\n\nrows counted:     1\nrows seen before: 1\nrows refused:     3\n"
        "  bad_row: 2, first on line 17\n  id_conflict: 1\n"
    )
    assert inbox.positions.outcomes == {done: "done"}


def test_a_file_is_left_alone_until_it_settles(inbox: Inbox) -> None:
    """A growing file is not taken; two seconds without a change are enough."""
    inbox.drop("posts.csv", csv("one"), age_s=0)
    assert inbox.read() == []
    inbox.clock.advance(seconds=1.9)
    inbox.drop("posts.csv", csv("one", "two"), age_s=0)
    inbox.clock.advance(seconds=1.9)
    assert inbox.read() == []
    assert inbox.source.lag() == {FILES: 1}
    inbox.clock.advance(seconds=0.2)
    assert texts_of(inbox.read()) == ["one", "two"]


def test_alerts_wait_for_a_backlog_and_not_for_a_few_posts(inbox: Inbox) -> None:
    """A folder that gets a small file every few seconds is never empty, and must not hold back the alerts for that."""
    inbox.drop("few.csv", csv("one", "two"))
    assert inbox.source.poll(1, 0.5).records
    assert inbox.source.caught_up()
    inbox.read()
    inbox.drop("many.csv", csv(*(["x" * 900] * 100)))
    assert inbox.source.poll(10, 0.5).records
    assert not inbox.source.caught_up()
    inbox.read()
    assert inbox.source.caught_up()


def test_a_file_dated_in_the_future_settles_by_being_watched(inbox: Inbox) -> None:
    """A writer's clock may be ahead of ours."""
    inbox.drop("posts.csv", csv("one"), age_s=-3600)
    assert inbox.read() == []
    inbox.clock.advance(seconds=3)
    assert texts_of(inbox.read()) == ["one"]


def test_other_names_and_kinds_are_never_touched(inbox: Inbox, tmp_path: Path) -> None:
    """Hidden, partial and temporary files, other suffixes, folders and symbolic links stay where they are."""
    target = tmp_path / "elsewhere.csv"
    target.write_text(csv("linked"))
    for name in (".hidden.csv", "a.csv.part", "b.csv.tmp", "c.txt", "d.csv.bak", "e.part", "csv"):
        inbox.drop(name, csv("no"))
    (inbox.path / "folder.csv").mkdir()
    (inbox.path / "link.csv").symlink_to(target)
    before = sorted(path.name for path in inbox.path.iterdir())
    assert inbox.read() == []
    assert sorted(path.name for path in inbox.path.iterdir()) == before
    assert inbox.source.lag() == {FILES: 0}


def test_oldest_files_come_first_and_never_share_a_batch(inbox: Inbox) -> None:
    """By time, then by name; a poll never mixes files."""
    inbox.drop("b.csv", csv("3"), age_s=50)
    inbox.drop("a.csv", csv("2"), age_s=50)
    inbox.drop("z.CSV", csv("1"), age_s=90)
    batches = [inbox.next() for _ in range(3)]
    assert [texts_of(batch.records) for batch in batches] == [["1"], ["2"], ["3"]]
    assert [batch.ends_file for batch in batches] == [True, True, True]
    assert len({batch.file for batch in batches}) == 3


def test_a_dropped_file_wakes_a_waiting_poll(tmp_path: Path) -> None:
    """Nobody waits for the rescan where the system tells about changes: here the next one is an hour away."""
    inbox = Inbox(tmp_path / "inbox", settle_s=0)
    inbox.rescan_s = 3600
    inbox.restart()
    deadline = time.monotonic() + 5 * LONG_POLL_S
    took_s = LONG_POLL_S
    while took_s >= LONG_POLL_S and time.monotonic() < deadline:  # again: the watcher's thread takes a moment to start
        (inbox.path / "new.csv").unlink(missing_ok=True)
        whole = inbox.drop("new.csv.part", csv("new"))  # renamed, for with settle_s 0 half a file would be taken
        timer = threading.Timer(0.2, whole.rename, [inbox.path / "new.csv"])
        began = time.monotonic()
        timer.start()
        records = inbox.source.poll(10, LONG_POLL_S).records
        took_s = time.monotonic() - began
        timer.join()
    inbox.source.close()
    assert texts_of(records) == ["new"]
    assert took_s < LONG_POLL_S


def test_odd_and_long_names(inbox: Inbox) -> None:
    """Names that are not UTF-8, hold control characters or leave no room for a stamp still move, under a name that is
    safe.
    """
    inbox.drop(os.fsdecode(b"caf\xe9.csv"), csv("1"))
    inbox.drop("line\nbreak.csv", csv("2"))
    inbox.drop("x" * 240 + ".csv.gz", gzip.compress(csv("3").encode()))
    assert sorted(texts_of(inbox.read())) == ["1", "2", "3"]
    assert [name for name in inbox.names("done") if "\n" in name or not name.isprintable()] == []
    assert any(name.endswith(".csv.gz") for name in inbox.names("done"))


def test_equal_names_taken_in_one_second(inbox: Inbox) -> None:
    """A second file of that name gets a number, and both are kept."""
    for text in ("one", "two", "three"):
        inbox.drop("posts.csv", csv(text))
        assert texts_of(inbox.read()) == [text]
    names = [name for name in inbox.names("done") if not name.endswith(REPORT_SUFFIX)]
    assert names == ["20261121T101500Z-posts.csv", "20261121T101500Z.2-posts.csv", "20261121T101500Z.3-posts.csv"]


# ---- rows ------------------------------------------------------------------------------------------------------------


def rows(content: str | bytes, max_record_bytes: int = 1 << 20) -> list[tuple[int, list[str] | str]]:
    """(line, cells or reason) of every record, the header included."""
    raw = content if isinstance(content, bytes) else content.encode()
    return [
        (row.line, row.reason.value if row.reason else row.cells) for row in rows_of(io.BytesIO(raw), max_record_bytes)
    ]


def test_rfc_4180() -> None:
    """Quotes, doubled quotes, commas and line breaks inside them, CRLF, a BOM, empty lines, no last line end."""
    content = '\ufeffa,b\r\n"x, ""y""","1\r\n2"\r\n\r\n  \n5" disk,z\n,last'
    assert rows(content) == [(1, ["a", "b"]), (2, ['x, "y"', "1\r\n2"]), (6, ['5" disk', "z"]), (7, ["", "last"])]


def test_an_unclosed_quote_costs_one_row() -> None:
    """Past the limit, or at the end of the file, the record is refused and reading goes on at the next line."""
    many = "".join(f"{n},x\n" for n in range(300))
    found = rows(f'a,b\n1,x\n2,"open\n{many}', 1000)
    assert found[1:4] == [(2, ["1", "x"]), (3, "record_too_long"), (4, ["0", "x"])]
    assert len(found) == 303
    assert rows('a,b\n1,"open\n2,y\n3,z') == [(1, ["a", "b"]), (2, "bad_row"), (3, ["2", "y"]), (4, ["3", "z"])]


def test_one_endless_line_is_never_held_in_memory() -> None:
    """A line without an end is cut, refused and skipped; the line after it counts."""

    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.left = 50 * (1 << 20)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            n = min(len(buffer), self.left)
            self.left -= n
            buffer[:n] = b"x" * n
            return n

    import tracemalloc

    tracemalloc.start()
    found = [(row.reason, len(row.raw)) for row in rows_of(io.BufferedReader(Endless()))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [(Reason.RECORD_TOO_LONG, (1 << 20) + 1)]
    assert peak < 8 << 20
    assert rows(b"a,b\n" + b"y" * 500 + b"\n1,2\n", 100) == [(1, ["a", "b"]), (2, "record_too_long"), (3, ["1", "2"])]


def test_bad_rows_are_refused_with_their_lines_and_bytes(inbox: Inbox) -> None:
    """More or fewer fields than the header: one dead letter each, and the rows around them count."""
    inbox.drop("posts.csv", HEADER + '2026-11-20,"a\nb",u\n2026-11-20,few\n2026-11-20,many,u,more\n2026-11-20,good,u\n')
    records = inbox.read()
    assert texts_of(records) == ["a\nb", "good"]
    letters = letters_of(records)
    assert [(letter.reason, letter.line, letter.place.offset) for letter in letters] == [
        ("bad_row", 4, 1),
        ("bad_row", 5, 2),
    ]
    assert letters[0].raw == b"created_at,text,user_id\r\n2026-11-20,few\n"
    assert letters[0].detail == "line 4 of posts.csv: it has 2 fields, the header has 3"


def test_header_names_in_any_case_order_and_mapping(tmp_path: Path) -> None:
    """Names are trimmed and taken in any case, extra columns ignored, and `columns` names theirs."""
    inbox = Inbox(tmp_path / "inbox", columns={"text": "Body"})
    inbox.drop("posts.csv", '\ufeff"likes", BODY ,Created_At,text\n3,hello,2026-11-20,no\n')
    assert texts_of(inbox.read()) == ["hello"]
    inbox.source.close()


def test_equal_rows_count_as_often_as_they_stand_there(inbox: Inbox) -> None:
    """Occurrences are numbered, in each file from the start, so that a cumulative export adds only what is new."""
    inbox.drop("a.csv", csv("same", "same", "other"))
    first = inbox.read(at_least=3)
    inbox.drop("b.csv", csv("other", "same", "same", "same"))
    second = inbox.read(at_least=4)
    keys = [record.post_key for record in first + second if isinstance(record, Post)]
    assert len(set(keys[:3])) == 3
    assert set(keys[3:]) - set(keys[:3]) == {keys[6]}


def test_occurrences_spill_to_a_file() -> None:
    """Counting is the same in memory and beyond."""
    small, large = Occurrences(3), Occurrences()
    contents = [n % 7 - 3 for n in range(60)]
    assert [small(content) for content in contents] == [large(content) for content in contents]
    small.close()
    small.close()


# ---- crashes and returns ---------------------------------------------------------------------------------------------


def test_a_restart_resumes_at_the_next_unsaved_row(inbox: Inbox) -> None:
    """Rows before the position are skipped but counted among equal rows.

    The keys are those of a reading without a crash.
    """
    inbox.drop("posts.csv", csv("same", "same", "same", "end"))
    whole = [record.post_key for record in inbox.next(4).records if isinstance(record, Post)]
    inbox.restart()
    inbox.save(inbox.next(2))
    inbox.restart()
    rest = inbox.read()
    assert [record.post_key for record in rest if isinstance(record, Post)] == whole[2:]
    assert [record.place.offset for record in rest] == [2, 3]
    assert inbox.names("done")[0].endswith("posts.csv")


def test_a_crash_after_the_last_save_only_moves_the_file(inbox: Inbox) -> None:
    """Nothing is read twice; the end of the file is told with an empty batch."""
    inbox.drop("posts.csv", csv("one"))
    batch = inbox.next()
    inbox.positions.offsets.update(batch.positions)
    inbox.restart()
    again = inbox.poll()
    assert (again.records, again.ends_file) == ([], True)
    inbox.save(again)
    assert len(inbox.names("done")) == 2


def test_crashes_around_the_moves(inbox: Inbox) -> None:
    """Noted but not moved: taken again. Moved, not noted: read on from its row. In processing/, unknown: taken."""
    inbox.positions.take_file("20261121T101400Z-a.csv", "a.csv", "a" * 64, START)
    inbox.positions.take_file("20261121T101300Z-b.csv", "b.csv", "b" * 64, START)
    inbox.positions.offsets[StreamPartition("b" * 64, 0)] = 1
    (inbox.path / "done" / "20261121T101300Z-b.csv").write_text(csv("b", "b: what a restored database lacks"))
    stray = inbox.path / "processing" / "20261121T101200Z-c.csv"
    inbox.drop("a.csv", csv("a"))
    stray.write_text(csv("c"))
    inbox.clock.advance(minutes=1)
    inbox.clock.now = max(inbox.clock.now, datetime.now(UTC) + timedelta(seconds=10))
    inbox.restart()
    assert inbox.positions.outcomes == {"20261121T101400Z-a.csv": "failed"}
    assert sorted(texts_of(inbox.read())) == ["a", "b: what a restored database lacks", "c"]
    assert inbox.positions.outcomes["20261121T101300Z-b.csv"] == "done"
    assert inbox.names("processing") == []
    assert {file.name for file in inbox.positions.files.values()} == {"a.csv", "b.csv", "c.csv"}


def test_a_file_taken_again_in_the_second_of_its_first_note_goes_on_before_later_files(inbox: Inbox) -> None:
    """Its name in processing/ is the noted one then: the note must not count as finished, or its rows come last."""
    inbox.drop("a.csv", csv("1", "2"), age_s=90)
    taken_name = inbox.source.folders.free_name("a.csv", inbox.clock.now)
    inbox.positions.take_file(taken_name, "a.csv", "a" * 64, inbox.clock.now)  # and died before the move
    inbox.restart()
    assert inbox.positions.outcomes == {taken_name: "failed"}
    inbox.drop("b.csv", csv("3"), age_s=30)
    first = inbox.next(max_records=1)
    assert (texts_of(first.records), first.file) == (["1"], taken_name)
    inbox.save(first)
    inbox.restart()
    assert texts_of(inbox.read()) == ["2", "3"]
    assert set(inbox.positions.outcomes.values()) == {"done"}


def test_times_are_judged_by_when_the_file_was_taken(inbox: Inbox) -> None:
    """A restart days later refuses the same rows, so that dead letters and counts stay what they were."""
    inbox.drop("posts.csv", HEADER + "2026-11-23,too early,u\n2026-11-20,fine,u\n")
    assert [type(record).__name__ for record in inbox.next().records] == ["DeadLetter", "Post"]
    inbox.clock.advance(days=7)
    inbox.restart()
    assert [letter.reason for letter in letters_of(inbox.read())] == [Reason.FUTURE_CREATED_AT]


def test_rewind_reads_unsaved_rows_again(inbox: Inbox) -> None:
    """What was polled but not committed comes again, files that were polled to their ends included."""
    inbox.drop("a.csv", csv("1", "2"), age_s=90)
    inbox.drop("b.csv", csv("3", "4"))
    inbox.save(inbox.next(1))
    inbox.next(1)
    inbox.next(1)
    inbox.source.rewind()
    assert texts_of(inbox.read()) == ["2", "3", "4"]


def test_a_refused_file_goes_to_failed_and_the_next_one_is_read(inbox: Inbox) -> None:
    """Its later batches are not current, it is not polled again, and the report says why."""
    inbox.drop("bad.csv", csv("1", "2", "3"), age_s=90)
    inbox.drop("good.csv", csv("4"))
    first, second = inbox.next(1), inbox.next(1)
    taken_name = str(first.file)
    inbox.positions.counts[taken_name] = FileCounts(7, 0, {"bad_row": (2, 5)})
    verdict = TooManyRefused("inbox", 80, 100)
    verdict.reasons = {"bad_row": Refusals(50, "on line 9", 9), "empty_text": Refusals(28, "on line 8", 8)}
    inbox.source.refuse(first, verdict)
    inbox.source.refuse(first, TooManyRefused("inbox", 1, 2))
    inbox.source.rewind()
    assert not inbox.source.is_current(second)
    assert inbox.source.paused() is None
    assert texts_of(inbox.read()) == ["4"]
    report = next((inbox.path / "failed").glob("*.report.txt")).read_text()
    assert report.startswith(
        "bad.csv: failed: 80 of the last 100 records were refused; in the batch that was not stored"
    )
    assert report.endswith(
        "rows counted:     7\nrows seen before: 0\nrows refused:     80, 78 in a batch that was not stored\n"
        "  bad_row: 52, first on line 5\n  empty_text: 28, first on line 8\n"
    )
    assert list(inbox.positions.outcomes.values()) == ["failed", "done"]


@pytest.mark.parametrize("is_read_again", [False, True], ids=["saved", "read again"])
def test_equal_content_waits_for_the_file_under_way(inbox: Inbox, *, is_read_again: bool) -> None:
    """The two share a position: taken now, the second would move the first back, and its rows would count as read
    twice in its report."""
    inbox.drop("a.csv", csv("1", "2"), age_s=90)
    inbox.drop("b.csv", csv("1", "2"))
    inbox.drop("c.csv", csv("3"))
    batches = [inbox.next(1), inbox.next(1)]
    inbox.save(batches[0])
    moved = dict(inbox.positions.offsets)
    assert [inbox.poll().records for _ in range(3)] == [[], [], []]
    assert inbox.positions.offsets == moved
    n_waits: list[float] = []
    wait = inbox.source._waiting.wait
    inbox.source._waiting.wait = lambda deadline: n_waits.append(deadline) or wait(deadline)  # type: ignore[func-returns-value,method-assign]
    assert inbox.source.poll(100, 1.0).records == []
    assert 2 <= len(n_waits) <= 12  # of 0.2 s each; turning without a pause makes many thousands
    assert inbox.source.lag() == {FILES: 2}
    if is_read_again:
        inbox.source.rewind()
        batches[1] = inbox.next(1)
        assert texts_of(batches[1].records) == ["2"]
    inbox.save(batches[1])
    assert texts_of(inbox.read()) == ["1", "2", "3"]
    assert list(inbox.positions.outcomes.values()) == ["done"] * 3


def test_the_end_of_what_was_there(inbox: Inbox) -> None:
    """`mark_end` is about the files of that moment, unsettled ones included; later files do not matter."""
    inbox.source.mark_end()
    assert inbox.source.reached_end()
    inbox.drop("a.csv", csv("1", "2"), age_s=0)
    inbox.source.mark_end()
    assert not inbox.source.reached_end()
    inbox.clock.advance(seconds=3)
    inbox.save(inbox.next(1))
    inbox.drop("b.csv", csv("3"), age_s=0)
    assert not inbox.source.reached_end()
    inbox.save(inbox.next(1))
    assert inbox.source.reached_end()


# ---- what can go wrong around it -------------------------------------------------------------------------------------


def test_a_file_that_vanishes_is_forgotten(inbox: Inbox) -> None:
    """Between the scan and the taking, somebody may take it back."""
    path = inbox.drop("posts.csv", csv("one"))
    inbox.source.mark_end()
    path.unlink()
    assert inbox.read() == []
    assert inbox.source.reached_end()


def test_an_unreadable_file_is_left_behind_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The others are read, the file stays, `run --once` names it and ends with 69; readable again, it is taken."""
    with without_privileges() as folder:
        inbox = Inbox(folder / "inbox")
        inbox.drop("locked.csv", HEADER + "2026-11-20,later,u\n").chmod(0)
        inbox.drop("open.csv", HEADER + "2026-11-20,now,u\n")
        assert texts_of(inbox.read()) == ["now"]
        lane = Lane(inbox.source, BatchLimits(100, 1000, 0))
        once.say_counts([lane])
        assert "inbox: locked.csv cannot be read and stays where it is" in capsys.readouterr().out
        assert once.exit_code_of([lane], delivered=True) == 69
        (inbox.path / "locked.csv").chmod(0o600)  # its content and times stay as they were
        assert texts_of(inbox.read()) == ["later"]
        assert once.exit_code_of([lane], delivered=True) == 0
        inbox.source.close()


class Flaky(io.BytesIO):
    """A file whose disk fails once: the line after `n_good` raises EIO."""

    def __init__(self, content: bytes, n_good: int) -> None:
        super().__init__(content)
        self.n_good = n_good

    def readline(self, size: int | None = -1, /) -> bytes:
        self.n_good -= 1
        if self.n_good == -1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().readline(size)


@pytest.mark.parametrize("n_good", [1, 2, 5, 9])
def test_a_disk_that_fails_while_a_file_is_read_costs_no_row(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, n_good: int
) -> None:
    """The source is away for a moment, then reading goes on at the same row; equal rows are still told apart."""
    texts = [f"text {n // 2}" for n in range(20)]
    path = inbox.drop("posts.csv", csv(*texts))
    content = path.read_bytes()
    opened: list[io.BytesIO] = []

    def flaky_once(_: Path) -> io.BytesIO:
        opened.append(Flaky(content, n_good) if not opened else io.BytesIO(content))
        return opened[-1]

    monkeypatch.setattr(file_rows, "open_content", flaky_once)
    records: list[Record] = []
    n_failed = 0
    while len(records) < 20:
        try:
            batch = inbox.next(3)
        except SourceUnavailable:
            n_failed += 1
            continue
        inbox.save(batch)
        records += batch.records
    assert n_failed == 1
    assert texts_of(records) == texts
    assert len({record.post_key for record in records if isinstance(record, Post)}) == 20
    assert inbox.read() == []
    assert inbox.names("done") == ["20261121T101500Z-posts.csv", "20261121T101500Z-posts.csv.report.txt"]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_opened_for_a_moment_is_read_later(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """At the inspection, and at a restart in the middle: neither left aside nor failed."""
    inbox.drop("posts.csv", csv("one", "two", "three"))

    def refuse(_: Path) -> NoReturn:
        raise OSError(number, os.strerror(number))

    for room in (inspection, file_rows):
        with monkeypatch.context() as patch:
            patch.setattr(room, "open_content", refuse)
            with pytest.raises(SourceUnavailable, match=os.strerror(number)):
                inbox.next()
    first = inbox.next(1)
    inbox.save(first)
    inbox.restart()
    with monkeypatch.context() as patch:
        patch.setattr(file_rows, "open_content", refuse)
        with pytest.raises(SourceUnavailable):
            inbox.next()
    assert texts_of([*first.records, *inbox.read()]) == ["one", "two", "three"]
    assert inbox.names("failed") == []


def test_a_folder_that_vanishes_is_waited_for(inbox: Inbox) -> None:
    """An unmounted folder is SourceUnavailable, and reading goes on when it is back."""
    moved = inbox.path.with_name("moved")
    inbox.path.rename(moved)
    with pytest.raises(SourceUnavailable, match="cannot be used: No such file"):
        inbox.poll()
    moved.rename(inbox.path)
    inbox.drop("posts.csv", csv("one"))
    assert texts_of(inbox.read()) == ["one"]


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """The sentence names the folder."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SourceUnavailable, match="inbox cannot be used"):
        Inbox(tmp_path / "file" / "inbox")


def test_two_monitors_never_read_one_folder(inbox: Inbox) -> None:
    """The second is told, and takes over when the first ends."""
    second = inbox.make()
    with pytest.raises(SourceUnavailable, match="another running monitor reads the folder"):
        second.open()
    inbox.source.close()
    second.open()
    second.close()


def test_a_file_waits_to_be_moved_while_the_store_is_away(inbox: Inbox) -> None:
    """The commit does not raise; the next poll tells, and moves the file when the store is back."""
    inbox.drop("posts.csv", csv("one"))
    batch = inbox.next()
    inbox.positions.away = True
    for partition, offset in batch.positions.items():
        inbox.positions.offsets[partition] = offset
    inbox.source.commit(batch, Saved(1, 0, {}))
    with pytest.raises(StoreUnavailable):
        inbox.poll()
    assert inbox.names("done") == []
    inbox.positions.away = False
    inbox.poll()
    assert len(inbox.names("done")) == 2


def test_a_file_changed_during_the_inspection_is_not_taken(inbox: Inbox) -> None:
    """It had not settled after all."""
    path = inbox.drop("posts.csv", csv(*(["x" * 900] * 3000)))
    while inbox.source.caught_up():
        assert inbox.source.poll(10, 0.0).records == []
    with path.open("a") as file:
        file.write("2026-11-20,later,u\n")
    os.utime(path, (START.timestamp() - 30, START.timestamp() - 30))
    assert len(inbox.read()) == 3001
    assert len(inbox.positions.files) == 1


# ---- keeping and forgetting ------------------------------------------------------------------------------------------


def test_old_files_go_and_others_stay(inbox: Inbox) -> None:
    """Age is counted from the taking; what the monitor did not put there stays."""
    inbox.drop("old.csv", csv("1"))
    inbox.read()
    inbox.clock.advance(days=20)
    inbox.drop("new.csv", csv("2"))
    inbox.read()
    (inbox.path / "done" / "mine.txt").write_text("keep")
    inbox.clock.advance(days=11)
    assert inbox.source.retain(inbox.clock(), 365, keep_text=True) == 2
    assert [name.split("-")[-1] for name in inbox.names("done")] == ["new.csv", "new.csv" + REPORT_SUFFIX, "mine.txt"]
    assert inbox.source.retain(inbox.clock(), 5, keep_text=True) == 2


def test_without_texts_only_reports_are_kept(inbox: Inbox) -> None:
    """keep_text: false governs the files as it governs the tables."""
    inbox.keep_text = False
    inbox.restart()
    inbox.drop("good.csv", csv("1"))
    inbox.drop("bad.csv", "nothing,here\n")
    inbox.read()
    assert [name.removeprefix("20261121T101500Z-") for name in inbox.names("done") + inbox.names("failed")] == [
        "good.csv" + REPORT_SUFFIX, "bad.csv" + REPORT_SUFFIX,
    ]  # fmt: skip


def test_names_tell_when_a_file_was_taken() -> None:
    """Only names that the monitor gives are understood."""
    assert taken_at_of("20261121T101500Z-a.csv") == START
    assert taken_at_of("20261121T101500Z.2-a.csv") == START
    assert [taken_at_of(name) for name in ("a.csv", "20261321T101500Z-a.csv", "mine-20261121T101500Z-a.csv")] == [
        None
    ] * 3
