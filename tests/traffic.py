"""Posts to feed a monitor with, as CSV rows and as JSON messages, and what must become of each."""

import csv
import io
import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

from kafka import KafkaProducer

BRANDS = ("acme", "Globex", "Ärger & Söhne", "initech", "hooli")
WORDS = (
    "love",
    "hate",
    "good",
    "bad",
    "not",
    "phone",
    "shop",
    "monday",
    "the",
    "it",
    "is",
    "was",
    "new",
    "my",
    "the",
    "service",
    "app",
    "again",
    "today",
    "really",
)
FIELDS = ("created_at", "text", "user_id", "brand")


class Message(NamedTuple):
    """One message. `reason`: why it must be refused, None for a good one; `is_repeat`: a good one sent before."""

    value: bytes | None
    partition: int
    text: str = ""
    brand: str = ""
    day: str = ""
    reason: str | None = None
    is_repeat: bool = False


def words(choice: random.Random) -> str:
    """A text of 3 to 12 words."""
    return " ".join(choice.choices(WORDS, k=choice.randint(3, 12)))


def rows(n_rows: int, seed: int = 1, n_days: int = 9, until: datetime | None = None) -> list[dict[str, str]]:
    """CSV rows of several brands and days; every seventh is equal to an earlier one. Times carry their offset, UTC."""
    choice = random.Random(seed)
    until = until or datetime.now(UTC)
    found: list[dict[str, str]] = []
    for number in range(n_rows):
        if number % 7 == 6:
            found.append(choice.choice(found))
            continue
        at = until - timedelta(seconds=choice.randrange(n_days * 86_400))
        user = f"user-{choice.randrange(n_rows // 4 + 1)}"
        brand = choice.choice(BRANDS)
        found.append(dict(zip(FIELDS, (at.isoformat(), f"{words(choice)} {number}", user, brand), strict=True)))
    return found


