"""The bad input that the README's "Posts in" lists, reason by reason, through the real pipeline into a real database.

Reasons, places and counts are exact, and the good rows around count. What only Kafka meets (null values, JSON) is in
test_source_kafka.py.
"""

import gzip
import io
import math
import os
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from doubles import HashScorer
from sqlalchemy import select

from monitor.batching import BatchLimits
from monitor.bookkeeper import StoreBookkeeper
from monitor.config import DropFolderSection
from monitor.health import Health
from monitor.lanes import Lane
from monitor.metrics import Metrics
from monitor.parsing import Parser
from monitor.pipeline import Pipeline
from monitor.sources.bookkeeping import StoredPositions
from monitor.sources.drop_folder import DropFolder
from monitor.sources.inspection import Inspection
from monitor.store.database import Database
from monitor.store.saving import Saver, SaveRules
from monitor.store.schema import dead_letters, posts

NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
GOOD = "2026-11-20 09:00,good {},,ann,acme\n"
HEADER = "created_at,text,id,user_id,brand\n"


class Intake:
    """A drop folder, the pipeline and a database."""

    def __init__(self, path: Path, db: Database, max_brands: int = 5) -> None:
        self.path = path
        self.db = db
        section = DropFolderSection(name="inbox", kind="drop_folder", path=path)
        parser = Parser(section, "default", UTC, 100)
        self.source = DropFolder(section, parser, StoredPositions(db, "inbox"), lambda: NOW, path=path, rescan_s=0.01)
        self.lane = Lane(self.source, BatchLimits(max_posts=200))
        saver = Saver(db, SaveRules(max_brands, 0.5, keep_text=True, user_id="keep", hash_key=b"k" * 32))
        metrics = Metrics()
        self.pipeline = Pipeline([self.lane], HashScorer(), StoreBookkeeper(db, saver), Health(metrics), metrics)
        self.pipeline.open_lane(self.lane)

    def drop(self, content: str | bytes, name: str = "posts.csv") -> None:
        """Take in one file; with other rows good ones enough not to trip max_invalid_share."""
        path = self.path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.utime(path, (NOW.timestamp() - 60, NOW.timestamp() - 60))
        self.source.mark_end()
        while not self.source.reached_end() or not self.lane.is_idle:
            self.pipeline.run_once(self.lane)

    @property
    def letters(self) -> list[tuple[str, int]]:
        """(reason, row) of every dead letter, in order."""
        statement = select(dead_letters.c.reason, dead_letters.c.position).order_by(dead_letters.c.dead_letter_id)
        return [
            (row.reason, row.position) for row in self.db.read(lambda connection: connection.execute(statement).all())
        ]

    @property
    def texts(self) -> list[str]:
        """Texts of all posts, sorted."""
        statement = select(posts.c.text).order_by(posts.c.text)
        return [row.text for row in self.db.read(lambda connection: connection.execute(statement).all())]

    @property
    def details(self) -> list[str]:
        """What the dead letters say."""
        return [row.detail for row in self.db.read(lambda connection: connection.execute(select(dead_letters)).all())]

    def names(self, place: str) -> list[str]:
        return sorted(path.name.split("-", 1)[1] for path in (self.path / place).glob("2*") if path.suffix != ".txt")

    def report(self) -> str:
        return max(self.path.glob("*/*.report.txt"), key=lambda path: path.stat().st_mtime_ns).read_text()


