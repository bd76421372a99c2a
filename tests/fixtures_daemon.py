"""A small bundle that loads fast, and `run --once` in the test's own process: three seconds cheaper than another."""

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
from tiny_models import make_bundle

from monitor import daemon, settings
from monitor.settings import Secrets
from monitor.signals import Signals


class _NoSignals(Signals):
    """Leaves the signal handlers of the test run alone."""

    def install(self) -> None:
        pass


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a bundle with random weights whose scores differ from text to text."""
    return str(make_bundle(tmp_path_factory.mktemp("bundle") / "tiny"))


RunOnce = Callable[..., int]


@pytest.fixture
def run_once() -> Iterator[RunOnce]:
    """`run --once` in this process, of a config, with secrets: its exit code, or the MonitorError that it ends with."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(
        config: Path,
        wait_s: float = 30.0,
        log_stream: TextIO | None = None,
        *,
        is_stopping: bool = False,
        **secrets: str,
    ) -> int:
        signals = _NoSignals()
        signals.stop = is_stopping
        return daemon.run(
            settings.load(config, {}),
            once=True,
            wait_s=wait_s,
            secrets=Secrets(secrets),
            signals=signals,
            log_stream=log_stream or io.StringIO(),
        )

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
