"""What sources need of the store: their positions and the files they took.

Every call is one transaction and may raise StoreUnavailable.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from monitor.posts import DeadLetter, StreamPartition
from monitor.store import files, positions
from monitor.store.database import Database
from monitor.store.files import FileCounts, TakenFile
from monitor.store.positions import Position


class Positions(Protocol):
    """The stored positions and files of one source."""

    def load(self) -> Mapping[StreamPartition, Position]:
        """Every stored position."""

    def begin(self, starts: Mapping[StreamPartition, int]) -> None:
        """Give what has no position yet its first one; existing positions stay."""

    def reset(self, stream_partition: StreamPartition, next_offset: int) -> None:
        """Set a position, backwards too."""

    def go_back(self, stream_partition: StreamPartition, next_offset: int, lost_from: int | None) -> None:
        """Reset a position in a log whose records from `lost_from` on (None: not known) are written anew."""

    def take_file(self, taken_name: str, name: str, sha256: str, now: datetime) -> None:
        """Note that a file was taken and start its content at row 0.

        A second call for a known `taken_name` changes nothing.
        """

    def finish_file(self, taken_name: str, outcome: str, now: datetime) -> None:
        """Note that a file moved to `outcome`/ (done or failed); the first note stays."""

    def unfinished_files(self) -> list[TakenFile]:
        """Files taken and not finished, in the order in which they were taken."""

    def file_counts(self, taken_name: str) -> FileCounts:
        """What became of a file's rows so far."""

    def save_dead_file(self, dead_letter: DeadLetter) -> None:
        """Store the dead letter of a file that cannot be used at all; once for the same content."""


class StoredPositions:
    """Positions in a database, bound to one source. `keep_text` false keeps no bytes of dead files."""

    def __init__(self, db: Database, source: str, *, keep_text: bool = True) -> None:
        self._db = db
        self._source = source
        self._keep_text = keep_text

    def load(self) -> Mapping[StreamPartition, Position]:
        return positions.load(self._db, self._source)

    def begin(self, starts: Mapping[StreamPartition, int]) -> None:
        positions.begin(self._db, self._source, starts)

    def reset(self, stream_partition: StreamPartition, next_offset: int) -> None:
        positions.reset(self._db, self._source, stream_partition, next_offset)

    def go_back(self, stream_partition: StreamPartition, next_offset: int, lost_from: int | None) -> None:
        positions.go_back(self._db, self._source, stream_partition, next_offset, lost_from)

    def take_file(self, taken_name: str, name: str, sha256: str, now: datetime) -> None:
        files.take(self._db, self._source, taken_name, name, sha256, now)

    def finish_file(self, taken_name: str, outcome: str, now: datetime) -> None:
        files.finish(self._db, self._source, taken_name, outcome, now)

    def unfinished_files(self) -> list[TakenFile]:
        return files.unfinished(self._db, self._source)

    def file_counts(self, taken_name: str) -> FileCounts:
        return files.counts(self._db, self._source, taken_name)

    def save_dead_file(self, dead_letter: DeadLetter) -> None:
        files.save_dead_file(self._db, dead_letter, keep_raw=self._keep_text)
