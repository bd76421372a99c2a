"""One face over every kind of source, so that one suite of tests runs over all of them: put texts in, poll, save,
restart.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fixtures_kafka import Broker

from monitor.config import DropFolderSection, KafkaSection, SourceSection
from monitor.parsing import Parser
from monitor.posts import Batch, Post, Record, Saved
from monitor.protocols import Source
from monitor.sources.drop_folder import DropFolder
from monitor.sources.kafka import KafkaTopics
from monitor.sources.memory import MemoryPositions, MemorySource

NOW = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
CREATED_AT = "2026-11-20T09:00:00Z"
#: a member that dies is noticed soon, and Tansu's first join waits half of the session timeout
FAST_GROUP = {"session_timeout_ms": 2000, "heartbeat_interval_ms": 300, "metadata_max_age_ms": 1000}


def now() -> datetime:
    """The time in every feed."""
    return NOW


class Feed:
    """A source and what is behind it. Saving moves the stored positions as the store does."""

    source: Source

    def __init__(self) -> None:
        self.positions = MemoryPositions()

    def put(self, *texts: str) -> None:
        """Give the source these texts, together; an empty one is a bad record."""
        raise NotImplementedError

    def make(self) -> Source:
        """A source over the same input and positions, not yet opened."""
        raise NotImplementedError

    def restart(self) -> None:
        """End the source and open a new one."""
        self.source.close()
        self.source = self.make()
        self.source.open()

    def poll(self, max_records: int = 500) -> Batch:
        """One poll, as the batch it would make."""
        polled = self.source.poll(max_records, 0.2)
        name = self.source.name
        about = (polled.file, polled.ends_file, 0.0, polled.generation, polled.starts, polled.epochs)
        return Batch(name, polled.records, polled.positions, *about)

    def save(self, batch: Batch) -> None:
        """What the saver and the owner do with a batch."""
        for partition, offset in batch.positions.items():
            if offset > self.positions.offsets.get(partition, -1):
                self.positions.offsets[partition] = offset
                self.positions.epochs.pop(partition, None)
                self.positions.epochs |= {at: epoch for at, epoch in batch.epochs.items() if at == partition}
        self.source.commit(batch, Saved(len(batch.posts), 0, {}))

    def next(self, max_records: int = 500) -> Batch:
        """The next batch that has records; waits up to 20 s."""
        batch: Batch = wait_for(lambda: self.poll(max_records), lambda batch: bool(batch.records))
        return batch

    def read(self, n: int, max_records: int = 500) -> list[Record]:
        """At least `n` records, saved and committed, and the end of their file."""
        records: list[Record] = []
        while len(records) < n:
            batch = self.next(min(max_records, n))
            records += batch.records
            self.save(batch)
        return records

    def wait_for_nothing(self) -> list[Record]:
        """What a few more polls bring."""
        return [record for _ in range(3) for record in self.poll().records]


def wait_for(look: Callable[[], Any], is_good: Callable[[Any], bool], timeout_s: float = 20.0) -> Any:
    """Look again and again until what is seen is good."""
    deadline = time.monotonic() + timeout_s
    while not is_good(found := look()):
        assert time.monotonic() < deadline, f"still {found} after {timeout_s} s"
    return found


def texts_of(records: list[Record]) -> list[str]:
    """The texts of the accepted records."""
    return [record.text for record in records if isinstance(record, Post)]


def parser_of(section: SourceSection) -> Parser:
    """A parser with this suite's defaults."""
    return Parser(section, "acme", UTC, 1000)


def message(text: str, **fields: object) -> bytes:
    """A JSON message."""
    return json.dumps({"created_at": CREATED_AT, "text": text, **fields}).encode()


class MemoryFeed(Feed):
    """Over the in-memory double; its messages outlive a restart."""

    def __init__(self) -> None:
        super().__init__()
        self.section = DropFolderSection(name="memory", kind="drop_folder", path=Path("x"))
        self._messages: dict[Any, list[bytes | None]] | None = None
        self.source: MemorySource = self.make()

    def put(self, *texts: str) -> None:
        self.source.put(*map(message, texts))

    def make(self) -> MemorySource:
        made = MemorySource(parser_of(self.section), self.positions, now)
        made.messages = self._messages = self._messages or made.messages
        return made


class FolderFeed(Feed):
    """Over a drop folder; every `put` is a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.section = DropFolderSection(name="inbox", kind="drop_folder", path=path)
        self.source: DropFolder = self.make()
        self._n_files = 0

    def put(self, *texts: str) -> None:
        self._n_files += 1
        path = self.section.path / f"{self._n_files}.csv"
        path.write_text("created_at,text\n" + "".join(f"{CREATED_AT},{text}\n" for text in texts))
        moment = NOW.timestamp() - 60 + self._n_files
        os.utime(path, (moment, moment))

    def make(self) -> DropFolder:
        return DropFolder(
            self.section, parser_of(self.section), self.positions, now, path=self.section.path, rescan_s=0.02
        )


class KafkaFeed(Feed):
    """Over a topic of one partition."""

    def __init__(self, broker: Broker, **section: Any) -> None:
        super().__init__()
        self.broker = broker
        self.topic = broker.create_topic(broker.new_name("posts"))
        settings: dict[str, Any] = {
            "name": "kafka",
            "kind": "kafka",
            "bootstrap_servers": broker.servers,
            "topics": [self.topic],
        }
        settings |= {"group_id": broker.new_name("group"), "options": FAST_GROUP}
        self.section = KafkaSection(**(settings | section))
        self.source: KafkaTopics = self.make()

    def put(self, *texts: str) -> None:
        self.broker.produce(self.topic, [message(text) for text in texts])

    def make(self) -> KafkaTopics:
        return KafkaTopics(self.section, parser_of(self.section), self.positions, now)
