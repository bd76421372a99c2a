"""The layout of a drop folder: which files lie in it, what taken files are called, where they go, their reports."""

import errno
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import IO

import msgspec

from monitor.errors import Refusals, SourceUnavailable
from monitor.store.files import FileCounts

PROCESSING, DONE, FAILED = "processing", "done", "failed"
REPORT_SUFFIX = ".report.txt"
MAX_NAME_BYTES = 200  #: room for stamp and report suffix within the 255 bytes that file systems allow
#: trouble of disk, network file system or process that passes: the same file can be read later
PASSING_ERRORS = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EDQUOT,
}
_STAMP = re.compile(r"(\d{8}T\d{6}Z)(?:\.\d+)?-(.+)", re.DOTALL)
_STAMP_FORMAT = "%Y%m%dT%H%M%SZ"


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A file that lies in the folder; equal values mean that nobody touched it in between."""

    place: str  # its path; a text, because there may be 100,000 of these and each is compared and hashed
    name: str  # under which it was dropped, as it goes into the store: valid text, no control characters
    size: int  # bytes
    mtime_ns: int
    inode: int

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(self.place)


class Folders:
    """One drop folder and its processing/, done/ and failed/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Make the folders and lock them, so that two monitors never read the same file. Raises SourceUnavailable."""
        with self.errors():
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (PROCESSING, DONE, FAILED):
                _make(self.path / name)
            if self._lock is None:
                self._lock = _locked(self.path / PROCESSING / ".lock")

    def close(self) -> None:
        """Give the lock back; safe to call twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def waiting(self) -> list[Waiting]:
        """Files to take, oldest first, whether or not they have stopped growing."""
        with self.errors():
            return _files_in(self.path, taken=False)

    def processing(self) -> list[Waiting]:
        """Files in processing/."""
        with self.errors():
            return _files_in(self.path / PROCESSING, taken=True)

    def where(self, taken_name: str) -> str | None:
        """The folder that a taken file lies in, None when it is gone."""
        return next(
            (place for place in (PROCESSING, DONE, FAILED) if os.path.lexists(self.path / place / taken_name)), None
        )

    def n_bytes_of(self, taken_name: str) -> int:
        """Size of a file in processing/; 0 where it is gone."""
        try:
            return self.in_processing(taken_name).stat().st_size
        except OSError:
            return 0

    def in_processing(self, taken_name: str) -> Path:
        """The path of a file under way."""
        return self.path / PROCESSING / taken_name

    def free_name(self, name: str, now: datetime) -> str:
        """`STAMP-NAME`, with a number behind the stamp where that is taken."""
        stamp, short = now.astimezone(UTC).strftime(_STAMP_FORMAT), _short(name)
        candidates = (f"{stamp}{'' if n == 1 else f'.{n}'}-{short}" for n in range(1, 1_000_000))
        return next(candidate for candidate in candidates if self.where(candidate) is None)

    def take(self, file: Waiting, taken_name: str) -> bool:
        """Move a file to processing/; False when it vanished."""
        with self.errors():
            _make(self.path / PROCESSING)
            return _rename(file.path, self.in_processing(taken_name))

    def take_back(self, taken_name: str) -> None:
        """Move a file from done/ to processing/ again."""
        with self.errors():
            _rename(self.path / DONE / taken_name, self.in_processing(taken_name))

    def end(self, path: Path, taken_name: str, outcome: str, report: str, *, keep: bool) -> None:
        """Write the report and move the file to `outcome`/ (`keep` false: delete it). Doing it again is harmless."""
        with self.errors():
            target = self.path / outcome
            _make(target)
            _write(target / f"{taken_name}{REPORT_SUFFIX}", report)
            if keep:
                _rename(path, target / taken_name)
            else:
                path.unlink(missing_ok=True)

    def retain(self, now: datetime, keep_days: int, *, keep_text: bool) -> int:
        """Remove files of done/ and failed/ taken more than `keep_days` days ago, reports too.

        All files at once without `keep_text`.
        """
        n_removed = 0
        with self.errors():
            for entry in [entry for place in (DONE, FAILED) for entry in (self.path / place).iterdir()]:
                taken_at = taken_at_of(entry.name)
                if taken_at is None or not entry.is_file() or entry.is_symlink():
                    continue
                is_old = now - taken_at > timedelta(days=keep_days)
                if is_old or (not keep_text and not entry.name.endswith(REPORT_SUFFIX)):
                    entry.unlink(missing_ok=True)
                    n_removed += 1
        return n_removed

    def raise_if_passing(self, error: OSError) -> None:
        """Raise SourceUnavailable for trouble of disk, network or process: the file is as good as before."""
        if error.errno in PASSING_ERRORS:
            with self.errors():
                raise error

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What the file system refuses becomes SourceUnavailable with a plain sentence."""
        try:
            yield
        except OSError as error:
            raise SourceUnavailable(f"the folder {self.path} cannot be used: {error.strerror or error}") from error


def report_of(
    name: str,
    outcome: str,
    counts: FileCounts,
    sentence: str = "",
    not_stored: Mapping[str, Refusals] = MappingProxyType({}),
) -> str:
    """The text beside a finished file: rows counted, seen before, refused by reason with the first line of each.

    `not_stored` has, by reason, the rows refused in a batch that failed the file: they are no dead letters.
    """
    refused = dict(counts.refused)
    for reason, of in not_stored.items():
        n_rows, line = refused.get(reason, (0, of.line))
        refused[reason] = n_rows + of.n, line
    n_not_stored = sum(of.n for of in not_stored.values())
    lines = [f"{name}: {outcome}{': ' + sentence if sentence else ''}", ""]
    lines += [f"rows counted:     {counts.counted}", f"rows seen before: {counts.seen_before}"]
    n_refused = sum(n for n, _ in refused.values())
    which = "all" if n_not_stored == n_refused else f"{n_not_stored}"
    lines += [f"rows refused:     {n_refused}{f', {which} in a batch that was not stored' if n_not_stored else ''}"]
    for reason, (n_rows, line) in sorted(refused.items()):
        lines.append(f"  {reason}: {n_rows}" + ("" if line is None else f", first on line {line}"))
    return "\n".join(lines) + "\n"


def original_name(taken_name: str) -> str:
    """The name a file was dropped under, from its name in processing/."""
    found = _STAMP.fullmatch(taken_name)
    return found.group(2) if found else taken_name


def taken_at_of(taken_name: str) -> datetime | None:
    """When a file was taken, from its name; None for a name that the monitor did not give."""
    found = _STAMP.fullmatch(taken_name)
    with suppress(ValueError):
        return datetime.strptime(found.group(1), _STAMP_FORMAT).replace(tzinfo=UTC) if found else None
    return None


def _files_in(folder: Path, *, taken: bool) -> list[Waiting]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # gone since the listing
                if is_wanted(entry.name) and entry.is_file(follow_symlinks=False):
                    name = original_name(entry.name) if taken else entry.name
                    found.append(_seen(entry.path, _storable(name), entry.stat(follow_symlinks=False)))
    return sorted(found, key=lambda file: (file.mtime_ns, file.place))


def look_again(file: Waiting) -> Waiting | None:
    """The file as it is now, None when it is gone."""
    try:
        return _seen(file.place, file.name, file.path.lstat())
    except FileNotFoundError:
        return None


def _seen(place: str, name: str, stat: os.stat_result) -> Waiting:
    return Waiting(place, name, stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _storable(name: str) -> str:
    if name.isprintable():  # nearly every name
        return name
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "_" for char in text)


def is_wanted(name: str) -> bool:
    """Whether a file of this name is taken, if it is a file."""
    lowered = name.lower()
    return not lowered.startswith(".") and lowered.endswith((".csv", ".csv.gz"))


def _short(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    suffix = ".csv.gz" if name.lower().endswith(".gz") else ".csv"
    return name.encode()[: MAX_NAME_BYTES - len(suffix)].decode("utf-8", "ignore") + suffix


def _rename(path: Path, target: Path) -> bool:
    try:
        path.rename(target)
    except FileNotFoundError:
        return False
    return True


def _make(folder: Path) -> None:
    """Make a folder of ours; a symbolic link in its place would lead files elsewhere."""
    folder.mkdir(exist_ok=True)
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{folder.name} in it is a symbolic link")


def _write(path: Path, text: str) -> None:
    """Write a file anew; what lies there, a symbolic link too, is replaced and never written through."""
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8", errors="replace") as file:
        file.write(text)


def _locked(path: Path) -> IO[str]:
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SourceUnavailable(f"another running monitor reads the folder {path.parent.parent}") from None
    except OSError:  # a file system without locks: as good as it gets there
        return file
    return file
