"""Everything that the monitor raises on purpose.

MonitorError
├── ConfigError          exit 78: configuration, bundle or schema is not usable; trying again changes nothing
├── Unavailable          exit 69: a service does not answer now; wait and try again
│   ├── StoreUnavailable
│   │   └── AlreadyRunning   waiting would not help: another daemon holds the SQLite file
│   └── SourceUnavailable
├── UnusableInput        exit 65: a file given to a command cannot be read as what it should be
├── PositionsMovedBack   read again from the stored positions; never leaves the pipeline
└── TooManyRefused       exit 65: a source gave more bad records than max_invalid_share allows
"""

from typing import NamedTuple


class MonitorError(Exception):
    """Base of the tree; `exit_code` is what a command ends with when nobody catches it."""

    exit_code = 1


class ConfigError(MonitorError):
    """The configuration, the bundle or the database schema cannot be used as it is."""

    exit_code = 78


class Unavailable(MonitorError):  # noqa: N818 - named for the state of the world it tells
    """A service does not answer now. Nothing was lost; the same call may succeed later."""

    exit_code = 69


class StoreUnavailable(Unavailable):
    """The database cannot be reached, is locked, full or read-only."""


class AlreadyRunning(StoreUnavailable):
    """Another daemon uses the SQLite file; it will not let go by itself, so nobody waits for it."""


class SourceUnavailable(Unavailable):
    """The broker or the folder cannot be reached."""


class UnusableInput(MonitorError):  # noqa: N818 - a verdict on the file
    """A file given to a command is not what it should be; the message is a sentence for its owner."""

    exit_code = 65


class PositionsMovedBack(MonitorError):  # noqa: N818 - what happened to them, not what went wrong here
    """A stored position is older than what was saved before: the database was restored, or somebody moved it back.

    The batch in hand was not stored: records between the two would be skipped for good.
    """

    def __init__(self, source: str) -> None:
        """`source` is the one whose positions moved."""
        super().__init__(f"the stored positions of source {source} are older than what was saved")
        self.source = source


class Refusals(NamedTuple):
    """Records refused for one reason: how many, where the first lies in words, and its line (None: not of a file)."""

    n: int
    where: str
    line: int | None


class TooManyRefused(MonitorError):  # noqa: N818 - a verdict on a source, not a fault of ours
    """More than `max_invalid_share` of a source's last records were refused; the batch in hand was not stored."""

    exit_code = 65

    def __init__(self, source: str, n_refused: int, n_judged: int) -> None:
        """`n_refused` of the last `n_judged` records of `source` were refused."""
        super().__init__(f"{n_refused} of the last {n_judged} records of source {source} were refused")
        self.source = source
        self.n_refused = n_refused
        self.n_judged = n_judged
        self.reasons: dict[str, Refusals] = {}  # of the batch in hand, by reason

    @property
    def sentence(self) -> str:
        """How many and why, most frequent reason first: nothing of the batch in hand is stored to look it up in."""
        counts = f"{self.n_refused} of the last {self.n_judged} records were refused"
        most_first = sorted(self.reasons.items(), key=lambda item: -item[1].n)
        why = ", ".join(f"{reason} {of.n} (first {of.where})" for reason, of in most_first)
        return f"{counts}; in the batch that was not stored: {why}" if why else counts
