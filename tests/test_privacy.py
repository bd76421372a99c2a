"""What people wrote goes when it must: searched for in the database's own files, in every table, and in the folders.

One inbox is fed with the posts of two people, good, bad and quoted in an alert; then words are looked for everywhere.
"""

import gzip
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from batches import everything
from cli_runs import Cli, make_cli
from daemon_process import write_config
from fixtures_daemon import RunOnce
from sqlalchemy import select

from monitor.sources import erasing
from monitor.sources.folders import Folders
from monitor.store import retention
from monitor.store.database import Database
from monitor.store.schema import posts

TODAY = datetime.now(UTC).date()
ANN, BOB = "ann-4711", "bob-0815"
HERS, HIS = "wretched-hers", "wretched-his"  # in every text of theirs
ALL = (ANN, BOB, HERS, HIS)


class Place:
    """A folder with a configuration, an inbox, and a store; `holders` says where a word still is."""

    def __init__(self, folder: Path, url: str, run_once: RunOnce, bundle: str, **store: Any) -> None:
        self.folder = folder
        self._run_once = run_once
        sections = {
            "store": {"url": url, **store},
            "scoring": {"bundle": bundle},
            "http": {"port": 0},
            "alerts": {"threshold": 1.0, "min_posts": 1, "certainty": 0.0, "recover_margin": 0.0},
        }
        self.config = write_config(folder, **sections)
        self.cli = Cli(self.config)
        self.inbox = folder / "inbox"
        self.inbox.mkdir(exist_ok=True)

    def drop(self, name: str, content: bytes) -> None:
        """Rename a file into place."""
        (self.inbox / "new.part").write_bytes(content)
        (self.inbox / "new.part").rename(self.inbox / name)

    def run(self) -> None:
        """Read what is there, score, evaluate, deliver."""
        assert self._run_once(self.config) == 0

    def holders(self, word: str, db: Database) -> set[str]:
        """Tables, and files below the folder, that hold the word; the database's own files among them."""
        found = {name for name, rows in everything(db).items() if _is_in(word, rows)}
        for path in self.folder.rglob("*"):
            if path.is_file() and path != self.config:
                content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                if word.encode() in content or word.encode("utf-16-le") in content or word in path.name:
                    found.add(path.relative_to(self.folder).as_posix())
        return found


def _is_in(word: str, rows: list[tuple[object, ...]]) -> bool:
    cells = [cell for row in rows for cell in row]
    codes = ("utf-8", "utf-16-le")
    return any(
        any(word.encode(code) in cell for code in codes) if isinstance(cell, bytes) else word in str(cell)
        for cell in cells
    )


@pytest.fixture
def make(tmp_path: Path, store_url: str, run_once: RunOnce, tiny_bundle: str) -> Callable[..., Place]:
    """Makes the place, on either database, with other keys of `store`."""
    folder = tmp_path / "place"
    folder.mkdir()
    url = store_url
    if url.startswith("sqlite"):  # where its files are searched too
        url = f"sqlite:///{folder}/sentiment.db"
    return lambda **store: Place(folder, url, run_once, tiny_bundle, **store)


def database_of(place: Place) -> str:
    """URL of its store."""
    url: str = yaml.safe_load(place.config.read_text())["store"]["url"]
    return url


def rows(day: date, n: int = 3) -> bytes:
    """Posts of both, with ids, one row of each that must be refused."""
    lines = ["created_at,text,user_id,id"]
    for number in range(n):
        lines.append(f'{day},"{HERS} bad ""thing"" {number} {day}",{ANN},ann-{day}-{number}')
        lines.append(f"{day},{HIS} hate it {number} {day},{BOB},bob-{day}-{number}")
    lines += [f"never,{HERS} refused,{ANN},ann-x", f"never,{HIS} refused,{BOB},bob-x"]
    return ("\n".join(lines) + "\n").encode()


def fill(place: Place) -> None:
    """A plain and a gzipped file of yesterday, one that is no CSV, one that is UTF-16; read and evaluated."""
    yesterday = TODAY - timedelta(days=1)
    place.drop("a.csv", rows(yesterday))
    place.drop("b.csv.gz", gzip.compress(rows(yesterday - timedelta(days=1))))
    place.drop("c.csv", f"{yesterday} 10:00,{HERS} without a header,{ANN}\n{yesterday},{HIS},{BOB}\n".encode())
    place.drop("d.csv", f"created_at,text,user_id\n{yesterday},{HERS},{ANN}\n".encode("utf-16"))
    place.run()


def where(place: Place, word: str, open_database: Callable[[str], Database]) -> set[str]:
    """`holders`, stamps of taken files left out."""
    db = open_database(database_of(place))
    return {re.sub(r"\d{8}T\d{6}Z(\.\d+)?-", "", name) for name in place.holders(word, db)}


