"""Log lines: one JSON object a line under a supervisor, readable text on a terminal; secrets never, post text never."""

import io
import json
import logging
import sys
from collections.abc import Iterable
from typing import Literal, TextIO
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from monitor.printable import printable

MIN_SECRET_CHARS = 4  #: shorter ones would black out ordinary words

#: other libraries speak at WARNING and above only: their INFO repeats what our own lines say
_QUIET = (
    "kafka",
    "apscheduler",
    "alembic",
    "sqlalchemy",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "watchfiles",
    "slack_sdk",
    "matplotlib",
)


def configure(
    level: str = "INFO",
    style: Literal["auto", "json", "text"] = "auto",
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send every log line of the process to `stream` (stderr); `auto` is text on a terminal and JSON elsewhere."""
    stream = stream or sys.stderr
    as_text = style == "text" or (style == "auto" and stream.isatty())
    renderer: Processor = structlog.processors.JSONRenderer()
    if as_text:  # plain: the default draws each frame's variables, which hold posts and passwords
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=_plain_traceback)
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    # the text renderer draws tracebacks itself; JSON escapes what would steer a terminal
    final += [_shown_safely] if as_text else [structlog.processors.format_exc_info]
    handler = logging.StreamHandler(stream)
    final.append(_Masked(renderer, secrets))
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=final))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("apscheduler").setLevel(
        logging.ERROR
    )  # a job that is still running: counted in the metrics, no news
    # the client retries by itself and we say once what we wait for; its warnings come many a second
    logging.getLogger("kafka").setLevel(logging.CRITICAL if root.level > logging.DEBUG else logging.DEBUG)


def _shown_safely(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:  # noqa: ARG001 - structlog's signature
    """Names of brands and files come from outside, and a terminal would obey the escape sequences in them."""
    return {key: _printable_lines(value) if isinstance(value, str) else value for key, value in event.items()}


def _plain_traceback(out: TextIO, error: ExcInfo) -> None:
    drawn = io.StringIO()
    structlog.dev.plain_traceback(drawn, error)
    out.write(_printable_lines(drawn.getvalue()))


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


class _Masked:
    """A renderer whose line has every known secret replaced, in whatever field or traceback it stood."""

    def __init__(self, renderer: Processor, secrets: Iterable[str]) -> None:
        self._renderer = renderer
        known = {spelt for secret in secrets if len(secret) >= MIN_SECRET_CHARS for spelt in _spellings(secret)}
        self._secrets = sorted(known, key=len, reverse=True)  # one may be the beginning of another

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        line = str(self._renderer(logger, name, event))
        for secret in self._secrets:
            line = line.replace(secret, "********")
        return line


def _spellings(secret: str) -> set[str]:
    """The secret as it may stand in a line: as it is, in a URL or a literal, and each of these in JSON or a literal."""
    plain = {secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1], json.dumps(secret)[1:-1]}
    return plain | {json.dumps(text)[1:-1] for text in plain} | {repr(text)[1:-1] for text in plain}
