"""Numbered messages produced at a steady rate, and the comparison of the broker's log with the database."""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import psycopg
from daemon_process import wait_until
from forked_daemon import fork_server
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from traffic import WORDS

N_PARTITIONS = 6
BAD = {3: "empty_text", 53: "bad_json", 103: "bad_created_at", 153: "null_value"}  #: number modulo 200 -> reason
REPEATS = 77  #: number modulo 200 that repeats an earlier message and its id
_CLOSED_DAYS = 3
_NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


def value_of(number: int, per_brand: int) -> bytes | None:
    """The message of that number. The good ones of one number are the same whenever they are made."""
    reason = BAD.get(number % 200)
    if reason == "null_value":
        return None
    if reason == "bad_json":
        return b'{"created_at": "2026-11-20T10:00:00", "text": "cut %d' % number
    if number % 200 == REPEATS and number > 200:
        number -= 100 + number // 200 % 50 * 2  # an odd number, so one with an id, of 100 to 198 before
    choice = random.Random(number)
    at = _NOON - timedelta(days=1 + number % _CLOSED_DAYS, seconds=number % 3600)
    words = " ".join(choice.choices(WORDS, k=3 + number % 9))
    fields = {"created_at": at.isoformat(), "text": f"{words} #{number}", "brand": f"brand {number // per_brand}"}
    if number % 2:
        fields["id"] = str(number)
    if reason == "empty_text":
        fields["text"] = " "
    if reason == "bad_created_at":
        fields["created_at"] = "someday"
    return json.dumps(fields).encode()