def test_words_are_where_they_are_known_to_be(
    make: Callable[..., Place], open_database: Callable[[str], Database]
) -> None:
    """The copies that the rest of this file empties, and no others: no report and no other table has a word."""
    place = make()
    fill(place)
    copies = {f"inbox/done/{name}" for name in ("a.csv", "b.csv.gz")}
    failed = {"inbox/failed/c.csv", "inbox/failed/d.csv"}
    tables = {"posts", "dead_letters"}
    hers = where(place, HERS, open_database)
    assert hers - {"alerts"} - {name for name in hers if name.startswith("sentiment.db")} == copies | failed | tables
    assert where(place, HIS, open_database) >= copies | tables
    assert "alerts" in hers | where(place, HIS, open_database)  # the quotes of a dip


def test_a_forgotten_user_is_nowhere(make: Callable[..., Place], open_database: Callable[[str], Database]) -> None:
    """`posts forget --user` empties posts, letters, quotes, the database's free pages and log, copies of files."""
    place = make()
    fill(place)
    said = place.cli.ok("posts", "forget", "--user", ANN, "--yes")
    assert "6 posts forgotten, 2 days corrected" in said
    for word in (ANN, HERS):
        assert where(place, word, open_database) == set(), word
    assert where(place, BOB, open_database) >= {"posts", "dead_letters", "inbox/done/a.csv", "inbox/done/b.csv.gz"}


def test_a_forgotten_id_is_nowhere(make: Callable[..., Place], open_database: Callable[[str], Database]) -> None:
    """`posts forget --id` takes out that post, its row in the copies, and nothing else."""
    place = make()
    fill(place)
    one = f"ann-{TODAY - timedelta(days=1)}-0"
    assert "1 posts forgotten" in place.cli.ok("posts", "forget", "--id", one, "--yes")
    assert where(place, one, open_database) == set()
    assert where(place, f'""thing"" 0 {TODAY - timedelta(days=1)}', open_database) == set()
    assert where(place, f"ann-{TODAY - timedelta(days=1)}-1", open_database) >= {"posts", "inbox/done/a.csv"}


def test_a_forgotten_file_is_nowhere(make: Callable[..., Place], open_database: Callable[[str], Database]) -> None:
    """`posts forget --file` takes out what the file brought and its copy; its report stays, which has no words."""
    place = make()
    place.drop("a.csv", rows(TODAY))
    place.run()
    assert "6 posts forgotten" in place.cli.ok("posts", "forget", "--file", "a.csv", "--yes")
    for word in ALL:
        assert where(place, word, open_database) == set(), word
    assert [path.name[17:] for path in (place.inbox / "done").iterdir()] == ["a.csv.report.txt"]


@pytest.mark.parametrize(("option", "value"), [("--user", ANN), ("--id", f"ann-{TODAY}-0"), ("--file", "a.csv")])
def test_files_that_are_still_to_be_read_are_told(tmp_path: Path, sqlite_url: str, option: str, value: str) -> None:
    """They are posts to come, not copies: they stay as they are, and the command names those that hold what was meant.

    One lies in the folder, one is being read, one cannot be searched; one holds somebody else's posts only.
    """
    cli = make_cli(tmp_path, sqlite_url)
    (tmp_path / "inbox" / "processing").mkdir(parents=True)
    his = f"created_at,text,user_id\n{TODAY},{HIS},{BOB}\n".encode()
    files = {"a.csv": rows(TODAY), "processing/20261121T101500Z-b.csv": rows(TODAY), "c.csv.gz": b"cut", "d.csv": his}
    for name, content in files.items():
        (tmp_path / "inbox" / name).write_bytes(content)
    said = cli.run("posts", "forget", option, value, "--yes")
    assert said.exit_code == 0
    named = "a.csv" if option == "--file" else "a.csv, b.csv, c.csv.gz"
    assert f"left as they are, for they are still to be read: {named}; run this again" in said.stderr
    assert {name: (tmp_path / "inbox" / name).read_bytes() for name in files} == files


def test_without_keep_text_nothing_is_ever_kept(
    make: Callable[..., Place], open_database: Callable[[str], Database]
) -> None:
    """`keep_text: false`: neither words nor users reach a table, a page of the database or a folder."""
    place = make(keep_text=False)
    fill(place)
    for word in ALL:
        assert where(place, word, open_database) == set(), word
    db = open_database(database_of(place))
    assert len(everything(db)["posts"]) == 12


