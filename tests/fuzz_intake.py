"""The fuzzers' longest way: any bytes through a source, the pipeline and the saver into a database, twice."""

import atexit
import gzip
import os
from datetime import UTC
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from batches import NOW, rows, rules
from doubles import HashScorer
from sqlalchemy import delete

from monitor.batching import BatchLimits
from monitor.bookkeeper import StoreBookkeeper
from monitor.config import DropFolderSection, SourceSection
from monitor.health import Health
from monitor.lanes import Lane
from monitor.metrics import Metrics
from monitor.parsing import Parser
from monitor.pipeline import Pipeline
from monitor.posts import MAX_RAW_BYTES, Reason
from monitor.protocols import Polled, Source
from monitor.sources.bookkeeping import StoredPositions
from monitor.sources.drop_folder import DropFolder
from monitor.sources.memory import MemorySource
from monitor.store import migrate
from monitor.store.database import Database
from monitor.store.saving import Saver
from monitor.store.schema import metadata, positions

MESSAGE_END = b"\x1e"  #: between two messages of one input
MAX_TURNS = 2_000  #: more than any input needs: then it turns for ever
_KINDS = {b"k": "messages", b"g": "gzipped", b"z": "as gzip"}  #: by the first byte; any other: a plain file
_COUNTS = "SELECT (SELECT count(*) FROM posts), (SELECT count(*) FROM dead_letters)"


def check_intake(content: bytes) -> None:
    """Each record is one post, one seen before or one dead letter with its reason, and all of it again adds nothing."""
    intake = _intake()
    intake.empty()
    kind = _KINDS.get(content[:1])
    body = content[1:] if kind else content
    first = intake.take(kind, body)
    counted = rows(intake.db, _COUNTS)
    check_rows(intake.db)
    assert counted == [(first.n_inserted, first.n_refused)]
    again = intake.take(kind, body)
    assert again.n_records == first.n_records
    assert again.n_inserted == 0
    assert rows(intake.db, _COUNTS) == counted
    check_rows(intake.db)


def check_rows(db: Database) -> None:
    """Every row has what it must have, and the totals are a recount."""
    for reason, detail, raw in rows(db, "SELECT reason, detail, raw FROM dead_letters"):
        assert reason in set(Reason)
        assert str(detail).strip()
        assert len(raw) <= MAX_RAW_BYTES  # type: ignore[arg-type]  # bytes
    blank = "SELECT count(*) FROM posts WHERE trim(text) = '' OR brand = '' OR pos_prob IS NULL"
    assert rows(db, blank) == [(0,)]
    recounted = "SELECT count(*), coalesce(sum(round(pos_prob * 1000000)), 0) FROM posts"
    assert rows(db, recounted) == rows(db, "SELECT coalesce(sum(n), 0), coalesce(sum(sum_micro), 0) FROM daily_totals")


class _HastyFolder(DropFolder):
    """Waits for nothing: files of an input are there before it is asked."""

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        return super().poll(max_records, min(timeout_s, 0.005))


class _Intake:
    """A folder, its source and a database, used again for every input."""

    def __init__(self) -> None:
        in_memory = Path("/dev/shm")  # a disk would be the slowest part
        folder = TemporaryDirectory(prefix="intake-", dir=in_memory if in_memory.is_dir() else None)
        atexit.register(folder.cleanup)
        self.db = Database(f"sqlite:///{folder.name}/sentiment.db")
        migrate.upgrade(self.db)
        self._positions = StoredPositions(self.db, "posts")
        self._inbox = Path(folder.name) / "inbox"
        self._inbox.mkdir()
        section = DropFolderSection(name="posts", kind="drop_folder", path=self._inbox, settle_s=0)
        parser = Parser(section, "acme", UTC)
        self._folder = _HastyFolder(section, parser, self._positions, lambda: NOW, path=self._inbox, rescan_s=0.0)
        self._folder.open()

    def empty(self) -> None:
        """No row, no file that was taken."""
        self.db.run(lambda connection: [connection.execute(delete(one)) for one in reversed(metadata.sorted_tables)])
        for path in self._inbox.glob("*/*"):
            path.unlink()

    def take(self, kind: str | None, body: bytes) -> "Counted":
        """Feed it and let the pipeline turn until it is through."""
        if kind == "messages":
            memory = MemorySource(Parser(SourceSection(name="posts"), "acme", UTC), self._positions, lambda: NOW)
            messages = body.split(MESSAGE_END)
            memory.put(*messages)
            self.db.run(lambda connection: connection.execute(delete(positions)))  # all of them are delivered again
            memory.open()
            counted = self._run(memory, 0)
            assert counted.n_records == len(messages)
            return counted
        path = self._inbox / ("posts.csv.gz" if kind else "posts.csv")
        path.write_bytes(gzip.compress(body, 1, mtime=0) if kind == "gzipped" else body)
        os.utime(path, (NOW.timestamp() - 60, NOW.timestamp() - 60))
        before = self._folder.n_bad_files
        lane = self._run(self._folder, before)
        assert not path.exists()
        assert len(list(self._inbox.glob("*/2*"))) % 2 == 0, "a file without its report"
        return lane

    def _run(self, source: Source, n_bad_before: int) -> "Counted":
        lane, metrics = Lane(source, BatchLimits(max_posts=200)), Metrics()
        saver = StoreBookkeeper(self.db, Saver(self.db, rules(max_invalid_share=1.0)))
        pipeline = Pipeline([lane], HashScorer(), saver, Health(metrics), metrics)
        source.mark_end()
        for _ in range(MAX_TURNS):
            pipeline.run_once(lane)
            if source.reached_end() and lane.is_idle:
                break
        else:
            raise AssertionError("it never ends")
        assert lane.n_records == lane.n_inserted + lane.n_seen_before + lane.refused.total()
        assert rows(self.db, "SELECT coalesce(sum(next_offset), 0) FROM positions") == [(lane.n_records,)]
        n_bad_files = getattr(source, "n_bad_files", 0) - n_bad_before
        return Counted(lane.n_records, lane.n_inserted, lane.refused.total() + n_bad_files)


class Counted(NamedTuple):
    """What became of one input."""

    n_records: int
    n_inserted: int
    n_refused: int  # records, and files as a whole


@cache
def _intake() -> _Intake:
    return _Intake()