def csv_bytes(rows: Iterable[dict[str, str]], fields: Sequence[str] = FIELDS) -> bytes:
    """The rows as a UTF-8 file with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def drop(folder: Path, name: str, content: bytes) -> bytes:
    """Rename a file into place in `folder`/inbox, as the README asks ("Posts in"); returns the content."""
    inbox = folder / "inbox"
    inbox.mkdir(exist_ok=True)
    part = inbox / f"{name}.part"
    part.write_bytes(content)
    part.rename(inbox / name)
    return content


#: what can be wrong with a message: reason -> its value, made of a number
BAD_MESSAGES: tuple[tuple[str, Callable[[int], bytes | None]], ...] = (
    ("bad_json", lambda n: b'{"created_at": "2026-11-20T10:00:00", "text": "cut %d' % n),
    ("bad_json", lambda n: b'["no", "object", %d]' % n),
    ("bad_encoding", lambda n: b'{"created_at": "2026-11-20T10:00:00", "text": "\xff\xfe %d"}' % n),
    ("null_value", lambda _: None),
    ("empty_text", lambda n: _json(created_at="2026-11-20T10:00:00", user_id=n)),
    ("empty_text", lambda n: _json(created_at="2026-11-20T10:00:00", text=" \n\t", user_id=n)),
    ("bad_text", lambda n: _json(created_at="2026-11-20T10:00:00", text=n)),
    ("bad_created_at", lambda n: _json(text=f"no time {n}")),
    ("bad_created_at", lambda n: _json(text=f"no such day {n}", created_at="2026-02-30T10:00:00")),
    ("bad_created_at", lambda n: _json(text=f"too early {n}", created_at="1989-12-31T23:59:59")),
    (
        "future_created_at",
        lambda n: _json(text=f"too late {n}", created_at=_iso(datetime.now(UTC) + timedelta(days=3))),
    ),
    ("bad_id", lambda n: _json(text=f"half an id {n}", created_at="2026-11-20T10:00:00", id=n + 0.5)),
    ("bad_id", lambda n: _json(text=f"a true id {n}", created_at="2026-11-20T10:00:00", id=True)),
    ("bad_id", lambda n: _json(text=f"an object {n}", created_at="2026-11-20T10:00:00", id={"n": n})),
    ("text_too_long", lambda n: _json(text=f"{n} " * 20_001, created_at="2026-11-20T10:00:00")),
)


def messages(
    n_messages: int, n_partitions: int = 1, seed: int = 1, n_days: int = 5, bad_every: int = 100
) -> Iterator[Message]:
    """Good messages, half of them with an id; every `bad_every`th is bad, as many repeat an earlier one and its id.

    Every good text is there once but for these. An id conflict comes in the partition of the post it contradicts.
    """
    choice = random.Random(seed)
    with_id: list[tuple[Message, dict[str, Any]]] = []
    now = datetime.now(UTC)
    for number in range(n_messages):
        if number % bad_every == bad_every - 1:
            yield _bad_message(number // bad_every, number, n_partitions, with_id)
        elif number % bad_every == bad_every // 2 and with_id:
            yield choice.choice(with_id)[0]._replace(is_repeat=True, partition=number % n_partitions)
        else:
            at = now - timedelta(seconds=choice.randrange(n_days * 86_400))
            brand, text = choice.choice(BRANDS), f"{words(choice)} #{seed}.{number}"
            fields = {"created_at": at.isoformat(), "text": text, "user_id": number % 997, "brand": brand}
            fields |= {"id": f"{seed}-{number}"} if number % 2 else {}
            message = Message(_json(**fields), number % n_partitions, text, brand, at.date().isoformat())
            if number % 2:
                with_id.append((message, fields))
            yield message


def _bad_message(turn: int, number: int, n_partitions: int, with_id: list[tuple[Message, dict[str, Any]]]) -> Message:
    kind = turn % (len(BAD_MESSAGES) + 1)
    if kind == len(BAD_MESSAGES) and with_id:
        known, fields = with_id[number % len(with_id)]
        return Message(_json(**fields | {"text": f"something else {number}"}), known.partition, reason="id_conflict")
    reason, value = BAD_MESSAGES[kind % len(BAD_MESSAGES)]
    return Message(value(number), number % n_partitions, reason=reason)


class Producing:
    """A thread that produces messages at a steady rate and remembers where each went; for a `with` block."""

    def __init__(self, servers: Sequence[str], topic: str, messages: Iterable[Message], per_s: float) -> None:
        self.sent: list[tuple[Message, int]] = []  # with its offset
        self.failure: BaseException | None = None
        self._messages = messages
        self._per_s = per_s
        self._topic = topic
        self._stopping = threading.Event()
        self._producer = KafkaProducer(
            bootstrap_servers=list(servers), linger_ms=5, metrics_enabled=False, max_block_ms=120_000,
            delivery_timeout_ms=180_000, max_request_size=2_000_000,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._run, name="producer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Produce no more; what was produced is with the broker."""
        self._stopping.set()
        self.finish()

    def finish(self) -> None:
        """Wait until every message is with the broker."""
        self._thread.join()
        assert self.failure is None, self.failure

    @property
    def is_over(self) -> bool:
        """Every message is with the broker."""
        return not self._thread.is_alive()

    @property
    def n_sent(self) -> int:
        """Messages sent so far."""
        return len(self.sent)

    def _run(self) -> None:
        try:
            self._produce()
        except BaseException as error:  # noqa: BLE001 - told by `finish`, in the thread of the test
            self.failure = error
        finally:
            self._producer.close()

    def _produce(self) -> None:
        waiting = []
        began = time.monotonic()
        for number, message in enumerate(self._messages):
            if self._stopping.wait(max(0.0, began + number / self._per_s - time.monotonic())):
                break
            key = b"tombstone" if message.value is None else None
            waiting.append(
                (message, self._producer.send(self._topic, message.value, key=key, partition=message.partition))
            )
            if len(waiting) >= 200:
                self._collect(waiting)
        self._collect(waiting)

    def _collect(self, waiting: list[tuple[Message, Any]]) -> None:
        self.sent.extend((message, future.get(180).offset) for message, future in waiting)
        waiting.clear()


def _json(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def _iso(moment: datetime) -> str:
    return moment.isoformat()
