"""CSV files from a watched folder: settle, inspect, take, read by rows, report, move to done/ or failed/.

The life of one file, and what a crash leaves at each step:
1. it lies in the folder and has not changed for `settle_s`: nothing has happened yet
2. one pass over all of it (inspection.py); unusable: dead letter, report, failed/. After a crash the pass is made again
3. the store notes it with its content's position at row 0, and it moves to processing/. Noted, not moved: taken again.
   Where a file of the same content is under way, it waits until that one is through
4. its rows are polled, and every saved batch keeps the next row: resumed at the next unsaved row
5. after its last batch: report, move to done/, note in the store. Found in done/ at the next start, it is
   taken back and read from the stored row on: nothing after a crash, what is missing in a restored database
"""

import logging
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from monitor import crashpoints
from monitor.config import DropFolderSection
from monitor.errors import Refusals, TooManyRefused
from monitor.parsing import Parser
from monitor.posts import Batch, Saved, StreamPartition
from monitor.protocols import Polled
from monitor.sources.bookkeeping import Positions
from monitor.sources.csv_rows import UnusableHeader
from monitor.sources.file_ends import FileEnds
from monitor.sources.file_rows import FileRows
from monitor.sources.folders import DONE, FAILED, PASSING_ERRORS, PROCESSING, Folders, Waiting, look_again
from monitor.sources.inspection import Inspection
from monitor.sources.waiting import WaitingFiles
from monitor.store.files import TakenFile

log = logging.getLogger(__name__)

RESCAN_S = 2.0  #: events are hints only
FILES = StreamPartition("", 0)  #: what `lag` counts waiting files under

FEW_BYTES = 65_536  #: of files not yet saved that are no backlog: some hundred posts