@pytest.fixture
def intake(sqlite_url: str, open_database: Callable[[str], Database], tmp_path: Path) -> Iterator[Intake]:
    """An empty folder and database."""
    made = Intake(tmp_path / "inbox", open_database(sqlite_url))
    yield made
    made.source.close()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",no time,,,", "bad_created_at"),
        ("soon,unparseable,,,", "bad_created_at"),
        ("1989-12-31,too old,,,", "bad_created_at"),
        ("2026-11-22T10:16:00Z,too new,,,", "future_created_at"),
        ("2026-11-20,,,,", "empty_text"),
        ('2026-11-20," \t",,,', "empty_text"),
        ("2026-11-20," + "x" * 101 + ",,,", "text_too_long"),
        ("2026-11-20,too few", "bad_row"),
        ("2026-11-20,too,many,fields,for,it", "bad_row"),
        ('2026-11-20,"' + "y" * 1_100_000 + '",,,', "record_too_long"),
        ("2026-11-20,new brand,,,six", "too_many_brands"),
        ("2026-11-20,another text,known,,acme", "id_conflict"),
    ],
)
def test_one_bad_row_is_one_dead_letter(intake: Intake, row: str, reason: str) -> None:
    """With its reason and place; the rows before and after it count."""
    brands = "".join(f"2026-11-20,first {brand},,,{brand}\n" for brand in ("acme", "two", "three", "four", "default"))
    intake.drop(HEADER + brands + "2026-11-20,known,known,,acme\n", "first.csv")
    intake.drop(HEADER + GOOD.format(1) + GOOD.format(2) + row + "\n" + GOOD.format(3))
    assert intake.letters == [(reason, 2)]
    assert [text for text in intake.texts if text.startswith("good")] == ["good 1", "good 2", "good 3"]
    assert intake.names("done") == ["first.csv", "posts.csv"]
    assert f"  {reason}: 1, first on line 4\n" in intake.report()


def test_an_unclosed_quote_loses_one_row(intake: Intake) -> None:
    """However much follows it, in front of it and behind it everything counts."""
    many = "".join(GOOD.format(f"{n} {'and so on ' * 8}") for n in range(9_000))
    intake.drop(HEADER + GOOD.format("first") + '2026-11-20,"never closed,,,\n' + many)
    assert intake.letters == [("record_too_long", 1)]
    assert len(intake.texts) == 9_001


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("\u202eright to left", "\u202eright to left"),
        ("bell\a", "bell\a"),
        ("NA", "NA"),
        ("null", "null"),
    ],
)
def test_odd_texts_are_scored(intake: Intake, text: str, stored: str) -> None:
    """NUL becomes U+FFFD where it is stored; everything else stays, words for missing values too."""
    intake.drop(HEADER + f"2026-11-20,{text},,,\n")
    assert (intake.texts, intake.letters) == ([stored], [])


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("sheet.xml", HEADER)
    return packed.getvalue()


_WHOLE = HEADER + GOOD.format(1)
_NOT_UTF8 = "it is not UTF-8: line 3 has a byte that does not belong; save it as CSV UTF-8"
_CUT_SHORT = "it is not a whole gzip file; it may have been cut short on the way"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", "it is empty"),
        ("a.csv", b"\xef\xbb\xbf\r\n \r\n", "it is empty"),
        ("a.csv", "text,user_id\nx,y\n", "the header has no column created_at; it is: text, user_id"),
        ("a.csv", "x,y\n", "the header has no column created_at and no column text; it is: x, y"),
        ("a.csv", "created_at,text,Text\n2026-11-20,a,b\n", "the header has the column text more than once"),
        ("a.csv", _WHOLE.replace(",", ";"), "the columns are separated by semicolons, not by commas"),
        ("a.csv", _WHOLE.replace(",", "\t"), "the columns are separated by tabs, not by commas"),
        ("a.csv", _WHOLE.encode("utf-16"), "it is UTF-16, not UTF-8; save it as CSV UTF-8"),
        ("a.csv", f"{_WHOLE * 9}2026-11-20,\U0001fae8 \uf8ff,u\x1a".encode("utf-16"),
         "it is UTF-16, not UTF-8; save it as CSV UTF-8"),
        ("a.csv", b"\xfe\xff" + _WHOLE.encode("utf-16-be"), "it is UTF-16, not UTF-8; save it as CSV UTF-8"),
        ("a.csv", bytes(range(255, -1, -1)) * 4, "it is not text"),
        ("a.csv", b"\xff\xfe\xfd", "it is not text"),
        ("a.csv", b"\xff\xfe" + b"\x01\x00\x02\x00" * 99, "it is not text"),
        ("a.csv", _WHOLE.encode("utf-16-le"), "it is not text"),
        ("a.csv", _WHOLE.encode() + "2026-11-20,café,,,\n".encode("latin-1"), _NOT_UTF8),
        ("a.csv", _WHOLE.encode() + b"2026-11-20,caf\xc3", _NOT_UTF8),
        ("a.csv", _WHOLE.replace("\n", "\r"), "its lines end with CR alone; save it with LF or CRLF line ends"),
        ("a.csv", bytes(4000), "it is not text"),
        ("a.csv", _zip(), "it is a workbook or a zip archive, not text; export it as CSV UTF-8"),
        ("a.csv", gzip.compress(_WHOLE.encode(), mtime=0), "it is compressed; name it .csv.gz"),
        ("a.csv", '"created_at,text\n2026-11-20,x\n',
         "its header row cannot be read: a quote opened in it is never closed"),
        ("a.csv.gz", _WHOLE.encode(),
         "it is not compressed, though its name ends in .gz; name it .csv, or compress it"),
        ("a.csv.gz", gzip.compress(_WHOLE.encode() * 50, mtime=0)[:-9], _CUT_SHORT),
        ("a.csv.gz", gzip.compress(_WHOLE.encode(), mtime=0)[:-8] + bytes(8), _CUT_SHORT),
    ],
)  # fmt: skip
def test_an_unusable_file_is_one_dead_letter(intake: Intake, name: str, content: str | bytes, sentence: str) -> None:
    """Before a row of it counts it lies in failed/, with a sentence that a person understands."""
    intake.drop(content, name)
    assert (intake.letters, intake.details) == ([("bad_file", -1)], [f"{name}: {sentence}"])
    assert intake.names("failed") == [name]
    assert intake.report().startswith(f"{name}: failed: {sentence}\n")


