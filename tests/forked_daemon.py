"""The daemon, forked from a process that has loaded everything: started in a fraction of a second, armed to die."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Self, cast

from daemon_process import DaemonProcess

from monitor import crashpoints

#: what a daemon loads by and by; importing them starts no thread, so that a fork is safe
_LOADED = (
    "pytest",
    "torch",
    "pandas",
    "alembic",
    "kafka",
    "psycopg",
    "uvicorn",
    "starlette.applications",
    "slack_sdk",
    "monitor.cli",
    "monitor.daemon",
    "monitor.scorer",
    "monitor.slack",
    "monitor.store.migrate",
    "monitor.store.saving",
    "monitor.sources.build",
    "monitor.sources.kafka",
    "monitor.aggregates",
)


class ForkedDaemon(DaemonProcess):
    """A DaemonProcess that costs no imports. `crash_at` is an order as in monitor/crashpoints.py."""

    def __init__(self, config: Path, *arguments: str, env: Mapping[str, str] | None = None, crash_at: str = "") -> None:
        super().__init__(config, *arguments, env={**(env or {}), crashpoints.VARIABLE: crash_at})

    def start(self) -> Self:
        command = ["run", "--config", str(self.config), *self.arguments]
        self.log_path.touch()
        self.process = cast("Any", _Forked(command, self.env, self.log_path))
        return self

    def crashed(self, deadline_s: float) -> bool:
        """Wait for the ordered end; False if it did not come.

        AssertionError with the log where the daemon ended in another way.
        """
        assert self.process is not None
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            return False
        assert code == -signal.SIGKILL, f"the daemon ended with {code}: {self.log()[-3000:]}"
        return True


class _Forked:
    """subprocess.Popen's face over a forked process."""

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self._process = fork_server().Process(target=_run, args=(command, dict(env), str(log)), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("daemon", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork_server() -> ForkServerContext:
    """Makes processes that have loaded everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    return context


def _run(command: list[str], env: dict[str, str], log: str) -> None:
    """In the new process: become the console script."""
    os.environ.clear()
    os.environ.update(env)
    crashpoints.arm()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["sentiment-monitor", *command]
    from monitor.cli import main

    main()
