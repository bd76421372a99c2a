"""The end of files: report, move to done/ or failed/, note in the store; in order, and again until it succeeds."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

import msgspec

from monitor import crashpoints
from monitor.errors import Refusals, Unavailable
from monitor.posts import DeadLetter, Place, Reason
from monitor.sources.bookkeeping import Positions
from monitor.sources.folders import FAILED, Folders, Waiting, report_of
from monitor.sources.inspection import head_of
from monitor.store.files import FileCounts, TakenFile

log = logging.getLogger(__name__)


class _Ending(msgspec.Struct):
    taken: TakenFile
    outcome: str
    sentence: str
    not_stored: Mapping[str, Refusals]


class FileEnds:
    """Ends files of one drop folder. With `keep_text` false the files are deleted and only their reports stay."""

    def __init__(
        self, source: str, folders: Folders, positions: Positions, clock: Callable[[], datetime], *, keep_text: bool
    ) -> None:
        self._source = source
        self._folders = folders
        self._positions = positions
        self._clock = clock
        self._keep_text = keep_text
        self._waiting: deque[_Ending] = deque()
        self.n_bad_files = 0  # refused as a whole since the start

    @property
    def taken_names(self) -> set[str]:
        """Files that still lie in processing/ although they are through."""
        return {ending.taken.taken_name for ending in self._waiting}

    @property
    def contents(self) -> set[str]:
        """Their SHA-256s."""
        return {ending.taken.sha256 for ending in self._waiting}

    def add(
        self,
        taken: TakenFile,
        outcome: str,
        sentence: str = "",
        not_stored: Mapping[str, Refusals] = MappingProxyType({}),
    ) -> None:
        """Report a file and move it to `outcome`/; where the store or the folder is away, a later `finish` does it.

        `not_stored`: what was refused, by reason, in a batch that failed the file.
        """
        self._waiting.append(_Ending(taken, outcome, sentence, not_stored))
        try:
            self.finish()
        except Unavailable as error:
            extra = {"source": self._source, "file": taken.taken_name, "error": str(error)}
            log.warning("a file waits to be moved", extra=extra)

    def finish(self) -> None:
        """End every file that waits for it. Raises Unavailable."""
        while self._waiting:
            ending = self._waiting[0]
            name = ending.taken.taken_name
            counts = self._positions.file_counts(name)
            report = report_of(ending.taken.name, ending.outcome, counts, ending.sentence, ending.not_stored)
            path = self._folders.in_processing(name)
            crashpoints.passing("file report")
            self._folders.end(path, name, ending.outcome, report, keep=self._keep_text)
            crashpoints.passing("file move")
            self._positions.finish_file(name, ending.outcome, self._clock())
            self._waiting.popleft()
            log.info("a file is through", extra={"source": self._source, "file": name, "outcome": ending.outcome})

    def refuse(self, file: Waiting, sha256: str, sentence: str) -> None:
        """A file that cannot be used: one dead letter, then failed/, without having been taken. Raises Unavailable."""
        now = self._clock()
        taken_name = self._folders.free_name(file.name, now)
        with self._folders.errors():
            raw, is_cut = head_of(file.path)
        detail = f"{file.name}: {sentence}"
        letter = DeadLetter(self._source, Place(sha256, 0, -1), now, Reason.BAD_FILE, detail, raw, is_cut)
        self._positions.save_dead_file(letter)
        report = report_of(file.name, FAILED, FileCounts(0, 0, {}), sentence)
        self._folders.end(file.path, taken_name, FAILED, report, keep=self._keep_text)
        self.n_bad_files += 1
        log.warning("a file cannot be used", extra={"source": self._source, "file": file.name, "why": sentence})