def test_after_an_unusable_file_the_next_one_is_read(intake: Intake) -> None:
    """The daemon goes on; the same unusable content again is the same dead letter."""
    intake.drop("x,y\n", "first.csv")
    intake.drop("x,y\n", "again.csv")
    intake.drop(_WHOLE, "next.csv")
    assert (len(intake.letters), intake.texts) == (1, ["good 1"])
    assert intake.names("failed") == ["again.csv", "first.csv"]


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    """Growing without end is noticed while reading, in bounded memory, and before a row counts."""
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress((HEADER + GOOD.format(1) * 200_000).encode()))
    theirs = {name: name for name in ("created_at", "text", "id", "user_id", "brand", "lang")}
    for bomb_bytes, verdict in ((4 << 20, "it grows more than 200 times when decompressed"), (256 << 20, None)):
        looked_at = Inspection(path, theirs, bomb_bytes)
        assert looked_at.advance(math.inf)
        assert looked_at.verdict == verdict


def test_gzip_files_are_read(intake: Intake) -> None:
    """Also of several members, as log shippers append them."""
    intake.drop(gzip.compress(_WHOLE.encode(), mtime=0) + gzip.compress(GOOD.format(2).encode()), "posts.csv.gz")
    assert intake.texts == ["good 1", "good 2"]


def test_too_many_bad_rows_fail_the_file(intake: Intake) -> None:
    """The batch that trips is not stored, earlier ones stay, the file goes to failed/ and the next one is read."""
    good = "".join(GOOD.format(n) for n in range(200))
    bad = "2026-11-20,,,,\n" * 600
    intake.drop(HEADER + good + bad + good, "bad.csv")
    assert len(intake.texts) == 200
    assert intake.names("failed") == ["bad.csv"]
    assert intake.report().startswith("bad.csv: failed: ")
    intake.drop(_WHOLE, "next.csv")
    assert intake.names("done") == ["next.csv"]


def test_the_same_content_again_adds_only_what_is_new(intake: Intake) -> None:
    """Under another name, corrected, with equal rows in it: nothing is suppressed by a name, nothing counted twice."""
    rows = [GOOD.format(n % 40) for n in range(60)]
    intake.drop(HEADER + "".join(rows), "monday.csv")
    assert len(intake.texts) == 60
    rows[3], rows[17] = GOOD.format("corrected"), GOOD.format("corrected")
    intake.drop(HEADER + "".join(rows) + "2026-11-20,,,,\n", "tuesday.csv")
    assert len(intake.texts) == 62
    assert (
        "rows counted:     2\nrows seen before: 58\nrows refused:     1\n  empty_text: 1, first on line 62\n"
        in intake.report()
    )
    intake.drop(HEADER + "".join(rows) + "2026-11-20,,,,\n", "tuesday.csv")
    assert (len(intake.texts), len(intake.letters)) == (62, 1)
