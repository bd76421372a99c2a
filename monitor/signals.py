"""The signals of the process: handlers set flags, the main thread acts on them."""

import os
import signal
from types import FrameType


class Signals:
    """SIGTERM and SIGINT ask for a stop, a second one leaves at once with 128+n; SIGHUP asks for a reload. Flags and
    nothing more."""

    def __init__(self) -> None:
        self.stop = False
        self.reload = False

    def install(self) -> None:
        """Take over the three signals of this process."""
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        signal.signal(signal.SIGINT, self._ask_to_stop)
        signal.signal(signal.SIGHUP, self._ask_to_reload)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.stop:
            os._exit(128 + number)
        self.stop = True

    def _ask_to_reload(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.reload = True
