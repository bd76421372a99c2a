"""Scores one CSV: every row and column in order, and three columns more. Memory does not grow with the file."""

import csv
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

import msgspec

from monitor.errors import UnusableInput
from monitor.posts import Reason, Score
from monitor.sources.csv_rows import CsvRow, rows_of
from monitor.sources.inspection import Inspection, open_content

NEW_COLUMNS = ("pos_prob", "pred", "label")
_OURS = ("created_at", "text", "user_id", "id", "brand", "lang")
_GZIP = b"\x1f\x8b"

ScoreTexts = Callable[[Sequence[str]], Sequence[Score]]


class Limits(msgspec.Struct, frozen=True):
    """How much is held at once, and the longest text that is scored (characters)."""

    max_batch_posts: int
    max_batch_chars: int
    max_text_chars: int


class Tally(msgspec.Struct):
    """What became of the rows; `unusable`: reason -> (rows, line of the first)."""

    n_rows: int = 0
    unusable: dict[Reason, tuple[int, int]] = {}

    def refuse(self, reason: Reason, line: int) -> None:
        """Count one row that gets no score."""
        n, first = self.unusable.get(reason, (0, line))
        self.unusable[reason] = (n + 1, first)


@contextmanager
def regular_file(path: Path) -> Iterator[Path]:
    """`path` if it is a regular file; standard input (`-`) or a pipe is copied to a temporary file first.

    For a file can be looked at as a whole before its first row is scored, and a stream cannot. Raises OSError.
    """
    if str(path) != "-" and path.is_file():
        yield path.resolve()
        return
    with TemporaryDirectory(prefix="sentiment-monitor-") as folder:
        spooled = Path(folder) / "input.csv"
        with spooled.open("wb") as out:
            if str(path) == "-":
                shutil.copyfileobj(sys.stdin.buffer, out)
            else:
                with path.open("rb") as stream:
                    shutil.copyfileobj(stream, out)
        with spooled.open("rb") as content:
            is_gzip = content.read(2) == _GZIP
        yield spooled.rename(spooled.with_suffix(".csv.gz")) if is_gzip else spooled


def check_whole(path: Path, text_column: str) -> None:
    """One pass over the whole file, as strict as a drop folder's. Raises UnusableInput."""
    inspection = Inspection(path, dict.fromkeys(_OURS, text_column))  # the text is all that is needed here
    inspection.advance(math.inf)
    if inspection.verdict is not None:
        raise UnusableInput(inspection.verdict.replace(f" and no column {text_column}", "", 1))


def score_csv(
    path: Path,
    out: TextIO,
    text_column: str,
    score: ScoreTexts,
    limits: Limits,
    advance: Callable[[int], object],
) -> Tally:
    """Write the checked file `path` with scores to `out`; `advance` is told the bytes read.

    Rows without a usable text, or with other than the header's number of cells, get three empty cells.
    """
    writer = csv.writer(out, lineterminator="\n")
    tally = Tally(unusable={})
    with open_content(path) as content:
        rows = rows_of(content)
        header = next(rows).cells
        writer.writerow([*header, *NEW_COLUMNS])
        place = [name.strip().casefold() for name in header].index(text_column.strip().casefold())
        for chunk in _chunks(rows, limits):
            usable = [_is_usable(row, place, len(header), limits, tally) for row in chunk]
            scores = iter(score([row.cells[place] for row, use in zip(chunk, usable, strict=True) if use]))
            writer.writerows(
                _written(row, len(header), next(scores) if use else None)
                for row, use in zip(chunk, usable, strict=True)
            )
            tally.n_rows += len(chunk)
            advance(sum(len(row.raw) for row in chunk))
    return tally


def has_new_columns(path: Path) -> list[str]:
    """Which of the new columns the file has already; they will be there twice."""
    with open_content(path) as content:
        names = {name.strip().casefold() for name in next(rows_of(content)).cells}
    return [name for name in NEW_COLUMNS if name in names]


def _chunks(rows: Iterable[CsvRow], limits: Limits) -> Iterator[list[CsvRow]]:
    chunk: list[CsvRow] = []
    n_chars = 0
    for row in rows:
        chunk.append(row)
        n_chars += len(row.raw)
        if len(chunk) >= limits.max_batch_posts or n_chars >= limits.max_batch_chars:
            yield chunk
            chunk, n_chars = [], 0
    if chunk:
        yield chunk


def _is_usable(row: CsvRow, place: int, n_cells: int, limits: Limits, tally: Tally) -> bool:
    reason = row.reason
    if reason is None and len(row.cells) != n_cells:
        reason = Reason.BAD_ROW
    if reason is None and (not row.cells[place] or row.cells[place].isspace()):
        reason = Reason.EMPTY_TEXT
    if reason is None and len(row.cells[place]) > limits.max_text_chars:
        reason = Reason.TEXT_TOO_LONG
    if reason is not None:
        tally.refuse(reason, row.line)
    return reason is None


def _written(row: CsvRow, n_cells: int, score: Score | None) -> list[object]:
    """The row and its score: missing cells are filled up, surplus ones follow the score, so columns stay in place."""
    cells = row.cells or [row.raw.decode("utf-8", "replace").rstrip("\r\n")]
    kept = [*cells[:n_cells], *[""] * (n_cells - len(cells))]
    new: list[object] = ["", "", ""] if score is None else [score.pos_prob, score.pred, score.label]
    return [*kept, *new, *cells[n_cells:]]


def total_bytes(path: Path) -> int | None:
    """Bytes that `score_csv` will read; None for gzip, where only reading tells."""
    return None if path.name.lower().endswith(".gz") else path.stat().st_size
