"""How often equal rows came before in one file, with bounded memory."""

import sqlite3

from monitor.errors import SourceUnavailable

MAX_IN_MEMORY = 500_000  #: distinct rows counted in memory (about 40 MiB); the rest goes to a temporary file


class Occurrences:
    """Counts rows by a 64-bit number that stands for their content.

    Two different rows of n share a number with probability about n²/2^65 (a million rows: 3 in 10^8); one of them would
    then be taken for a repetition, which changes its key but not whether it counts.
    """

    def __init__(self, max_in_memory: int = MAX_IN_MEMORY) -> None:
        self._max_in_memory = max_in_memory
        self._counts: dict[int, int] = {}
        self._spill: sqlite3.Connection | None = None

    def __call__(self, content: int) -> int:
        """How many rows of this content came before: 0, 1, 2, ..."""
        before = self._counts.get(content)
        if before is None and len(self._counts) >= self._max_in_memory:
            return self._count_in_file(content)
        self._counts[content] = (before or 0) + 1
        return before or 0

    def close(self) -> None:
        """Drop the temporary file."""
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    def _count_in_file(self, content: int) -> int:
        statement = "INSERT INTO seen VALUES (?, 1) ON CONFLICT (content) DO UPDATE SET n = n + 1 RETURNING n"
        try:
            if self._spill is None:
                self._spill = _temporary_table()
            return int(self._spill.execute(statement, (content,)).fetchone()[0]) - 1
        except sqlite3.Error as error:
            raise SourceUnavailable(f"no room for a temporary file to count equal rows in: {error}") from error


def _temporary_table() -> sqlite3.Connection:
    """SQLite's name "" is a private file that the system removes when it is closed (sqlite.org/inmemorydb.html)."""
    connection = sqlite3.connect("", isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("CREATE TABLE seen (content INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
    return connection
