"""Untrusted JSON and CSV fields to posts and dead letters: every rule of the README's "Posts in" that needs no file
and no broker.
"""

import json
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import SourceSection
from monitor.identity import content_hash_of, key_of_id, key_of_message, key_of_row
from monitor.parsing import Arrival, Fields, Parser
from monitor.posts import MAX_RAW_BYTES, DeadLetter, Place, Post, Reason

NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
STREAM = "posts@1d"
GOOD = {"created_at": "2026-11-20T09:00:00Z", "text": "Lovely"}


def parser(zone: str = "UTC", max_text_chars: int = 100, **section: Any) -> Parser:
    """A parser of the source `posts`."""
    return Parser(SourceSection(name="posts", **section), "acme", ZoneInfo(zone), max_text_chars)


def parsed(value: bytes | None, using: Parser | None = None, offset: int = 7, now: datetime = NOW) -> Post | DeadLetter:
    """What one message becomes."""
    arrival = Arrival(Place(STREAM, 2, offset), f"posts:2:{offset}", now, value or b"")
    return (using or parser()).parse_json(value, arrival)


def post(using: Parser | None = None, offset: int = 7, **fields: object) -> Post:
    """The post that a good message with these fields becomes."""
    found = parsed(json.dumps(GOOD | fields).encode(), using, offset)
    assert isinstance(found, Post), found
    return found


def reason(using: Parser | None = None, **fields: object) -> Reason:
    """Why a message with these fields is refused; `...` leaves one out."""
    given = {name: value for name, value in (GOOD | fields).items() if value is not ...}
    found = parsed(json.dumps(given).encode(), using)
    assert isinstance(found, DeadLetter), found
    return found.reason


def row(using: Parser, count: int = 0, **cells: str) -> Post:
    """The post that a CSV row becomes, `count` equal ones before it."""
    arrival = Arrival(Place("f" * 64, 0, 3), "ffffffffffff:3", NOW, b"raw", 5)
    fields = Fields(**{"created_at": "2026-11-20 09:00", "text": "Lovely"} | {k: v or None for k, v in cells.items()})
    found = using.parse_row(fields, arrival, lambda _: count)
    assert isinstance(found, Post), found
    return found


def test_a_message_becomes_a_post() -> None:
    """Every field arrives under its own name, times as UTC and the day in the configured zone."""
    made = post(
        parser("Asia/Tokyo"), id="a1", user_id="ann", brand="beta", lang="en", created_at="2026-11-20T20:00:00Z"
    )
    assert (made.source, made.id, made.user_id, made.brand, made.lang) == ("posts", "a1", "ann", "beta", "en")
    assert made.created_at == datetime(2026, 11, 20, 20, tzinfo=UTC)
    assert made.day == date(2026, 11, 21)
    assert (made.place, made.label_of_place) == (Place(STREAM, 2, 7), "posts:2:7")


def test_keys_are_made_of_the_identity() -> None:
    """An id counts once in its id_space and brand; without one it is the place, and the bytes there."""
    good = json.dumps(GOOD).encode()
    place = Place(STREAM, 2, 7)
    assert post(id=5, brand="b").post_key == key_of_id("posts", "b", "5")
    assert post(parser(id_space="all"), id="5", brand="b").post_key == key_of_id("all", "b", "5")
    assert post(parser(id_space="all")).post_key == key_of_message("all", place, good)
    for blank in ("", "  ", "\t"):
        sent = json.dumps(GOOD | {"id": blank}).encode()
        assert post(id=blank).post_key == key_of_message("posts", place, sent)


