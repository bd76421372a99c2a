"""What works, what is waited for, and whether the loops still turn: behind /livez, /readyz, the watchdog and
`status`."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from monitor.metrics import Metrics

log = logging.getLogger(__name__)

#: a part that was asked and has said nothing for this long is told as away: a server may hang without closing anything
SILENT_S = 10.0

STARTING = "starting"  #: what is said of a part that nobody has heard of yet

#: a loop that has not turned for this long is stuck; idle and waiting turns count as turning
MAX_TURN_S = 120.0


class Part(msgspec.Struct, frozen=True):
    """One thing the daemon stands on."""

    name: str  # store, bundle, source NAME, slack
    ok: bool
    detail: str
    needed: bool  # False: shown, but does not make the daemon unready (slack)


class Health:
    """Thread-safe. Every change is logged once, not every retry."""

    def __init__(self, metrics: Metrics, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._parts: dict[str, Part] = {}
        self._details: dict[str, str] = {}
        self._waiting: dict[str, set[str]] = {}  # part -> loops that try again until it works
        self._turns: dict[str, float] = {}
        self._asked: dict[tuple[str, int], float] = {}  # (part, thread): since when it waits for an answer

    def expect(self, *names: str) -> None:
        """These parts are needed: the daemon is not ready before each of them was up."""
        with self._lock:
            for name in names:
                self._parts.setdefault(name, Part(name, ok=False, detail=STARTING, needed=True))

    def up(self, name: str, detail: str | None = None, *, needed: bool = True, loop: str = "") -> None:
        """`name` works; logged when it did not before. Without `detail` the last one told of a working part stays.

        While another loop than `loop` waits for it, that is no news: a full disk may have room for one row.
        """
        with self._lock:
            waiting = self._waiting.get(name, set())
            waiting.discard(loop)
            if waiting:
                return
            before = self._parts.get(name)
            if detail is not None:
                self._details[name] = detail
            self._parts[name] = Part(name, ok=True, detail=self._details.get(name, "ok"), needed=needed)
        self._metrics.part_up.labels(name).set(1)
        if before is not None and not before.ok and before.detail != STARTING:
            log.info("%s works again", name)

    def down(self, name: str, detail: str, *, needed: bool = True, loop: str = "") -> None:
        """`name` is waited for; logged the first time only. A `loop` waits until it says itself that the part is up."""
        with self._lock:
            if loop:
                self._waiting.setdefault(name, set()).add(loop)
            before = self._parts.get(name)
            self._parts[name] = Part(name, ok=False, detail=detail, needed=needed)
        self._metrics.part_up.labels(name).set(0)
        self._metrics.retries.labels(name).inc()
        if before is None or before.ok or before.detail == STARTING:
            log.warning("%s is not available, trying again until it is: %s", name, detail)

    @contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """Around a question to a part that is answered within seconds, or else it hangs."""
        key = (name, threading.get_ident())
        self._asked[key] = self._monotonic()
        try:
            yield
        finally:
            self._asked.pop(key, None)

    def tell_silent(self) -> None:
        """Tell the parts that hang; called from time to time by a thread that asks none of them."""
        now = self._monotonic()
        silent = {name for (name, _), at in dict(self._asked).items() if now - at > SILENT_S}
        for part in self.parts():
            if part.ok and part.name in silent:
                self.down(part.name, f"it was asked and has not answered for more than {SILENT_S:.0f} s")

    def turn(self, loop: str) -> None:
        """The loop goes on: it worked, idled or waited."""
        self._turns[loop] = self._monotonic()

    def ended(self, loop: str) -> None:
        """The loop ended on purpose."""
        self._turns.pop(loop, None)

    def stuck(self) -> list[str]:
        """Loops that have not turned for MAX_TURN_S."""
        now = self._monotonic()
        return sorted(loop for loop, at in dict(self._turns).items() if now - at > MAX_TURN_S)

    def parts(self) -> list[Part]:
        """Every part, in the order in which they appeared."""
        with self._lock:
            return list(self._parts.values())

    def works(self, name: str) -> bool:
        """True when that part was heard of and works."""
        return any(part.ok for part in self.parts() if part.name == name)

    def ready(self) -> bool:
        """True when every needed part works."""
        parts = self.parts()
        return bool(parts) and all(part.ok for part in parts if part.needed)
