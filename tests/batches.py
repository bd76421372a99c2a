"""Batches for store tests, spelt shortly (chosen keys, brands, days, scores), and looks at what the tables hold."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import msgspec
from doubles import score_of
from sqlalchemy import Connection, select, text

from monitor.identity import content_hash_of, key_of_id, key_of_message
from monitor.posts import (
    Batch,
    DeadLetter,
    Place,
    Post,
    Reason,
    Record,
    Score,
    ScoredBatch,
    StreamPartition,
)
from monitor.store.database import Database
from monitor.store.saving import SaveRules
from monitor.store.schema import metadata

NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
DAY = date(2026, 11, 20)
MODEL = "social-gru@0123abcd"
STREAM = "posts@AAAAAAAAAAAAAAAAAAAAAA"


def rules(
    max_brands: int = 1000, max_invalid_share: float = 0.5, *, keep_text: bool = True, user_id: str = "keep"
) -> SaveRules:
    """SaveRules with the default configuration's values unless told otherwise."""
    assert user_id in {"keep", "hash", "drop"}
    return SaveRules(max_brands, max_invalid_share, keep_text, user_id, hash_key=b"k" * 32)  # type: ignore[arg-type]


def post(
    offset: int,
    *,
    id: str | None = "",  # noqa: A002  the column's name; "" stands for one made of the offset
    brand: str = "acme",
    day: date = DAY,
    user_id: str | None = "ann",
    lang: str | None = "en",
    text: str = "A plain text",
    source: str = "posts",
    stream: str = STREAM,
) -> Post:
    """One accepted record at `offset` of partition 0."""
    id_ = f"id-{offset}" if id == "" else id
    created_at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC) + timedelta(seconds=offset % 3600)
    content_hash = content_hash_of(created_at, user_id, text)
    label = f"{stream}:0:{offset}"
    raw = text.encode("utf-8", "replace")
    place = Place(stream, 0, offset)
    key = key_of_message(source, place, b"") if id_ is None else key_of_id(source, brand, id_)
    return Post(key, content_hash, source, place, label, brand, id_, created_at, day, user_id, lang, text, raw)


def letter(offset: int, reason: Reason = Reason.BAD_JSON, *, source: str = "posts", stream: str = STREAM) -> DeadLetter:
    """One refused record at `offset` of partition 0."""
    return DeadLetter(source, Place(stream, 0, offset), NOW, reason, "The record is no JSON.", b"{", line=offset + 2)


def scored(
    records: Sequence[Record],
    scores: Sequence[Score | None] | None = None,
    *,
    source: str = "posts",
    model: str = MODEL,
    file: str | None = None,
) -> ScoredBatch:
    """A batch whose positions follow from its records; scores come from the texts unless given."""
    positions: dict[StreamPartition, int] = {}
    for record in records:
        at = StreamPartition(record.place.stream, record.place.partition)
        positions[at] = max(record.place.offset + 1, positions.get(at, 0))
    batch = Batch(source, list(records), positions, file=file)
    given = [score_of(each.text) for each in batch.posts] if scores is None else scores
    return ScoredBatch(batch, given, model, NOW)


def mixed_batch(start: int, n: int) -> ScoredBatch:
    """Posts of several brands and days, with and without ids, some of them bad, some unscored."""
    rnd = random.Random(start)
    records = [
        letter(offset)
        if rnd.random() < 0.05
        else post(
            offset,
            id=None if rnd.random() < 0.3 else "",
            brand=rnd.choice(["acme", "globex", "Ünïcode"]),
            day=DAY - timedelta(days=rnd.randrange(4)),
            text=f"text {rnd.random()}",
        )
        for offset in range(start, start + n)
    ]
    batch = scored(records)
    return msgspec.structs.replace(batch, scores=[None if rnd.random() < 0.1 else score for score in batch.scores])


def micro(value: int) -> Score:
    """A score of `value` millionths."""
    pos_prob = value / 1_000_000
    label = "positive" if pos_prob > 0.66 else "negative" if pos_prob < 0.33 else "neutral"
    return Score(pos_prob, int(pos_prob >= 0.5), label, 1 - pos_prob, 0.0, pos_prob)


def everything(db: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""

    def work(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }

    return db.read(work)


def rows(db: Database, sql: str) -> list[tuple[object, ...]]:
    """Rows of a query."""
    return db.read(lambda connection: [tuple(row) for row in connection.execute(text(sql))])