class DropFolder:
    """The Source of one drop folder; see protocols.Source."""

    kind = "drop_folder"

    def __init__(
        self,
        section: DropFolderSection,
        parser: Parser,
        positions: Positions,
        clock: Callable[[], datetime],
        *,
        path: Path,
        keep_text: bool = True,
        rescan_s: float = RESCAN_S,
    ) -> None:
        """`path` is the folder, absolute.

        With `keep_text` false finished files are deleted and only their reports stay.
        """
        self.name = section.name
        self.folders = Folders(path)
        self._parser = parser
        self._positions = positions
        self._clock = clock
        self._done_keep_days = section.done_keep_days
        self._waiting = WaitingFiles(self.folders, section.settle_s, clock, rescan_s)
        self._inspecting: tuple[Waiting, Inspection] | None = None
        self._resuming: deque[TakenFile] = deque()
        self._reading: tuple[TakenFile, FileRows] | None = None
        self._polled: list[TakenFile] = []  # to their ends, the last batch not saved yet
        self._ends = FileEnds(section.name, self.folders, positions, clock, keep_text=keep_text)
        self._refused: Mapping[str, str] = {}  # taken name -> why; replaced as a whole: other threads read it
        self._marked: frozenset[str] = frozenset()

    # ---- protocols.Source ----------------------------------------------------------------------------------------

    def open(self) -> None:
        self.folders.open()
        self._waiting.open()
        self._find_unfinished()
        self._waiting.scan(self._under_way())

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        deadline = time.monotonic() + timeout_s
        self._ends.finish()
        while self._reading is None:
            if not self._advance(deadline) and not self._waiting.wait(deadline):
                return Polled([], {})
        return self._read(max_records, deadline)

    def keep_alive(self) -> None:
        pass

    def commit(self, batch: Batch, saved: Saved) -> None:  # noqa: ARG002 - the counters were written by the save
        if batch.ends_file and batch.file is not None:
            self._end(batch.file, DONE, "")

    def refuse(self, batch: Batch, verdict: TooManyRefused) -> None:
        if batch.file is not None and batch.file not in self._refused:
            self._refused = {**self._refused, batch.file: verdict.sentence}
            self._end(batch.file, FAILED, verdict.sentence, verdict.reasons)

    def rewind(self) -> None:
        self._stop_reading()
        self._resuming.extendleft(reversed(self._polled))
        self._polled.clear()

    def is_current(self, batch: Batch) -> bool:
        return batch.file not in self._refused

    def paused(self) -> str | None:
        return None

    def mark_end(self) -> None:
        self._waiting.scan(self._under_way())
        self._marked = frozenset(self._names_ahead())

    def reached_end(self) -> bool:
        under_way = {taken.name for taken in self._resuming} | ({self._reading[0].name} if self._reading else set())
        return self._marked.isdisjoint(under_way) and not self._waiting.any_of(self._marked)

    def lag(self) -> Mapping[StreamPartition, int]:
        return {FILES: len(self._names_ahead())}

    def caught_up(self) -> bool:
        inspecting, reading = self._inspecting, self._reading  # the owner's thread may change them meanwhile
        taken = [*self._resuming, *self._polled, *([reading[0]] if reading else [])]
        n_bytes = self._waiting.settled_bytes + (inspecting[0].size if inspecting else 0)
        return n_bytes + sum(self.folders.n_bytes_of(one.taken_name) for one in taken) <= FEW_BYTES

    def retain(self, now: datetime, retention_days: int, *, keep_text: bool) -> int:
        """Remove finished files that are too old for the folder's `done_keep_days` or for the store's retention.

        Any thread.
        """
        return self.folders.retain(now, min(self._done_keep_days, retention_days), keep_text=keep_text)

    def close(self) -> None:
        self._waiting.close()
        self._stop_reading()
        self._stop_inspecting()
        self.folders.close()

    @property
    def n_bad_files(self) -> int:
        """Files refused as a whole, `bad_file`, since the start. Any thread."""
        return self._ends.n_bad_files

    @property
    def too_bad(self) -> Mapping[str, str]:
        """Files with too many bad rows, by their names in failed/, and why. Any thread."""
        return self._refused

    @property
    def left_behind(self) -> set[str]:
        """Files that lie in the folder and cannot be read."""
        return self._waiting.unreadable

    # ---- what lies ahead -----------------------------------------------------------------------------------------

    def _find_unfinished(self) -> None:
        """After a start: unfinished files of processing/ and done/ go on where they were, what is gone is noted."""
        under_way = self._under_way()
        for taken in self._positions.unfinished_files():
            where = self.folders.where(taken.taken_name)
            if taken.taken_name in under_way:
                continue
            if where == DONE:
                self.folders.take_back(taken.taken_name)
            if where in {PROCESSING, DONE}:
                self._resuming.append(taken)
            else:
                self._positions.finish_file(taken.taken_name, where or FAILED, self._clock())

    def _under_way(self) -> set[str]:
        """Names in processing/ of the files that this source knows of."""
        taken = [*self._resuming, *self._polled, *([self._reading[0]] if self._reading else [])]
        return {file.taken_name for file in taken} | self._ends.taken_names

    def _has_under_way(self, sha256: str) -> bool:
        """Whether a file with this content is taken and not through."""
        reading = [self._reading[0]] if self._reading else []
        return sha256 in {file.sha256 for file in [*self._resuming, *self._polled, *reading]} | self._ends.contents

    def _names_ahead(self) -> set[str]:
        """Files not polled to their ends, by the names they were dropped under."""
        reading = self._reading
        names = self._waiting.ahead | {taken.name for taken in list(self._resuming)}
        return names | ({reading[0].name} if reading else set())

    def _advance(self, deadline: float) -> bool:
        """One step towards the next rows; False if there is nothing to do before `deadline`."""
        if self._resuming:
            self._resume(self._resuming[0])
            return True
        if self._inspecting is not None:
            return self._inspect(*self._inspecting, deadline)
        file = self._waiting.next_settled(self._under_way())
        if file is not None:
            self._begin(file)
        return file is not None

    # ---- one file ------------------------------------------------------------------------------------------------

    def _begin(self, file: Waiting) -> None:
        try:
            self._inspecting = file, Inspection(file.path, self._parser.theirs)
        except FileNotFoundError:
            self._waiting.remove(file)
        except OSError as error:
            self._set_aside(file, error)

    def _inspect(self, file: Waiting, inspection: Inspection, deadline: float) -> bool:
        try:
            if not inspection.advance(deadline):
                return False
        except OSError as error:
            self._set_aside(file, error)
            return True
        if inspection.verdict is None and self._has_under_way(inspection.sha256):
            return False  # the two would share a position, and each move the other back
        self._inspecting = None
        if look_again(file) != file:
            self._waiting.scan_soon()  # written to, replaced or removed meanwhile: it has not settled
            return True
        if inspection.verdict is None:
            self._take(file, inspection.sha256)
        else:
            self._ends.refuse(file, inspection.sha256, inspection.verdict)
        self._waiting.remove(file)
        return True

    def _set_aside(self, file: Waiting, error: OSError) -> None:
        """A file that cannot be read waits until somebody touches it; the others go on. Raises SourceUnavailable."""
        self._stop_inspecting()
        self.folders.raise_if_passing(error)
        self._waiting.remove(file, is_unreadable=True)
        extra = {"source": self.name, "file": file.name, "error": error.strerror}
        log.warning("a dropped file cannot be read", extra=extra)

    def _take(self, file: Waiting, sha256: str) -> None:
        now = self._time_of_taking()
        taken = TakenFile(self.folders.free_name(file.name, now), file.name, sha256, now)
        self._positions.take_file(taken.taken_name, taken.name, sha256, now)
        crashpoints.passing("file note")
        if self.folders.take(file, taken.taken_name):
            crashpoints.passing("file take")
            self._start_reading(taken, 0)
        else:
            self._positions.finish_file(taken.taken_name, FAILED, now)

    def _time_of_taking(self) -> datetime:
        """Now, or right after the files under way where the clock was set back: after a crash they are read again in
        the order of their times."""
        reading = [self._reading[0]] if self._reading else []
        under_way = [taken.taken_at for taken in [*self._resuming, *self._polled, *reading]]
        return max([self._clock(), *(taken_at + timedelta(microseconds=1) for taken_at in under_way)])

    def _resume(self, taken: TakenFile) -> None:
        stored = self._positions.load().get(StreamPartition(taken.sha256, 0))
        self._resuming.popleft()
        self._start_reading(taken, stored.next_offset if stored else 0)

    def _start_reading(self, taken: TakenFile, first_row: int) -> None:
        path = self.folders.in_processing(taken.taken_name)
        try:
            self._reading = taken, FileRows(path, taken, self._parser, first_row)
        except (OSError, UnusableHeader) as error:  # removed by somebody, or the configured columns changed under it
            if isinstance(error, OSError) and error.errno in PASSING_ERRORS:
                self._resuming.appendleft(taken)
                self.folders.raise_if_passing(error)
            self._ends.add(taken, FAILED, f"it cannot be read any more: {error}")

    def _read(self, max_records: int, deadline: float) -> Polled:
        assert self._reading is not None
        taken, rows = self._reading
        try:
            records = rows.read(max_records, deadline)
        except OSError as error:
            self.folders.raise_if_passing(error)
            self._end(taken.taken_name, FAILED, f"it cannot be read any more: {error}")
            return Polled([], {})
        except (EOFError, zlib.error, UnusableHeader):
            self._end(taken.taken_name, FAILED, "it broke while it was read")
            return Polled([], {})
        if not records and not rows.is_at_end:
            return Polled([], {})  # rows before the stored one are being skipped
        if rows.is_at_end:
            self._stop_reading()
        at = StreamPartition(taken.sha256, 0)
        return Polled(records, {at: rows.next_row}, taken.taken_name, rows.is_at_end, starts={at: rows.first_row})

    def _stop_reading(self) -> None:
        """Close the file under way; until it ends, it is among the polled ones, which `rewind` reads again."""
        if self._reading is not None:
            taken, rows = self._reading
            rows.close()
            self._polled.append(taken)
            self._reading = None

    def _stop_inspecting(self) -> None:
        if self._inspecting is not None:
            self._inspecting[1].close()
            self._inspecting = None

    def _end(
        self, taken_name: str, outcome: str, sentence: str, not_stored: Mapping[str, Refusals] = MappingProxyType({})
    ) -> None:
        """A file is through, wherever it is on its way."""
        if self._reading is not None and self._reading[0].taken_name == taken_name:
            self._stop_reading()
        ended = [taken for taken in [*self._polled, *self._resuming] if taken.taken_name == taken_name]
        self._polled = [taken for taken in self._polled if taken not in ended]
        self._resuming = deque(taken for taken in self._resuming if taken not in ended)
        for taken in ended:
            self._ends.add(taken, outcome, sentence, not_stored)
