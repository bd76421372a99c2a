"""Whatever comes in is accepted once or is one dead letter with a reason: invented records, and every input ever kept.

The promises are spelt in fuzz_targets.py; fuzz.py looks for inputs that break them, and tests/fuzz_corpus/ keeps what
it found.
"""

import json
from typing import Any

import fuzz
import pytest
from batches import everything, rules
from doubles import score_of
from fuzz_targets import GOOD_HEADER, NOW, STREAM, TARGETS, json_records
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.posts import Batch, ScoredBatch, StreamPartition
from monitor.store.database import Database
from monitor.store.saving import Saver

CORPUS = {f"{path.parent.name}/{path.name}": path for path in sorted(fuzz.CORPUS.glob("*/*"))}

hostile_text = st.text(
    alphabet=st.one_of(st.characters(codec=None), st.sampled_from(list("\0\n\r\t\"',;{}[]\\\u202e\ud800\ufeff😀é"))),
    max_size=80,
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), hostile_text)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile_text, inner, max_size=3)
)
moments = st.one_of(
    leaves, st.datetimes().map(str), st.sampled_from(["2026-11-20", "2026-11-20T09:00:00+99:99", "1e999"])
)
optional: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(("user_id", "id", "brand", "lang", "x"), values)
records = st.fixed_dictionaries({"created_at": moments, "text": leaves}, optional=optional)
cells = st.one_of(hostile_text, st.sampled_from(["2026-11-20", "NA", "null", "17", '"', '""', ","]))


@pytest.mark.parametrize("name", CORPUS)
def test_every_kept_input_keeps_the_promises(name: str) -> None:
    """What a fuzzer once found, or found interesting, breaks nothing."""
    TARGETS[name.partition("/")[0]](CORPUS[name].read_bytes())


def test_every_target_has_a_corpus() -> None:
    """The kept inputs of each fuzzer are there, and small."""
    assert {name.partition("/")[0] for name in CORPUS} == set(TARGETS) == set(fuzz.NAMES)
    assert max(path.stat().st_size for path in CORPUS.values()) <= fuzz.MAX_KEPT_BYTES


@settings(max_examples=200, deadline=None)
@given(records)
def test_any_record_of_json(record: dict[str, Any]) -> None:
    """Fields of any type and value, as any JSON writer would send them."""
    TARGETS["json"](json.dumps(record).encode())


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), values.map(lambda value: json.dumps(value).encode())), st.integers(0, 200))
def test_any_message(content: bytes, end: int) -> None:
    """Bytes that are no JSON, JSON that is no object, and either of them cut short."""
    TARGETS["json"](content)
    TARGETS["json"](content[:end])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(cells, min_size=1, max_size=7).map(",".join), max_size=8), st.sampled_from(["\n", "\r\n", "\r"])
)
def test_any_rows_of_csv(lines: list[str], end: str) -> None:
    """Cells, quotes and line ends in any order below a good header."""
    TARGETS["csv"](GOOD_HEADER + end.join(lines).encode("utf-8", "surrogatepass"))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_of_csv(content: bytes) -> None:
    """Any bytes at all, alone and below a good header."""
    TARGETS["csv"](content)
    TARGETS["csv"](GOOD_HEADER + content)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([b"", b"g", b"z", b"k"]),
    st.one_of(
        st.binary(max_size=300),
        st.lists(records.map(lambda record: json.dumps(record).encode()), max_size=5).map(b"\x1e".join),
        st.lists(st.lists(cells, min_size=6, max_size=6).map(",".join), max_size=8).map(
            lambda lines: GOOD_HEADER + "\n".join(lines).encode("utf-8", "surrogatepass")
        ),
    ),
)
def test_anything_is_taken_in_once(kind: bytes, body: bytes) -> None:
    """Files, packed ones and messages of any bytes, from a source into a database, twice."""
    TARGETS["intake"](kind + body)


@settings(max_examples=100, deadline=None)
@given(hostile_text, st.lists(hostile_text, max_size=4))
def test_any_texts_for_the_tokenizer_and_the_renderer(brand: str, texts: list[str]) -> None:
    """Brands and posts of any characters."""
    TARGETS["tokenizer"]("\x1e".join(texts).encode("utf-8", "surrogatepass"))
    TARGETS["slack"]("\n".join([brand, *texts]).encode("utf-8", "surrogatepass"))


NASTY: list[dict[str, object]] = [
    {"text": "\0 nul \ud800 lone", "user_id": "\0", "id": "\ud800", "brand": "\0\ud800", "lang": "\0"},
    {"text": "'; DROP TABLE posts; --", "user_id": "%s", "brand": ":brand", "id": "$1"},
    {"text": "{{7*7}} ${7*7} %(text)s \\x00", "brand": "{0}", "id": 10**30},
    {"text": "x" * 300, "brand": "b" * 5000, "id": "i" * 5000, "lang": "l" * 5000, "user_id": "u" * 5000},
    {"text": "\u202e\u2066\x1b[2J\x07\r\n", "brand": "\u202e\x1b[2J"},
    {"text": 7},
    {"text": "\u0301" * 300, "brand": "e\u0301"},
    {"text": "again", "id": "twice"},
    {"text": "again", "id": "twice"},
    {"text": "other", "id": "twice"},
    {"text": "a fraction", "id": 1.5},
]


def batch_of(contents: list[bytes]) -> ScoredBatch:
    """Messages at consecutive offsets, parsed and scored."""
    found = [record for offset, content in enumerate(contents) for record in json_records(content, offset)]
    batch = Batch("posts", found, {StreamPartition(STREAM, 0): len(found)})
    return ScoredBatch(batch, [score_of(post.text) for post in batch.posts], "tiny@1", NOW)


def test_every_record_is_stored_as_one_row(database: Database) -> None:
    """On either database each is a post, a repetition or a dead letter, and a replay adds nothing."""
    hard = [json.dumps({"created_at": "2026-11-20T09:00:00Z", **record}).encode() for record in NASTY]
    kept = [path.read_bytes() for name, path in CORPUS.items() if name.startswith("json/")]
    batch = batch_of(hard + kept)
    saver = Saver(database, rules(max_invalid_share=1.0))
    saved = saver.save(batch)
    assert saved.n_inserted + saved.n_seen_before + sum(saved.refused.values()) == len(hard + kept)
    assert (saved.n_seen_before, saved.refused["id_conflict"]) == (1, 1)  # type: ignore[index]  # a StrEnum's value
    before = everything(database)
    assert len(before["posts"]) == saved.n_inserted
    assert len(before["dead_letters"]) == sum(saved.refused.values())
    assert saver.save(batch).n_inserted == 0
    assert everything(database) == before
