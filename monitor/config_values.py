"""Kinds of values that stand in config.yaml: checked where they are read, with a sentence that says what is allowed."""

import re
import unicodedata
from datetime import time
from pathlib import Path
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, StringConstraints


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("must be an IANA time zone such as UTC or Europe/Berlin")
    return name


def _quoted_time(value: object) -> object:
    if isinstance(value, time):
        return value
    if not isinstance(value, str) or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", value):
        # YAML 1.1 reads a bare 12:00 as the number 720
        raise ValueError('must be a time of day in quotes, such as "06:00"')
    return time.fromisoformat(value)


def _not_truth(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take true for 1
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic takes ValueError only
    return value


def _not_blank(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be blank")
    return value


def _brand(value: str) -> str:
    return unicodedata.normalize("NFC", value).strip()  # as posts' brands are, so that both meet


def _store_url(value: str) -> str:
    if not re.match(r"sqlite:///.|postgresql(\+psycopg)?://.", value):
        raise ValueError("must start with sqlite:/// and a path, or with postgresql:// and a host")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return value


def _web_url(value: str) -> str:
    if value and not re.match(r"https?://[^/\s]", value):
        raise ValueError("must start with http:// or https://")
    return value


Whole = Annotated[int, BeforeValidator(_not_truth)]
Number = Annotated[float, BeforeValidator(_not_truth)]


ZoneName = Annotated[str, AfterValidator(_known_zone)]
TimeOfDay = Annotated[time, BeforeValidator(_quoted_time)]
BrandName = Annotated[str, StringConstraints(max_length=100), BeforeValidator(_not_blank), AfterValidator(_brand)]
FilePath = Annotated[Path, BeforeValidator(_not_blank)]
Device = Annotated[str, AfterValidator(_device)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
WebUrl = Annotated[str, AfterValidator(_web_url)]
SourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