def test_a_message_at_a_known_place_is_known_by_its_bytes() -> None:
    """It comes again with the same key whatever the configuration reads in it by now; another one there is another."""
    sent = b'{"created_at": "2026-11-20T09:00", "text": "Lovely", "title": "Espresso"}'
    first = parsed(sent)
    assert isinstance(first, Post)
    for other in (parser("Asia/Tokyo"), parser(columns={"text": "title"}), parser(brand="beta")):
        again = parsed(sent, other)
        assert isinstance(again, Post)
        assert again.post_key == first.post_key
    assert {post().post_key, post(text="Awful").post_key, post(offset=8).post_key}.isdisjoint({first.post_key})
    assert len({post().post_key, post(text="Awful").post_key, post(offset=8).post_key}) == 3
    assert post(user_id="u").content_hash == content_hash_of(datetime(2026, 11, 20, 9, tzinfo=UTC), "u", "Lovely")


def test_a_row_without_id_is_its_content_and_occurrence() -> None:
    """Equal rows of one file differ by their number; the file's name and row play no part."""
    moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
    assert row(parser(), 0).post_key == key_of_row("posts", "acme", moment, None, "Lovely", 0)
    assert row(parser(), 3, user_id="u").post_key == key_of_row("posts", "acme", moment, "u", "Lovely", 3)
    assert row(parser(), 3, id="x").post_key == key_of_id("posts", "acme", "x")
    assert row(parser(), created_at="2026-11-20T10:00+01:00").post_key == row(parser()).post_key


def test_blank_cells_are_absent_whatever_spaces_they_hold() -> None:
    """Spaces in the cells of two different rows are no id, user, brand or language that they would share."""
    blank: dict[str, Any] = {"id": " ", "user_id": "  ", "brand": "\t", "lang": " "}
    first, second = row(parser(), **blank), row(parser(), text="Awful", **blank)
    assert (first.id, first.user_id, first.brand, first.lang) == (None, None, "acme", None)
    assert first.post_key == row(parser()).post_key != second.post_key


@pytest.mark.parametrize("cell", ["NA", "null", "None", "nan"])
def test_words_for_missing_are_texts(cell: str) -> None:
    """A CSV cell that spells a missing value is a text like any other, in every column."""
    made = row(parser(), text=cell, user_id=cell, id=cell, brand=cell)
    assert (made.text, made.user_id, made.id, made.brand) == (cell, cell, cell, cell)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"text": "x"', Reason.BAD_JSON),
        (b"", Reason.BAD_JSON),
        (b'[{"text": "x"}]', Reason.BAD_JSON),
        (b'"text"', Reason.BAD_JSON),
        (b'{"text": NaN}', Reason.BAD_JSON),
        (b'{"text": "x"} {}', Reason.BAD_JSON),
        (b'{"id": 1' + b"0" * 5000 + b"}", Reason.BAD_JSON),
        (b'{"a":' * 100_000, Reason.BAD_JSON),
        ('{"text": "é"}'.encode("latin-1"), Reason.BAD_ENCODING),
        ('{"text": "x"}'.encode("utf-16"), Reason.BAD_ENCODING),
        (b'{"text": "\xed\xa0\x80"}', Reason.BAD_ENCODING),
        (None, Reason.NULL_VALUE),
    ],
)
def test_what_is_no_json_object_is_refused(value: bytes | None, expected: Reason) -> None:
    """Broken JSON, other JSON, other encodings and null values are told apart."""
    letter = parsed(value)
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.raw) == (expected, (value or b"")[:MAX_RAW_BYTES])
    assert letter.raw_truncated == (value is not None and len(value) > MAX_RAW_BYTES)


def test_a_byte_order_mark_is_not_held_against_a_message() -> None:
    """Some producers write UTF-8 with a BOM."""
    assert isinstance(parsed(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()), Post)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (..., Reason.EMPTY_TEXT),
        (None, Reason.EMPTY_TEXT),
        ("", Reason.EMPTY_TEXT),
        (" \t\n\u2003", Reason.EMPTY_TEXT),
        (5, Reason.BAD_TEXT),
        (False, Reason.BAD_TEXT),
        (["x"], Reason.BAD_TEXT),
        ("x" * 101, Reason.TEXT_TOO_LONG),
    ],
)
def test_texts_that_cannot_be_scored(text: object, expected: Reason) -> None:
    """Missing and blank texts are empty, other types bad; one character over the limit is too long."""
    assert reason(text=text) == expected


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\ud800 alone", "\u202eabc", "\x1b[2J", "\u200b", "x" * 100, "😀" * 100]
)
def test_odd_characters_are_scored(text: str) -> None:
    """NUL, lone surrogates, control and bidi characters are part of a text, and the limit counts characters."""
    assert post(text=text).text == text


