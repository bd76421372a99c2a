"""Times as records give them to aware UTC datetimes. Pure."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  #: nobody posted before; such a time is a wrong unit or an empty field
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)

#: raises ValueError, OverflowError or TypeError for what is no time
MomentReader = Callable[[object], datetime]


def moment_reader(created_at_format: str, zone: tzinfo) -> MomentReader:
    """The reader for `iso`, `epoch_s`, `epoch_ms` or a strptime pattern; a time without an offset is in `zone`."""
    if created_at_format == "epoch_s":
        return lambda value: _from_epoch(value, 1_000_000)
    if created_at_format == "epoch_ms":
        return lambda value: _from_epoch(value, 1_000)
    if created_at_format == "iso":
        return lambda value: _in_utc(datetime.fromisoformat(_text(value)), zone)
    return lambda value: _in_utc(datetime.strptime(_text(value), created_at_format), zone)  # noqa: DTZ007 - _in_utc adds it


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value.strip()


def _in_utc(moment: datetime, zone: tzinfo) -> datetime:
    """PEP 495's rule for fold=0 is the README's too: an ambiguous time is the first, a skipped one moves forward."""
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).astimezone(UTC)


def _from_epoch(value: object, micros_per_unit: int) -> datetime:
    number = _number(value)
    if isinstance(number, float):
        if not math.isfinite(number):
            raise ValueError("not a finite number")
        return EPOCH + timedelta(microseconds=round(number * micros_per_unit))
    return EPOCH + timedelta(microseconds=number * micros_per_unit)


def _number(value: object) -> int | float:
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            raise ValueError("not a number")
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    return value