class Numbered:
    """A process that produces numbers 0, 1, 2 ... at `per_s`, for a `with` block; waits for a broker that is away.

    Not a thread: kafka-python leaves the sockets of refused connections to the garbage collector, which warns.
    """

    def __init__(self, servers: list[str], topic: str, n_messages: int, per_s: float, per_brand: int = 2000) -> None:
        self._servers = servers
        self._topic = topic
        context = fork_server()
        self._n_produced = context.Value("q", 0)
        self._stopping = context.Event()
        given = (servers, topic, range(n_messages), per_s, per_brand, self._n_produced, self._stopping)
        self._process = context.Process(target=_produce, args=given, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        wait_until(lambda: self.n_produced > 0 or self.is_over, "the first message")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._process.join()

    def finish(self) -> None:
        """Stop at the end of a brand, so that each has posts enough for an episode; all are with the broker."""
        self._stopping.set()
        self._process.join()
        assert self._process.exitcode == 0, "the producer failed"

    @property
    def is_over(self) -> bool:
        """All were produced."""
        return self._process.exitcode is not None

    @property
    def n_produced(self) -> int:
        """Messages so far."""
        return int(self._n_produced.value)

    @property
    def n_records(self) -> int:
        """Records in the log, by its ends."""
        consumer = self._consumer()
        try:
            return sum(consumer.end_offsets(self._partitions()).values())
        finally:
            consumer.close(autocommit=False)

    def log(self) -> Iterator[tuple[int, int, bytes | None]]:
        """Partition, offset and value of every record in the broker's log."""
        consumer = self._consumer()
        try:
            partitions = self._partitions()
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            while any(consumer.position(one) < ends[one] for one in partitions):
                for records in consumer.poll(1000, max_records=5000).values():
                    yield from ((record.partition, record.offset, record.value) for record in records)
        finally:
            consumer.close(autocommit=False)

    def _consumer(self) -> Any:
        return KafkaConsumer(
            bootstrap_servers=self._servers,
            enable_auto_commit=False,
            metrics_enabled=False,
            bootstrap_timeout_ms=30_000,
        )

    def _partitions(self) -> list[Any]:
        return [TopicPartition(self._topic, number) for number in range(N_PARTITIONS)]


def _produce(
    servers: list[str], topic: str, numbers: range, per_s: float, per_brand: int, n_produced: Any, stopping: Any
) -> None:
    producer = KafkaProducer(
        bootstrap_servers=servers,
        linger_ms=20,
        metrics_enabled=False,
        max_block_ms=180_000,
        delivery_timeout_ms=300_000,
    )
    began = time.monotonic()
    futures: list[Any] = []
    for number in numbers:
        if stopping.is_set():
            if number % per_brand == 0:
                break
        elif (early_s := began + number / per_s - time.monotonic()) > 0:
            stopping.wait(early_s)
        value = value_of(number, per_brand)
        key = b"tombstone" if value is None else None
        futures.append(producer.send(topic, value, key=key, partition=number // 2 % N_PARTITIONS))
        n_produced.value = number + 1
        if len(futures) >= 2000:
            _collect(futures)
    _collect(futures)
    producer.close()


def _collect(futures: list[Any]) -> None:
    for future in futures:
        future.get(300)
    futures.clear()


def check_log(feed: Numbered, url: str) -> dict[str, int]:
    """Every good record of the log is one post (one per id), every bad one one dead letter; totals are a recount.

    Returns what was counted. AssertionError says what was lost or doubled.
    """
    expected, letters = _expected(feed)
    seen = {int(number) for text in expected for number in re.findall(r"#(\d+)$", text)}
    with psycopg.connect(url) as connection:
        by_text = connection.execute("SELECT text, count(*) FROM posts GROUP BY text").fetchall()
        refused = Counter(connection.execute('SELECT partition, "position", reason FROM dead_letters').fetchall())
        differing = connection.execute(_DIFFERING_TOTALS).fetchall()
        days = connection.execute(_DIFFERING_DAYS).fetchall()
    found: Counter[str] = Counter(dict(by_text))
    lost, doubled = expected - found, found - expected
    assert not lost, f"{lost.total()} posts lost: {list(lost)[:5]}"
    assert not doubled, f"{doubled.total()} posts too many: {list(doubled)[:5]}"
    assert refused == letters, (
        f"dead letters: {(letters - refused).total()} lost, {(refused - letters).total()} too many"
    )
    assert not differing, f"totals differ from a recount: {differing[:5]}"
    assert not days, f"daily rows differ from a recount: {days[:5]}"
    return {"records": feed.n_records, "numbers": len(seen), "posts": found.total(), "dead letters": refused.total()}


def _expected(feed: Numbered) -> tuple[Counter[str], Counter[tuple[int, int, str]]]:
    """Texts as often as they must be there, and the dead letters by partition, offset and reason."""
    texts: Counter[str] = Counter()
    letters: Counter[tuple[int, int, str]] = Counter()
    for partition, offset, value in feed.log():
        reason, fields = _judged(value)
        if reason is not None:
            letters[partition, offset, reason] += 1
        elif "id" in fields:
            texts[fields["text"]] = 1
        else:
            texts[fields["text"]] += 1
    return texts, letters


def _judged(value: bytes | None) -> tuple[str | None, dict[str, Any]]:
    if value is None:
        return "null_value", {}
    try:
        fields: dict[str, Any] = json.loads(value)
    except ValueError:
        return "bad_json", {}
    if not fields["text"].strip():
        return "empty_text", fields
    return ("bad_created_at" if fields["created_at"] == "someday" else None), fields


_RECOUNT = """
    SELECT brand, day, count(*) AS n, sum(pred) AS positives, sum(round(pos_prob * 1000000)::bigint) AS sum_micro,
           count(*) FILTER (WHERE label = 'negative') AS n_negative
    FROM posts GROUP BY brand, day"""
_TOTALS = """
    SELECT brand, day, sum(n) AS n, sum(positives) AS positives, sum(sum_micro) AS sum_micro,
           sum(n_negative) AS n_negative
    FROM daily_totals GROUP BY brand, day"""
_DIFFERING_TOTALS = f"""
    SELECT * FROM ({_RECOUNT}) AS r FULL JOIN ({_TOTALS}) AS t USING (brand, day)
    WHERE (r.n, r.positives, r.sum_micro, r.n_negative)
          IS DISTINCT FROM (t.n, t.positives, t.sum_micro, t.n_negative)"""
_DIFFERING_DAYS = f"""
    SELECT * FROM ({_RECOUNT}) AS r FULL JOIN daily_sentiment AS d USING (brand, day)
    WHERE (r.n, r.positives) IS DISTINCT FROM (d.total, d.positives)
          OR abs(r.sum_micro / 1e6 / r.n - d.mean_pos) > 1e-9"""
