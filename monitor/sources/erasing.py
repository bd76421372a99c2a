"""Taking people's rows out of the files that lie in done/ and failed/: copies that forgetting has to reach as well."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from monitor.sources.csv_rows import rows_of
from monitor.sources.folders import DONE, FAILED, PROCESSING, REPORT_SUFFIX, Folders, original_name, taken_at_of
from monitor.sources.inspection import open_content
from monitor.store.forgetting import holds_field
from monitor.whole_file import replacing

_PIECE_BYTES = 1 << 20


class Erased(NamedTuple):
    """How many copies lost rows, and how many are gone."""

    n_changed: int
    n_deleted: int


def erase_file(folder: Path, name: str) -> int:
    """Remove the copies of a file, by the name it was dropped under or has in done/; reports stay. Returns how many."""
    wanted = [path for path in _copies_in(folder) if name in {path.name, original_name(path.name)}]
    for path in wanted:
        path.unlink(missing_ok=True)
    return len(wanted)


def erase_value(folder: Path, value: str) -> Erased:
    """Take every row that holds `value` as a field out of the copies in `folder`.

    A copy that is no readable CSV is deleted if `value` stands anywhere in it, or if it cannot be searched. Raises
    OSError.
    """
    copies = list(_copies_in(folder))
    changed = [path for path in copies if _erase_in(path, value)]
    return Erased(sum(path.exists() for path in changed), sum(not path.exists() for path in changed))


def unread_with(folder: Path, *, name: str | None = None, value: str | None = None) -> list[str]:
    """Names of the files that wait in `folder` or are being read and are called `name`, or have `value` in them.

    They are posts still to come and no copies: nothing is taken out of them. One that cannot be searched counts as
    having it. Raises SourceUnavailable.
    """
    if not folder.is_dir():
        return []
    folders = Folders(folder)
    taken = folders.processing() if (folder / PROCESSING).is_dir() else []
    found = [file for file in [*folders.waiting(), *taken] if file.name == name or _may_have(file.path, value)]
    return sorted({file.name for file in found})


def _may_have(path: Path, value: str | None) -> bool:
    try:
        return value is not None and _stands_in(path, value)
    except FileNotFoundError:
        return False
    except (OSError, EOFError, zlib.error):
        return True


def _copies_in(folder: Path) -> Iterator[Path]:
    for place in (DONE, FAILED):
        for path in sorted((folder / place).glob("*")):
            is_ours = taken_at_of(path.name) is not None and not path.name.endswith(REPORT_SUFFIX)
            if is_ours and path.is_file() and not path.is_symlink():
                yield path


def _erase_in(path: Path, value: str) -> bool:
    """True when the file lost rows or was removed."""
    try:
        if not _stands_in(path, value):
            return False
        n_rows = _rewrite(path, value)
        if _is_text(path) or not _stands_in(path, value):
            return n_rows > 0  # where the value still stands, it is part of other people's words
    except (EOFError, zlib.error, gzip.BadGzipFile):
        pass
    path.unlink(missing_ok=True)
    return True


def _rewrite(path: Path, value: str) -> int:
    """Write the file anew without the rows that hold `value` as a field; returns how many they were."""
    n_rows = 0
    with replacing(path) as fresh, closing(open_content(path)) as content, _written(fresh, path.name) as kept:
        for row in rows_of(content):
            if holds_field(row.raw, value):
                n_rows += 1
            else:
                kept.write(row.raw)
    return n_rows


def _stands_in(path: Path, value: str) -> bool:
    """Whether `value` stands anywhere in the file, in UTF-8 or UTF-16."""
    texts = {value, value.replace('"', '""')}
    spellings = [text.encode(code, "replace") for text in texts for code in ("utf-8", "utf-16-le", "utf-16-be")]
    overlap = b""
    with closing(open_content(path)) as content:
        while piece := content.read(_PIECE_BYTES):
            if any(spelling in overlap + piece for spelling in spellings):
                return True
            overlap = piece[-8 * len(value) :]
    return False


def _is_text(path: Path) -> bool:
    """Whether every record can be read."""
    with closing(open_content(path)) as content:
        return all(row.reason is None for row in rows_of(content))


def _written(path: Path, name: str) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "wb")) if name.lower().endswith(".gz") else path.open("wb")