@pytest.mark.parametrize(
    "created_at",
    [..., None, "", " ", "yesterday", 1763629200, True, {}, "2026-13-01", "1989-12-31T23:59:59Z",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-20T09:00:00+25:00", "\ud800"],
)  # fmt: skip
def test_times_that_are_none(created_at: object) -> None:
    """Missing, unparseable, numeric, out of range and before 1990: all bad, never an exception."""
    assert reason(created_at=created_at) == Reason.BAD_CREATED_AT


def test_more_than_one_day_ahead_is_refused() -> None:
    """Exactly one day ahead is taken: clocks and zones differ by less."""
    assert post(created_at="2026-11-22T10:15:00Z").day == date(2026, 11, 22)
    assert reason(created_at="2026-11-22T10:15:00.000001Z") == Reason.FUTURE_CREATED_AT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", "2026-11-19T23:00"),
        ("2026-11-20 10:00:00.123456", "2026-11-20T09:00:00.123456"),
        ("2026-11-20T10:00:00+05:30", "2026-11-20T04:30"),
        (" 2026-11-20T10:00Z ", "2026-11-20T10:00"),
        ("2026-10-25T02:30:00", "2026-10-25T00:30"),  # ambiguous: the first
        ("2026-03-29T02:30:00", "2026-03-29T01:30"),  # skipped: moves forward, to 03:30
    ],
)
def test_iso_times_in_the_zone(text: str, expected: str) -> None:
    """Times without an offset are the zone's; dates are its midnights."""
    assert post(parser("Europe/Berlin"), created_at=text).created_at == datetime.fromisoformat(expected + "+00:00")


@pytest.mark.parametrize(
    ("format_", "value", "expected"),
    [
        ("epoch_s", 1763629200, "2025-11-20T09:00"),
        ("epoch_s", "1763629200.25", "2025-11-20T09:00:00.250000"),
        ("epoch_s", 1763629200.5, "2025-11-20T09:00:00.500000"),
        ("epoch_ms", "1763629200123", "2025-11-20T09:00:00.123000"),
        ("epoch_ms", 1763629200123, "2025-11-20T09:00:00.123000"),
        ("%d.%m.%Y %H:%M", "20.11.2025 10:00", "2025-11-20T09:00"),
        ("%d/%b/%Y:%H:%M:%S %z", "20/Nov/2025:10:00:00 +0200", "2025-11-20T08:00"),
    ],
)
def test_other_formats_of_time(format_: str, value: object, expected: str) -> None:
    """Epochs as numbers or texts, and strptime patterns with and without an offset."""
    using = parser("Europe/Berlin", created_at_format=format_)
    assert post(using, created_at=value).created_at == datetime.fromisoformat(expected + "+00:00")


@pytest.mark.parametrize(
    "value", [10**30, -(10**30), 1e300, "1e999", "nan", "0x10", "1_000", "١٢٣", "", True, [1], "2025-11-20"]
)
def test_epochs_that_are_none(value: object) -> None:
    """Overflows and texts that are no plain number are bad, never an exception."""
    assert reason(parser(created_at_format="epoch_s"), created_at=value) == Reason.BAD_CREATED_AT


def test_a_time_in_the_wrong_unit_is_refused() -> None:
    """Milliseconds read as seconds lie beyond the calendar, seconds read as milliseconds in 1970."""
    assert reason(parser(created_at_format="epoch_s"), created_at=1763629200000) == Reason.BAD_CREATED_AT
    assert reason(parser(created_at_format="epoch_ms"), created_at=1763629200) == Reason.BAD_CREATED_AT


