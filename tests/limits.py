"""How much a drop folder takes: a file of gigabytes in flat memory, and a hundred thousand files."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
from daemon_process import wait_until, write_config
from forked_daemon import ForkedDaemon
from stored import count, n_posts, select, url_in

ROWS_AT_ONCE = 20_000  #: written in one go
MAX_GROWTH_MIB = 64.0  #: counting equal rows keeps up to 40 MiB (sources/occurrences.py), the rest is noise
_HEADER = "created_at,text,user_id,brand\n"
_WORDS = "the parcel came late and the box was open but support was kind and sent another one within two days"


class Spell(NamedTuple):
    """What a daemon did in one life."""

    first_s: float  # from its start to the first row of its own
    n_rows: int
    early_mib: float  # the largest resident memory in the first quarter after the first row
    late_mib: float  # and in the last quarter


def write_large(path: Path, n_bytes: int) -> int:
    """A CSV of at least `n_bytes`, every row with its number in its text; returns how many rows."""
    n_rows = 0
    with path.open("w", encoding="ascii") as file:
        file.write(_HEADER)
        while file.tell() < n_bytes:
            numbers = range(n_rows, n_rows + ROWS_AT_ONCE)
            file.writelines(map(_row, numbers))
            n_rows += ROWS_AT_ONCE
    return n_rows


def _row(number: int) -> str:
    return f"2026-11-{number % 20 + 1:02},{_WORDS[number % 50 :]} #{number},user-{number % 997},brand {number % 5}\n"


def read_large(folder: Path, bundle: str, n_bytes: int, spell_s: float, tell: Callable[[str], None]) -> None:
    """Read a file of `n_bytes` for `spell_s`, kill the daemon, and read on for as long.

    AssertionError where memory grows, or the position is not that of the rows stored.
    """
    config = _config(folder, bundle)
    began = time.monotonic()
    n_rows = write_large(folder / "large.part", n_bytes)
    (folder / "large.part").rename(folder / "inbox" / "large.csv")
    tell(f"a file of {n_bytes / 1e9:.1f} GB, {n_rows:,} rows, written in {time.monotonic() - began:.0f} s")
    try:
        for life in ("from its beginning", "after SIGKILL"):
            spell = _live(folder, config, spell_s)
            told = (
                f"{spell.n_rows:,} rows in {spell_s:.0f} s, {spell.early_mib:.0f} MiB early, {spell.late_mib:.0f} late"
            )
            tell(f"{life}: first row after {spell.first_s:.1f} s, {told}")
            assert spell.late_mib <= spell.early_mib + MAX_GROWTH_MIB, "memory grows"
            tell(f"position {check_position(folder):,} is that of the rows stored")
    finally:
        for path in (folder / "inbox").rglob("*large.csv"):
            path.unlink()


def check_position(folder: Path) -> int:
    """The stored position, which must be the number of rows stored: each row once, from the first on, without a gap."""
    url = url_in(folder)
    position = count(url, "SELECT max(next_offset) FROM positions")
    row = "CAST(substr(position, instr(position, ':') + 1) AS INTEGER)"
    found = select(url, f"SELECT count(*) AS n, count(DISTINCT {row}) AS different, max({row}) + 1 AS ends FROM posts")
    assert found.iloc[0].tolist() == [position] * 3, f"position {position}, rows {found.iloc[0].to_dict()}"
    assert count(url, f"SELECT count(*) FROM posts WHERE text NOT LIKE '%#' || {row}") == 0, "rows of other numbers"
    return position


def take_first_of(folder: Path, bundle: str, n_files: int) -> float:
    """Seconds from the start of a daemon until it takes the first of `n_files` files."""
    config = _config(folder, bundle)
    for number in range(n_files):
        (folder / "inbox" / f"{number:06}.csv").write_text(f"created_at,text\n2026-11-20,file {number}\n")
    began = time.monotonic()
    with ForkedDaemon(config):
        wait_until(lambda: n_posts(url_in(folder)) > 0, "the first file", 120)
        return time.monotonic() - began


def _live(folder: Path, config: Path, spell_s: float) -> Spell:
    """One daemon, killed `spell_s` after its first row."""
    url = url_in(folder)
    before = n_posts(url)
    began = time.monotonic()
    memory: list[float] = []
    with ForkedDaemon(config) as daemon:
        wait_until(lambda: n_posts(url) > before, "a row", 600)
        first = time.monotonic()
        assert daemon.process is not None
        process = psutil.Process(daemon.process.pid)
        while time.monotonic() < first + spell_s:
            memory.append(process.memory_info().rss / 2**20)
            time.sleep(spell_s / 100)
        daemon.kill()
    quarter = len(memory) // 4
    n_rows = n_posts(url) - before
    return Spell(first - began, n_rows, max(memory[:quarter]), max(memory[-quarter:]))


def _config(folder: Path, bundle: str) -> Path:
    (folder / "inbox").mkdir(parents=True)
    source = {"name": "inbox", "kind": "drop_folder", "path": "inbox", "settle_s": 0.1}
    return write_config(folder, sources=[source], scoring={"bundle": bundle}, schedule={"refresh_s": 5, "deliver_s": 5})
