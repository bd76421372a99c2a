"""The daemon as a process of its own, for tests that stop, kill and restart it."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from ports import free_port

DEADLINE_S = 60.0


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll until the condition holds; AssertionError naming `what` after the deadline."""
    until = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"waited {deadline_s:.0f} s for {what}")
        time.sleep(0.05)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that configures a monitor, plus `more`."""
    ours = (
        "SENTIMENT_MONITOR__",
        "SLACK_",
        "HTTP_TOKEN",
        "DATABASE_PASSWORD",
        "CREDENTIALS_DIRECTORY",
        "NOTIFY_SOCKET",
        "WATCHDOG_",
    )
    return (
        {key: value for key, value in os.environ.items() if not key.startswith(ours)} | {"PYTHONUNBUFFERED": "1"} | more
    )


def write_config(folder: Path, **sections: Any) -> Path:
    """A config.yaml with quick schedules and a free port; `sections` replace or add top-level keys."""
    document = {
        "sources": [{"name": "inbox", "kind": "drop_folder", "path": "inbox", "settle_s": 0.1}],
        "schedule": {"refresh_s": 0.2, "deliver_s": 0.2},
        "http": {"port": free_port()},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document | sections), encoding="utf-8")
    return path


class DaemonProcess:
    """`python -m monitor run` in its own process; killed at the end of the `with` block if it still runs."""

    def __init__(self, config: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.config = config
        self.arguments = arguments
        self.env = environment(**(env or {}))
        self.port = int(yaml.safe_load(config.read_text(encoding="utf-8"))["http"]["port"])
        self.log_path = config.parent / f"daemon-{self.port}-{time.monotonic_ns()}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "DaemonProcess":
        """Start it; use `wait_ready` to wait."""
        command = [sys.executable, "-m", "monitor", "run", "--config", str(self.config), *self.arguments]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env)
        return self

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stdout.write(f"{self.ask('/readyz')}\n{self.log()[-10_000:]}")  # pytest shows it with the failure
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body; (0, '') while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def is_ready(self) -> bool:
        """Whether /readyz says 200; AssertionError with the log when the process has ended."""
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}: {self.log()}"
        return self.ask("/readyz")[0] == 200

    def wait_ready(self, deadline_s: float = DEADLINE_S) -> "DaemonProcess":
        """Wait until every part works."""
        wait_until(self.is_ready, f"readiness of the daemon: {self.ask('/readyz')}", deadline_s)
        return self

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM, deadline_s: float = 25.0) -> int:
        """Ask it to stop and return its exit code; AssertionError if it takes longer than the promise."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon did not stop within {deadline_s:.0f} s: {self.log()}") from None

    def log(self) -> str:
        """What it wrote so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")


def command(*arguments: str, config: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command of the console script to its end."""
    line = [sys.executable, "-m", "monitor", *arguments, "--config", str(config)]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=120, env=environment(**(env or {})), check=False
    )