@pytest.mark.parametrize(
    ("id_", "expected"), [("a", "a"), (0, "0"), (10**25, "1" + "0" * 25), (-3, "-3"), (None, None), ("", None)]
)
def test_ids_that_are_taken(id_: object, expected: str | None) -> None:
    """Texts as they are, integers of any size as their decimal text, null and blank as none."""
    assert post(id=id_).id == expected


@pytest.mark.parametrize("id_", [1.0, 1.5, 1e30, True, False, {"$oid": "x"}, ["a"]])
def test_ids_that_are_refused(id_: object) -> None:
    """Fractions lose digits and objects have no one text."""
    assert reason(id=id_) == Reason.BAD_ID


def test_users_and_languages() -> None:
    """A numeric user is its decimal text; what is no text or number is no user; languages are trimmed."""
    users: list[object] = [7, 7.5, "", " ", None, True, {}]
    assert [post(user_id=user).user_id for user in users] == ["7", "7.5", None, None, None, None, None]
    languages: list[object] = [" en ", "", 5, "x" * 60]
    assert [post(lang=lang).lang for lang in languages] == ["en", None, None, "x" * 35]


def test_a_brand_that_is_cut_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A name too long is no reason to refuse a post; that it counts under its beginning is said, without the name."""
    one = parser()
    assert [post(one, brand="x" * 100 + end).brand for end in (" ", "y", "z")] == ["x" * 100] * 3
    (line,) = caplog.records
    assert line.getMessage() == "a brand name is too long and counts under its beginning"
    assert (vars(line)["source"], vars(line)["characters"]) == ("posts", 101)


def test_brands() -> None:
    """NFC, trimmed, cut to 100 characters, case kept; blank means the source's own, else the configured default."""
    assert post(brand="  Cafe\u0301 ").brand == "Café"
    assert post(brand="x" * 120).brand == "x" * 100
    assert post(brand="a\0b\ud800").brand == "a\ufffdb\ufffd"
    assert [post(brand=blank).brand for blank in ("", "  ", None, ["x"])] == ["acme"] * 4
    assert post(parser(brand="ours"), brand=" ").brand == "ours"
    assert post(brand=7).brand == "7"


def test_columns_map_our_names_to_theirs() -> None:
    """A mapped field is read under their name only."""
    using = parser(columns={"text": "body", "id": "key"})
    made = parsed(json.dumps(GOOD | {"text": "not this", "body": "this", "key": 9, "id": "no"}).encode(), using)
    assert isinstance(made, Post)
    assert (made.text, made.id) == ("this", "9")


def test_details_quote_no_text() -> None:
    """What a dead letter says must be fit for logs: field names and numbers, never what users wrote."""
    secret = "secretword" * 20
    letters = [
        parsed(json.dumps(GOOD | bad).encode())
        for bad in ({"text": secret}, {"created_at": secret}, {"id": {secret: 1}})
    ]
    assert all(isinstance(letter, DeadLetter) and "secret" not in letter.detail for letter in letters)


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_no_bytes_raise(value: bytes) -> None:
    """Whatever a producer sends, the answer is a post or a dead letter."""
    assert isinstance(parsed(value), Post | DeadLetter)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@given(st.fixed_dictionaries(dict.fromkeys(["created_at", "text", "id", "user_id", "brand", "lang"], _JSON)),
       st.sampled_from(["iso", "epoch_s", "epoch_ms", "%Y"]))  # fmt: skip
def test_no_fields_raise(fields: dict[str, object], format_: str) -> None:
    """Any value in any field is a post or a dead letter, and asking twice gives the same."""
    value, using = json.dumps(fields).encode(), parser(created_at_format=format_)
    assert parsed(value, using) == parsed(value, using)
