"""The main thread of a daemon: it waits, and whatever it waits for, it sees signals, feeds the watchdog and looks at
the clock."""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from monitor.clocks import JumpWatch
from monitor.errors import AlreadyRunning, Unavailable
from monitor.health import Health
from monitor.pipeline import RETRY_S
from monitor.signals import Signals
from monitor.systemd import ServiceManager

log = logging.getLogger(__name__)
T = TypeVar("T")

TURN_S = 0.2  #: how soon the main thread sees a signal
LEAVE_S = 23.0  #: after which the process leaves whatever still hangs; the whole stop stays under 25 s


class MainThread:
    """Its turns, and the ways to wait in turns. `on_jump` gets the seconds by which the clock was set."""

    def __init__(
        self,
        signals: Signals,
        health: Health,
        manager: ServiceManager,
        clock: JumpWatch,
        on_jump: Callable[[float], None],
    ) -> None:
        self._signals = signals
        self._health = health
        self._manager = manager
        self._clock = clock
        self._on_jump = on_jump

    @property
    def is_stopping(self) -> bool:
        """A signal asked for a stop."""
        return self._signals.stop

    def wait_for(self, part: str, action: Callable[[], T], wait_s: float | None = None) -> T | None:
        """Call until it works; Unavailable is told once and retried (for at most `wait_s`). None when a signal came
        first."""
        began, n_failed = time.monotonic(), 0
        while not self.is_stopping:
            self._turn()
            try:
                return action()
            except AlreadyRunning:
                raise
            except Unavailable as error:
                self._health.down(part, str(error))
                if wait_s is not None and time.monotonic() - began >= wait_s:
                    raise
            self._sleep(RETRY_S[min(n_failed, len(RETRY_S) - 1)])
            n_failed += 1
        return None

    def turning(self, action: Callable[[], T]) -> T:
        """Call on another thread while this one keeps turning: a long migration must not starve the watchdog."""
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(action())
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                future.set_exception(error)

        threading.Thread(target=work, name="opening", daemon=True).start()
        while True:
            try:
                return future.result(TURN_S)
            except TimeoutError:
                if future.done():
                    raise
                self._turn()

    def run_until_stopped(self, has_failed: Callable[[], bool], reload: Callable[[], None]) -> int:
        """Turn until a signal asks for a stop: 0; or until something has failed: 1. SIGHUP calls `reload`."""
        while not self.is_stopping:
            self._turn()
            if has_failed():
                return 1
            if self._signals.reload:
                self._signals.reload = False
                reload()
            time.sleep(TURN_S)
        return 0

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.is_stopping and time.monotonic() < until:
            self._turn()
            time.sleep(min(TURN_S, seconds))

    def _turn(self) -> None:
        """It goes on, working or waiting; the watchdog is fed unless a loop is stuck."""
        self._health.turn("main")
        self._health.tell_silent()
        jumped_s = self._clock.jumped_s()
        if jumped_s:
            log.warning("the clock was set, or the machine slept", extra={"jumped_s": round(jumped_s, 1)})
            self._on_jump(jumped_s)
        if not self._health.stuck():
            self._manager.alive()


def leave_in_time(signals: Signals, ended: threading.Event) -> None:
    """After a stop was asked for, leave even where a thread hangs on something that never answers; what it held is
    read again."""
    while not signals.stop:
        if ended.wait(TURN_S):
            return
    if not ended.wait(LEAVE_S):
        log.warning("leaving although something still hangs")
        os._exit(0)