def test_turning_keep_text_off_empties_what_is_there(
    make: Callable[..., Place], open_database: Callable[[str], Database]
) -> None:
    """The nightly job with keep_text false: tables, pages and folders lose what was kept before."""
    place = make()
    fill(place)
    retention.retain(open_database(database_of(place)), datetime.now(UTC), 365, keep_text=False)
    Folders(place.inbox).retain(datetime.now(UTC), 365, keep_text=False)
    for word in (HERS, HIS, ANN, BOB):
        assert where(place, word, open_database) == set(), word


def test_retention_reaches_every_copy(make: Callable[..., Place], open_database: Callable[[str], Database]) -> None:
    """Past `retention_days` words are nowhere, not even in free pages; counts stay."""
    place = make()
    fill(place)
    db = open_database(database_of(place))
    before = everything(db)["daily_sentiment"]
    later = datetime.now(UTC) + timedelta(days=40)
    retention.retain(db, later, 30, keep_text=True)
    Folders(place.inbox).retain(later, 30, keep_text=True)
    for word in (HERS, HIS, ANN, BOB):
        assert where(place, word, open_database) <= {"posts"}, word
    assert everything(db)["daily_sentiment"] == before


def test_hashed_users_are_in_no_table(make: Callable[..., Place], open_database: Callable[[str], Database]) -> None:
    """`user_id: hash` keeps a keyed hash in posts: equal users stay equal, and nobody can guess who they are."""
    place = make(user_id="hash")
    place.drop("a.csv", rows(TODAY))
    place.run()
    db = open_database(database_of(place))
    users = set(db.read(lambda connection: connection.execute(select(posts.c.user_id)).all()))
    assert len(users) == 2
    assert all(isinstance(user, str) and re.fullmatch("[0-9a-f]{32}", user) for (user,) in users)
    files = {"inbox/done/a.csv", "sentiment.db", "sentiment.db-wal"}
    assert where(place, ANN, open_database) <= {"dead_letters", *files}


CASES: dict[str, tuple[str, bytes, bytes | None]] = {
    "a plain file": ("a.csv", b"text,user_id\nx,ann\ny,bob\n", b"text,user_id\ny,bob\n"),
    "CRLF and quotes": ("a.csv", b'text,user_id\r\n"x\r\n1","ann"\r\ny,bob\r\n', b"text,user_id\r\ny,bob\r\n"),
    "part of another": ("a.csv", b"text,user_id\nx ann x,bob\ny,joann\n", b"text,user_id\nx ann x,bob\ny,joann\n"),
    "a broken row": ("a.csv", b'text,user_id\ny,bob\nx,"ann\n', b"text,user_id\ny,bob\n"),
    "not UTF-8": ("a.csv", b"text,user_id\n\xe4,ann\n\xe4,bob\n", b"text,user_id\n\xe4,bob\n"),
    "UTF-16": ("a.csv", "text,user_id\nx,ann\n".encode("utf-16"), "text,user_id\n".encode("utf-16")),
    "a workbook": ("a.csv", b"PK\x03\x04\x00ann\x00\xff\xfe", None),
    "no gzip": ("a.csv.gz", b"not packed, ann", None),
    "a cut gzip": ("a.csv.gz", gzip.compress(b"text,user_id\nx,bob\n" * 9000, mtime=0)[:-9], None),
}


@pytest.mark.parametrize(("name", "content", "left"), CASES.values(), ids=CASES)
def test_rows_are_taken_out_of_copies(tmp_path: Path, name: str, content: bytes, left: bytes | None) -> None:
    """Rows that hold the value as a field go, others keep their bytes; what cannot be searched goes whole."""
    for place in ("done", "failed"):
        (tmp_path / place).mkdir()
    copy = tmp_path / "failed" / f"20261121T101500Z-{name}"
    copy.write_bytes(content)
    assert erasing.erase_value(tmp_path, "ann") == (left is not None and left != content, left is None)
    assert (copy.read_bytes() if copy.exists() else None) == left
    assert [path.name for path in (tmp_path / "failed").iterdir()] == ([copy.name] if left else [])


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    """What the monitor did not put there, links and reports stay as they are."""
    for place in ("done", "failed"):
        (tmp_path / place).mkdir()
    outside = tmp_path / "outside.csv"
    for path in (outside, tmp_path / "done" / "mine.csv", tmp_path / "done" / "20261121T101500Z-a.csv.report.txt"):
        path.write_text("text,user_id\nx,ann\n")
    (tmp_path / "done" / "20261121T101500Z-link.csv").symlink_to(outside)
    assert erasing.erase_value(tmp_path, "ann") == (0, 0)
    assert erasing.erase_file(tmp_path, "link.csv") == 0
    assert all("ann" in path.read_text() for path in [outside, *(tmp_path / "done").iterdir()])
