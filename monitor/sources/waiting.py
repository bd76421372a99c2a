"""Which files of a drop folder wait to be taken, and which of them have settled."""

import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from monitor.sources.folders import Folders, Waiting
from monitor.sources.hints import FolderHints

LONGEST_WAIT_S = 0.2  #: while a file is settling
MAX_SCAN_SHARE = 0.1  #: of the time: a scan of 100,000 files takes a second


class WaitingFiles:
    """The folder as last scanned, oldest file first. Only `ahead` and `settled_bytes` are for other threads."""

    def __init__(self, folders: Folders, settle_s: float, clock: Callable[[], datetime], rescan_s: float) -> None:
        self._folders = folders
        self._settle = timedelta(seconds=settle_s)
        self._clock = clock
        self._rescan_s = rescan_s
        self._hints = FolderHints(folders.path)
        self._next_scan = 0.0  # monotonic
        self._files: dict[Waiting, None] = {}  # in order; a list would take as long again for each of 100,000 files
        self._first_seen: dict[Waiting, datetime] = {}
        self._unreadable: dict[Waiting, int] = {}  # with the time of its last change, permissions included

    def open(self) -> None:
        """Begin to watch the folder."""
        self._hints.start()
        self._next_scan = 0.0

    def close(self) -> None:
        """Stop watching; safe to call twice."""
        self._hints.close()

    @property
    def ahead(self) -> set[str]:
        """Names of the waiting files that can be read, settled or not."""
        return {file.name for file in list(self._files)}

    @property
    def unreadable(self) -> set[str]:
        """Names of the files that stay where they are, for they cannot be read."""
        return {file.name for file in list(self._unreadable)}

    @property
    def settled_bytes(self) -> int:
        """Size of the files that could be taken now, together."""
        return sum(file.size for file in list(self._files) if self._is_settled(file))

    def any_of(self, names: Collection[str]) -> bool:
        """True while a file with one of these names can be read, settled or not; for the owner's thread."""
        return any(file.name in names for file in self._files)

    def next_settled(self, under_way: Collection[str]) -> Waiting | None:
        """The oldest file that has settled; `under_way` are the files of processing/ that are somebody's already."""
        if time.monotonic() >= self._next_scan:
            self.scan(under_way)
        return next((file for file in self._files if self._is_settled(file)), None)

    def scan(self, under_way: Collection[str]) -> None:
        """Look into the folder; strays in processing/ (a crash between move and note) come first.

        Raises SourceUnavailable.
        """
        began = time.monotonic()
        strays = [file for file in self._folders.processing() if file.path.name not in under_way]
        files = strays + self._folders.waiting()
        now = self._clock()
        self._first_seen = {file: self._first_seen.get(file, now) for file in files}
        there = set(files)
        self._unreadable = {f: at for f, at in self._unreadable.items() if f in there and _changed_ns(f) == at}
        self._files = dict.fromkeys(file for file in files if file not in self._unreadable)
        ended = time.monotonic()
        self._next_scan = ended + max(self._rescan_s, (ended - began) / MAX_SCAN_SHARE)

    def scan_soon(self) -> None:
        """Scan before the next file is chosen."""
        self._next_scan = 0.0

    def remove(self, file: Waiting, *, is_unreadable: bool = False) -> None:
        """The file was taken or is gone; an unreadable one stays out until somebody touches it."""
        if is_unreadable:
            self._unreadable[file] = _changed_ns(file)
        self._files.pop(file, None)

    def wait(self, deadline: float) -> bool:
        """Wait for a change, for the next scan or for a file to settle.

        False once `deadline` (monotonic) has passed.
        """
        now = time.monotonic()
        if now >= deadline:
            return False
        # a scan that is due and was not made has no use now: whoever waits has a file in hand
        until = self._next_scan if self._next_scan > now else now + LONGEST_WAIT_S
        longest = min(deadline, until) - now
        if self._hints.wait(max(0.0, min(longest, LONGEST_WAIT_S) if self._files else longest)) or self._files:
            self.scan_soon()
        return True

    def _is_settled(self, file: Waiting) -> bool:
        """Old enough, or seen unchanged for long enough (which also covers a file dated in the future)."""
        now = self._clock()
        age_s = now.timestamp() - file.mtime_ns / 1e9
        return timedelta(seconds=age_s) >= self._settle or now - self._seen_since(file, now) >= self._settle

    def _seen_since(self, file: Waiting, now: datetime) -> datetime:
        """Since when it is known as it is; after the clock was set back, since then."""
        since = self._first_seen.get(file, now)
        if since > now:
            self._first_seen[file] = since = now
        return since


def _changed_ns(file: Waiting) -> int:
    """When content or permissions changed last, in ns since 1970; 0 for a file that is gone."""
    try:
        return file.path.lstat().st_ctime_ns
    except OSError:
        return 0
