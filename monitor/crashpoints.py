"""Named steps at which a test lets the program die or freeze: whatever was done before must be enough to go on from.

`SENTIMENT_MONITOR_CRASH_AT=step[:n[:signal]]` sends this process SIGKILL, or the named signal (STOP freezes it), where
it passes the step for the nth time. Unset, which is always so outside tests, passing a step is one comparison.
"""

import os
import signal

VARIABLE = "SENTIMENT_MONITOR_CRASH_AT"

#: in the order in which posts, files and alerts pass them
STEPS = (
    "fetch",  # records were polled, nothing is stored
    "score",  # a batch is scored
    "insert",  # posts are in the open transaction
    "database commit",  # the batch is stored, its source does not know
    "before kafka commit",
    "after kafka commit",  # the group has the offsets
    "file note",  # a file is noted in the store and still lies where it was dropped
    "file take",  # it lies in processing/, no row is read
    "file report",  # its rows are stored, the file still lies in processing/
    "file move",  # it lies in done/ or failed/, the store does not know
    "claim",  # an alert is claimed, not posted
    "post",  # Slack has answered, the store does not know
    "mark",  # the answer is stored
)


class _Order:
    """Where to send which signal."""

    def __init__(self, text: str) -> None:
        step, _, rest = text.partition(":")
        n, _, name = rest.partition(":")
        if step not in STEPS:
            raise ValueError(f"{VARIABLE}={text}: the steps are {', '.join(STEPS)}")
        self._step = step
        self._n_left = int(n or 1)
        self._signal = signal.Signals[f"SIG{name or 'KILL'}"]

    def pass_by(self, step: str) -> None:
        if step == self._step:
            self._n_left -= 1
            if self._n_left == 0:
                os.kill(os.getpid(), self._signal)


def _ordered() -> _Order | None:
    text = os.environ.get(VARIABLE)
    return _Order(text) if text else None


_order = _ordered()


def arm() -> None:
    """Read the environment again: for a process that was forked after this module was loaded."""
    global _order  # noqa: PLW0603  one per process, like the environment that it comes from
    _order = _ordered()


def passing(step: str) -> None:
    """Say that the program is at `step`, one of STEPS."""
    if _order is not None:
        _order.pass_by(step)
