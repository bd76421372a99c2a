"""Clocks that people and time servers set, and those that nobody sets."""

import time
from collections.abc import Callable

JUMP_S = 2.0  #: less than this between two looks is how clocks are usually corrected, and disturbs nothing


def awake_or_not_s() -> float:
    """Seconds that nobody can set and that go on while the machine sleeps, which time.monotonic does not on Linux.

    For leases: another machine's patience does not stop with ours. CLOCK_BOOTTIME, clock_gettime(2).
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux alone has it
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class JumpWatch:
    """Sees when the wall clock was set. A machine that slept looks like a clock that was set forwards."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._ahead_s = wall() - monotonic()

    def jumped_s(self) -> float:
        """Seconds that the wall clock was set by since the last call, forwards positive; 0 for less than JUMP_S."""
        ahead_s = self._wall() - self._monotonic()
        jumped_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        return jumped_s if abs(jumped_s) >= JUMP_S else 0.0
