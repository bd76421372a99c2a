"""Untrusted records to typed ones: one JSON message or one CSV row becomes a Post or a DeadLetter, never an exception.

Pure: no clock, no file, no network. The rules are in the README under "Posts in"; where several are broken, the reason
is the first of text, created_at, id, length. What a stored row keeps (user_id hashed, NULs replaced) is decided later:
keys are made of the record as it came.
"""

import json
import logging
import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Any

import msgspec

from monitor.config import SourceSection
from monitor.identity import content_hash_of, key_of_id, key_of_message, key_of_row
from monitor.moments import EARLIEST, moment_reader
from monitor.posts import MAX_RAW_BYTES, DeadLetter, Place, Post, Reason, Record

log = logging.getLogger(__name__)

MAX_BRAND_CHARS = 100
MAX_LANG_CHARS = 35  #: as long as a language tag gets (RFC 5646 section 4.4.1)
MAX_KNOWN_BRANDS = 10_000  #: spellings remembered, so that a flood of invented ones cannot grow without bound
ONE_DAY = timedelta(days=1)
BOM = b"\xef\xbb\xbf"

#: how many equal rows of the same file came before: from a number that stands for the row's content to 0, 1, 2, ...
CountEqual = Callable[[int], int]


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """Where and when one record came in, and its bytes.

    `label` is for people, `line` the first line of a CSV record.
    """

    place: Place
    label: str
    now: datetime  # aware, UTC: what "more than one day ahead" is judged by
    raw: bytes
    line: int | None = None


class Fields(msgspec.Struct, gc=False):
    """The values of one record under our names, not yet looked at; None: absent."""

    created_at: Any = None
    text: Any = None
    user_id: Any = None
    id: Any = None
    brand: Any = None
    lang: Any = None


