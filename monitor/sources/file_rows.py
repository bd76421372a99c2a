"""The records of one taken file, from a given row on."""

import time
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from monitor.parsing import Arrival, Parser
from monitor.posts import DeadLetter, Place, Reason, Record
from monitor.sources.csv_rows import CsvRow, Header, rows_of
from monitor.sources.inspection import open_content
from monitor.sources.occurrences import Occurrences
from monitor.store.files import TakenFile

SKIP_ROWS = 500  #: rows skipped between two looks at the clock


class FileRows:
    """Reads a file in chunks.

    A record's time of arrival is when the file was taken, so that reading again refuses the same rows.

    `raw` of a record is the header line and the record's own lines: a small CSV that says by itself what it means, and
    that replay.py can parse again.
    """

    def __init__(self, path: Path, taken: TakenFile, parser: Parser, first_row: int) -> None:
        """`first_row` (from 0, the header not counted) is the first to give out; equal rows are counted from row 0.

        Raises OSError, or UnusableHeader where the configured columns changed since the file was taken.
        """
        self.first_row = first_row
        self._given_until = first_row
        self._path = path
        self._taken = taken
        self._parser = parser
        self._begin()

    def _begin(self) -> None:
        self.next_row = 0
        self._count_equal = Occurrences()
        self._content = open_content(self._path)
        try:
            self._rows = rows_of(self._content)
            header = next(self._rows, CsvRow(1, b"", []))
            self._header = Header(header.cells, self._parser.theirs)
            self._header_line = header.raw.rstrip(b"\r\n") + b"\r\n"
            self._ahead = next(self._rows, None)
        except BaseException:
            self.close()
            raise
        self._is_broken = False

    @property
    def is_at_end(self) -> bool:
        """True once every row was given out."""
        return self._ahead is None

    def read(self, max_records: int, deadline: float) -> list[Record]:
        """The next records; none while rows before the first are still being skipped at `deadline` (monotonic).

        After an OSError, which it raises, the next call begins the file anew and goes on at the same row.
        """
        if self._is_broken:
            self.close()
            self._begin()
        try:
            while self.next_row < self._given_until and self._ahead is not None:
                self._next_records(min(SKIP_ROWS, self._given_until - self.next_row))
                if time.monotonic() >= deadline:
                    return []
            records = self._next_records(max_records)
        except OSError:
            self._is_broken = True  # the iterator of rows ends with the error: it would say that the file is through
            raise
        self._given_until = self.next_row
        return records

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._count_equal.close()
        self._content.close()

    def _next_records(self, n: int) -> list[Record]:
        rows = [self._ahead, *islice(self._rows, n)] if self._ahead is not None else []
        self._ahead = rows.pop() if len(rows) > n else None
        return [self._record_of(row) for row in rows if row is not None]

    def _record_of(self, row: CsvRow) -> Record:
        place = Place(self._taken.sha256, 0, self.next_row)
        label = f"{self._taken.sha256[:12]}:{self.next_row}"
        self.next_row += 1
        arrival = Arrival(place, label, self._taken.taken_at, self._header_line + row.raw, row.line)
        record = record_of(row, self._header, arrival, self._parser, self._count_equal)
        if isinstance(record, DeadLetter):
            return replace(record, detail=f"line {row.line} of {self._taken.name}: {record.detail}")
        return record


def record_of(row: CsvRow, header: Header, arrival: Arrival, parser: Parser, count_equal: Occurrences) -> Record:
    """One row, parsed or refused."""
    if row.reason is not None:
        return parser.dead_letter(arrival, row.reason, row.detail)
    if len(row.cells) != header.n_cells:
        detail = f"it has {len(row.cells)} fields, the header has {header.n_cells}"
        return parser.dead_letter(arrival, Reason.BAD_ROW, detail)
    return parser.parse_row(header.fields_of(row.cells), arrival, count_equal)
