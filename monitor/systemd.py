"""Tells the service manager how the daemon is: the protocol of systemd, one datagram a message (sd_notify(3))."""

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)


class ServiceManager:
    """Whoever started the daemon with NOTIFY_SOCKET set; without one calls do nothing. None raises, none blocks."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """`environ` stands in for the process environment."""
        environ = os.environ if environ is None else environ
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path  # @ is how an abstract socket is spelt
        #: the daemon is restarted unless `alive` is called within this many seconds; None: nobody watches
        self.watchdog_s = _watchdog_s(environ)
        self._fed_at = float("-inf")

    def ready(self, status: str) -> None:
        """The start is done: configuration and bundle are valid."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def alive(self) -> None:
        """The loops still turn. Call it at every turn: the watchdog hears of it three times in `watchdog_s`."""
        now = time.monotonic()
        if self.watchdog_s is not None and now - self._fed_at >= self.watchdog_s / 3:
            self._fed_at = now
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The end began."""
        self._send("STOPPING=1\nSTATUS=finishing the batch in hand")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0)  # a manager that does not read must not stop the work
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            log.debug("the service manager could not be told: %s", error)


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """WATCHDOG_USEC in seconds, unless WATCHDOG_PID says that it is meant for another (sd_watchdog_enabled(3))."""
    micros, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    meant_for_us = not pid or pid == str(os.getpid())
    return int(micros) / 1e6 if micros.isdigit() and int(micros) > 0 and meant_for_us else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
