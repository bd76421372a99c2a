"""What must hold whatever bytes come in, said once for the property tests, the kept corpus and the fuzzers (fuzz.py).

Each `check_` takes any bytes; AssertionError says which promise is broken, and any other exception is a broken one too.
"""

import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_intake import check_intake

from models.bundle import find_bundle
from models.manifest import TOKENIZER, read_manifest
from models.tokenizer import TextEncoder
from monitor.alerts import DayRow, Kind, Rule, windows_of
from monitor.config import SourceSection
from monitor.episodes import PlannedAlert
from monitor.messages import as_text, render
from monitor.moments import EARLIEST
from monitor.parsing import Arrival, Parser
from monitor.posts import MAX_RAW_BYTES, DeadLetter, Place, Post, Reason, Record
from monitor.quotes import MAX_QUOTE_CHARS, Candidate, pick
from monitor.sources.csv_rows import CsvRow, Header, UnusableHeader, rows_of
from monitor.sources.file_rows import record_of
from monitor.sources.occurrences import Occurrences
from monitor.store.texts import storable

STREAM = "posts@1"
NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
DAY = date(2026, 11, 21)
MAX_TEXT_CHARS = 300  #: short, so that small inputs reach the limits
MAX_RECORD_BYTES = 600
GOOD_HEADER = b"created_at,text,id,user_id,brand,lang\r\n"
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def json_records(content: bytes, offset: int = 0) -> list[Record]:
    """The bytes as one Kafka message."""
    return [_parser().parse_json(content, Arrival(Place(STREAM, 0, offset), f"posts:0:{offset}", NOW, content))]


def csv_records(content: bytes) -> list[Record]:
    """The bytes as a CSV file, below a header of ours where their first record is none."""
    header, *rows = list(rows_of(io.BytesIO(content), MAX_RECORD_BYTES)) or [CsvRow(1, b"", [])]
    parser = _parser()
    try:
        columns = Header(header.cells, parser.theirs)
    except UnusableHeader as unusable:
        check_sentence(str(unusable))
        return [] if content.startswith(GOOD_HEADER) else csv_records(GOOD_HEADER + content)
    count_equal = Occurrences()
    records = []
    for number, row in enumerate(rows):
        assert len(row.raw) <= MAX_RECORD_BYTES + 1
        assert row.line > (rows[number - 1].line if number else header.line)
        arrival = Arrival(Place("f" * 64, 0, number), f"ffffffffffff:{number}", NOW, row.raw, row.line)
        records.append(record_of(row, columns, arrival, parser, count_equal))
    return records


def check_json(content: bytes) -> None:
    """One message is one post or one dead letter, the same each time."""
    records = json_records(content)
    assert records == json_records(content)
    check_record(records[0])


def check_csv(content: bytes) -> None:
    """Every record of a file is one post or one dead letter, the same each time; no two rows share a key."""
    records = csv_records(content)
    assert records == csv_records(content)
    for record in records:
        check_record(record)
    keys = [record.post_key for record in records if isinstance(record, Post) and record.id is None]
    assert len(set(keys)) == len(keys)


def check_record(record: Record) -> None:
    """A post can be scored and stored; a dead letter says why, in words that are safe to show."""
    if isinstance(record, DeadLetter):
        assert record.reason in Reason
        assert len(record.raw) <= MAX_RAW_BYTES
        check_sentence(record.detail)
        return
    assert record.text.strip()
    assert len(record.text) <= MAX_TEXT_CHARS
    assert 1 <= len(record.brand) <= 100
    assert record.brand == storable(record.brand) == unicodedata.normalize("NFC", record.brand).strip()
    assert EARLIEST <= record.created_at <= NOW + timedelta(days=1)
    assert record.created_at.utcoffset() == timedelta(0)
    assert re.fullmatch("[0-9A-Za-z]{0,12}-[0-9a-f]{32}", record.post_key)
    for text in (record.text, record.id, record.user_id, record.lang):
        stored = storable(text or "")
        assert "\0" not in stored
        stored.encode()


def check_sentence(text: str) -> None:
    """A line for people: not blank, nothing in it that steers a terminal or ends a line."""
    assert text.strip()
    assert not STEERING & set(map(unicodedata.category, text)), text


def check_tokenizer(content: bytes) -> None:
    """Any text has tokens of the shipped vocabulary, at least one and no more than allowed, alone and among others."""
    encoder = _encoder()
    texts = text_of(content).split("\x1e")
    together = encoder.encode(texts)
    for text, ids in zip(texts, together, strict=True):
        assert 1 <= len(ids) <= encoder.max_tokens
        assert 0 <= min(ids) <= max(ids) < encoder.n_tokens
        assert encoder.encode([text]) == [ids]


def check_slack(content: bytes) -> None:
    """A message of the brand in the first line, quoting the others: no markup, no steering, all within limits."""
    brand, *texts = text_of(content).split("\n")
    check_message(_message(brand, texts), _message("acme", []))


def check_message(message: dict[str, Any], plain: dict[str, Any]) -> None:
    """No user text where Slack reads markup: what stands in mrkdwn is as in `plain`, the same with harmless texts."""
    assert len(json.dumps(message, ensure_ascii=False).encode()) < 16_000
    assert len(message["blocks"][0]["text"]["text"]) <= 150
    leaves = list(_leaves(message))
    assert [text for kind, text in leaves if kind == "mrkdwn"] == [
        text for kind, text in _leaves(plain) if kind == "mrkdwn"
    ]
    for kind, text in leaves:
        assert not {"<", ">"} & set(text)
        assert "&" not in text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
        assert len(text) <= 2 * MAX_QUOTE_CHARS + 2
        assert kind == "mrkdwn" or not STEERING & set(map(unicodedata.category, text))
    for line in as_text(message).split("\n"):
        assert len(line) <= 80
        assert not STEERING & set(map(unicodedata.category, line))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": check_json,
    "csv": check_csv,
    "tokenizer": check_tokenizer,
    "slack": check_slack,
    "intake": check_intake,
}


def text_of(content: bytes) -> str:
    """Any bytes as a text; bytes that are not UTF-8 become lone surrogates."""
    return content.decode("utf-8", "surrogateescape")


@cache
def _parser() -> Parser:
    return Parser(SourceSection(name="posts"), "acme", UTC, MAX_TEXT_CHARS)


@cache
def _encoder() -> TextEncoder:
    bundle = find_bundle("social-gru", Path())
    manifest = read_manifest(bundle)
    return TextEncoder.load(bundle / TOKENIZER, manifest.preparation, manifest.max_tokens)


def _message(brand: str, texts: list[str]) -> dict[str, Any]:
    days = [DAY - timedelta(days=back) for back in range(6, -1, -1)]
    rows = [DayRow(brand, day, 900 + day.day, 0.6 - day.day / 100, 0.3, 0.6, 0.5, "m@1") for day in days]
    rule = Rule()
    alert = PlannedAlert(brand, Kind.DIP, DAY, "pending", windows_of(rows, rule)[-1], days[-2], False)
    return render(alert, rule, rows, pick([Candidate(text, None) for text in texts]), "https://monitor.example/")


def _leaves(block: Any) -> Iterator[tuple[str, str]]:
    """(type, text) of every text in a message."""
    if isinstance(block, dict):
        if isinstance(block.get("text"), str):
            yield block.get("type", "fallback"), block["text"]
        for value in block.values():
            yield from _leaves(value)
    elif isinstance(block, list):
        for value in block:
            yield from _leaves(value)