class Refused(Exception):  # noqa: N818 - it is a verdict that ends in a DeadLetter, not an error that anybody sees
    """A record cannot be taken; `reason` and a sentence that never quotes user text."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Parser:
    """Parses the records of one source as its section says."""

    def __init__(self, section: SourceSection, default_brand: str, zone: tzinfo, max_text_chars: int = 20_000) -> None:
        """`default_brand` counts where neither record nor section names a brand.

        `zone` gives days and times without an offset.
        """
        self.source = section.name
        self.theirs: dict[str, str] = {name: section.columns.get(name, name) for name in Fields.__struct_fields__}  # type: ignore[call-overload]
        self._id_space = section.id_space or section.name
        self._zone = zone
        self._max_text_chars = max_text_chars
        self._read_moment = moment_reader(section.created_at_format, zone)
        self._brand = canonical_brand(section.brand or "") or canonical_brand(default_brand)
        self._brands: dict[str, str] = {}
        self._told_of_cut = False

    def parse_json(self, value: bytes | None, arrival: Arrival) -> Record:
        """One Kafka message: a JSON object in UTF-8.

        `arrival.raw` is what a dead letter keeps (b"" for a null value).
        """
        try:
            return self._accept(self._fields_of(_decode_object(value)), arrival, None)
        except Refused as refused:
            return self.dead_letter(arrival, refused.reason, refused.detail)

    def parse_row(self, fields: Fields, arrival: Arrival, count_equal: CountEqual) -> Record:
        """One CSV row: texts, None where a cell is blank (`NA` and `null` are texts).

        `count_equal` numbers equal rows of one file.
        """
        try:
            return self._accept(fields, arrival, count_equal)
        except Refused as refused:
            return self.dead_letter(arrival, refused.reason, refused.detail)

    def dead_letter(self, arrival: Arrival, reason: Reason, detail: str) -> DeadLetter:
        """The refusal of one record of this source, its bytes cut to MAX_RAW_BYTES."""
        raw, is_cut = arrival.raw[:MAX_RAW_BYTES], len(arrival.raw) > MAX_RAW_BYTES
        return DeadLetter(self.source, arrival.place, arrival.now, reason, detail, raw, is_cut, arrival.line)

    def _fields_of(self, record: dict[str, Any]) -> Fields:
        get, theirs = record.get, self.theirs
        return Fields(
            get(theirs["created_at"]), get(theirs["text"]), get(theirs["user_id"]),
            get(theirs["id"]), get(theirs["brand"]), get(theirs["lang"]),
        )  # fmt: skip

    def _accept(self, fields: Fields, arrival: Arrival, count_equal: CountEqual | None) -> Post:
        text = _checked_text(fields.text)
        created_at = self._checked_moment(fields.created_at, arrival.now)
        id_ = _checked_id(fields.id)
        if len(text) > self._max_text_chars:
            raise Refused(
                Reason.TEXT_TOO_LONG,
                f"the text has {len(text)} characters, more than the {self._max_text_chars} allowed",
            )
        user_id, brand = _user_id_of(fields.user_id), self._brand_of(fields.brand)
        content_hash = content_hash_of(created_at, user_id, text)
        if id_ is not None:
            post_key = key_of_id(self._id_space, brand, id_)
        elif count_equal is None:
            post_key = key_of_message(self._id_space, arrival.place, arrival.raw)
        else:
            occurrence = count_equal(hash((brand, content_hash)))
            post_key = key_of_row(self._id_space, brand, created_at, user_id, text, occurrence)
        return Post(
            post_key, content_hash, self.source, arrival.place, arrival.label, brand, id_, created_at,
            created_at.astimezone(self._zone).date(), user_id, _lang_of(fields.lang), text, arrival.raw, arrival.line,
        )  # fmt: skip

    def _checked_moment(self, value: object, now: datetime) -> datetime:
        try:
            moment = self._read_moment(value)
        except (ValueError, OverflowError, TypeError):
            raise Refused(
                Reason.BAD_CREATED_AT, "created_at is missing or not a time in the configured format"
            ) from None
        if moment < EARLIEST:
            raise Refused(Reason.BAD_CREATED_AT, "created_at lies before 1990")
        if moment - now > ONE_DAY:
            raise Refused(Reason.FUTURE_CREATED_AT, "created_at lies more than one day ahead")
        return moment

    def _brand_of(self, value: object) -> str:
        if not isinstance(value, str):
            value = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
        known = self._brands.get(value)
        if known is None:
            known = canonical_brand(value) or self._brand
            self._tell_of_cut(value)
            if len(self._brands) < MAX_KNOWN_BRANDS:
                self._brands[value] = known
        return known

    def _tell_of_cut(self, brand: str) -> None:
        """Once a source: a column taken for the brand by mistake would say it with every record."""
        if not self._told_of_cut and len(brand.strip()) > MAX_BRAND_CHARS:
            self._told_of_cut = True
            log.warning(
                "a brand name is too long and counts under its beginning",
                extra={"source": self.source, "characters": len(brand), "kept": MAX_BRAND_CHARS},
            )


def _decode_object(value: bytes | None) -> dict[str, Any]:
    """The message as a dict; msgspec first, and what it will not have goes to the slower, more patient reader."""
    if value is None:
        raise Refused(Reason.NULL_VALUE, "the message has no value")
    try:
        record = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        record = _decode_patiently(value)
    if not isinstance(record, dict):
        raise Refused(Reason.BAD_JSON, "the message is not a JSON object")
    return record


def _decode_patiently(value: bytes) -> Any:
    """The standard library's reader also takes lone surrogates (RFC 8259 section 8.2) and numbers beyond a double."""
    try:
        text = value.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Reason.BAD_ENCODING, "the message is not UTF-8") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Refused(Reason.BAD_JSON, "the message does not parse as JSON") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _checked_text(value: object) -> str:
    if value is None:
        raise Refused(Reason.EMPTY_TEXT, "the record has no text")
    if not isinstance(value, str):
        raise Refused(Reason.BAD_TEXT, "text is not a string")
    if not value or value.isspace():
        raise Refused(Reason.EMPTY_TEXT, "the text is blank")
    return value


def _checked_id(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Refused(Reason.BAD_ID, "id is neither a text nor an integer")


def _user_id_of(value: object) -> str | None:
    """A text, or a number as decimal text; blank, boolean and object users are no user."""
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def _lang_of(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return value.strip()[:MAX_LANG_CHARS] or None


def canonical_brand(value: str) -> str:
    """NFC, trimmed, at most 100 characters; what no SQL store takes (NUL, lone surrogates) becomes U+FFFD.

    "" where blank.
    """
    storable = value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return unicodedata.normalize("NFC", storable).strip()[:MAX_BRAND_CHARS].rstrip()
