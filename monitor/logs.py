"""Log lines: one JSON object a line under a supervisor, readable text on a terminal; secrets never, post text never."""

import logging
import sys
from collections.abc import Iterable
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

#: other libraries speak at WARNING and above only: their INFO repeats what our own lines say
_QUIET = ("kafka", "apscheduler", "alembic", "sqlalchemy", "uvicorn", "uvicorn.error", "uvicorn.access", "watchfiles", "slack_sdk", "matplotlib")


def configure(
    level: str = "INFO",
    style: Literal["auto", "json", "text"] = "auto",
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send every log line of the process to `stream` (stderr); `auto` is text on a terminal and JSON elsewhere."""
    stream = stream or sys.stderr
    as_text = style == "text" or (style == "auto" and stream.isatty())
    renderer: Processor = structlog.dev.ConsoleRenderer(colors=stream.isatty()) if as_text else structlog.processors.JSONRenderer()
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _Masker(secrets)]
    final += [] if as_text else [structlog.processors.format_exc_info]  # the text renderer draws tracebacks itself
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=[*final, renderer]))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # the client retries by itself and we say once what we wait for; its warnings come many a second
    logging.getLogger("kafka").setLevel(logging.CRITICAL if root.level > logging.DEBUG else logging.DEBUG)


class _Masker:
    """Replaces every known secret in every text of a line."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret for secret in secrets if len(secret) >= 4]

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:  # noqa: ARG002
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = self.mask(value)
        return event

    def mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "********")
        return text
