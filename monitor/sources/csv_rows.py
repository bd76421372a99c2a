"""Rows of a CSV file (RFC 4180, UTF-8) with bounded memory: line number, bytes, and what is wrong with each.

Python's csv module decides where a record ends; this module feeds it line by line and watches how much one record
swallows. A quote that is never closed would swallow the rest of the file: past MAX_RECORD_BYTES, or at the end of the
file, its record is refused and reading goes on at the line after the record's first one, so that only the broken row is
lost.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec

from monitor.parsing import Fields
from monitor.posts import Reason
from monitor.printable import printable

MAX_RECORD_BYTES = 1 << 20  #: inclusive; README, "Posts in"
REQUIRED = ("created_at", "text")
_NAME = re.compile(r"[^\W\d][\w.-]{0,40}")  #: what people call a column; no time and no sentence is one
BOM = b"\xef\xbb\xbf"

# the record's limit is ours; csv's own default of 128 KiB would call a long text a bad row
csv.field_size_limit(MAX_RECORD_BYTES)


class CsvRow(msgspec.Struct, gc=False):
    """One record: its cells, or why there are none.

    `line` counts from 1, `raw` is the record as it stands in the file.
    """

    line: int
    raw: bytes
    cells: list[str]
    reason: Reason | None = None
    detail: str = ""


class UnusableHeader(Exception):  # noqa: N818 - a verdict on the file, told to its owner in a report
    """The header row does not name what is needed; the message is a sentence for the file's owner."""


class _RecordTooLong(Exception):  # noqa: N818 - raised through csv.reader, caught in this module
    pass


class _UnclosedQuote(Exception):  # noqa: N818 - raised through csv.reader, caught in this module
    pass


class _Lines(Iterator[str]):
    """Physical lines for csv.reader.

    `taken` holds those of the record under way, at most MAX_RECORD_BYTES and a line.
    """

    def __init__(self, stream: BinaryIO, max_record_bytes: int) -> None:
        self._stream = stream
        self._max = max_record_bytes
        self._again: deque[bytes] = deque()
        self._size = 0
        self.taken: list[bytes] = []
        self.n_read = 0

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            if self.taken:
                raise _UnclosedQuote
            raise StopIteration
        self.n_read += 1
        self.taken.append(line)
        self._size += len(line)
        if self._size > self._max:
            raise _RecordTooLong
        return line.decode("utf-8")

    def end_record(self) -> bytes:
        """The bytes of the record that was just read."""
        raw = self.taken[0] if len(self.taken) == 1 else b"".join(self.taken)
        self.taken.clear()
        self._size = 0
        return raw

    def give_back(self) -> bytes:
        """Keep only the first line of the record under way; the others will be read again."""
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        self.n_read -= len(rest)
        self.taken.clear()
        self._size = 0
        return first

    def _read(self) -> bytes:
        line = self._stream.readline(self._max + 1)
        if self.n_read == 0:
            line = line.removeprefix(BOM)
        if len(line) > self._max:
            self._skip_to_line_end(line)
        return line

    def _skip_to_line_end(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(self._max)


def rows_of(stream: BinaryIO, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[CsvRow]:
    """Every record of a binary stream, the header included; empty lines are skipped."""
    lines = _Lines(stream, max_record_bytes)
    reader = csv.reader(lines)
    while True:
        line = lines.n_read + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield CsvRow(line, lines.end_record(), [], Reason.BAD_ROW, f"it is not CSV: {error}")
        except UnicodeDecodeError:
            yield CsvRow(line, lines.end_record(), [], Reason.BAD_ENCODING, "it is not UTF-8")
        except _RecordTooLong:
            detail = f"it is longer than {max_record_bytes} bytes: a quote may not be closed"
            yield CsvRow(line, lines.give_back(), [], Reason.RECORD_TOO_LONG, detail)
        except _UnclosedQuote:
            yield CsvRow(line, lines.give_back(), [], Reason.BAD_ROW, "a quote opened in it is never closed")
        else:
            raw = lines.end_record()
            if cells and (len(cells) > 1 or cells[0].strip()):
                yield CsvRow(line, raw, cells)


class Header:
    """Which cell of a row is which field; column names are trimmed and taken in any case."""

    def __init__(self, names: Sequence[str], theirs: dict[str, str]) -> None:
        """`theirs` maps our field names to the file's. Raises UnusableHeader."""
        found = [name.strip().casefold() for name in names]
        wanted = {ours: name.strip().casefold() for ours, name in theirs.items()}
        _check_columns(found, wanted, theirs)
        self.n_cells = len(found)
        index = {ours: found.index(name) if name in found else -1 for ours, name in wanted.items()}
        self._created_at, self._text, self._user_id = index["created_at"], index["text"], index["user_id"]
        self._id, self._brand, self._lang = index["id"], index["brand"], index["lang"]

    def fields_of(self, cells: list[str]) -> Fields:
        """The cells of one row under our names; None where blank or without a column."""
        row: list[str | None] = [*cells, None]  # index -1: no such column
        return Fields(
            row[self._created_at] or None, row[self._text] or None, row[self._user_id] or None,
            row[self._id] or None, row[self._brand] or None, row[self._lang] or None,
        )  # fmt: skip


def _check_columns(found: list[str], wanted: dict[str, str], theirs: dict[str, str]) -> None:
    missing = [theirs[ours] for ours in REQUIRED if wanted[ours] not in found]
    if missing:
        separator = _other_separator(found, wanted)
        if separator:
            raise UnusableHeader(f"the columns are separated by {separator}, not by commas")
        is_header = set(found) & set(wanted.values()) or all(map(_NAME.fullmatch, found))
        rest = f"it is: {printable(', '.join(found)[:200])}" if is_header else "its first row is not one"  # but a post
        raise UnusableHeader(f"the header has no column {' and no column '.join(missing)}; {rest}")
    double = [name for ours, name in theirs.items() if found.count(wanted[ours]) > 1]
    if double:
        raise UnusableHeader(f"the header has the column {double[0]} more than once")


def _other_separator(found: list[str], wanted: dict[str, str]) -> str | None:
    line = ",".join(found)
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        cells = [cell.strip().strip('"') for cell in line.split(separator)]
        if all(wanted[ours] in cells for ours in REQUIRED):
            return name
    return None
