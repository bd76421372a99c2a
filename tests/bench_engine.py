"""Scoring beside the loop it replaces, pair by pair in one run: `python tests/bench_engine.py [--pairs 5]`.

Posts are all different and no score is cached. On a shared machine read the posts per CPU second and the ratio.
"""

import argparse
import csv
import gzip
import os
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import fixed_point
from models.bundle import Bundle, find_bundle
from models.corpora import DATA_VARIABLE, DEFAULT_DATA
from monitor.simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent
SEED_LENGTH, SEED_BATCH, SEED_WORDS = 200, 256, 30_000
CHUNK = 4_096  # posts that the monitor scores at a time
WORD = re.compile(r"\b\w+\b")


class Rate(NamedTuple):
    """How fast posts were scored."""

    posts_per_s: float
    posts_per_cpu_s: float


class SeedNetwork(nn.Module):
    """Words to P(positive): embedding 128, GRU of 128 in both directions over 200 steps, padding included."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SEED_WORDS, 128, padding_idx=0)
        self.gru = nn.GRU(128, 128, batch_first=True, bidirectional=True)
        self.output = nn.Linear(256, 1)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, 200) to (B,)."""
        _, last = self.gru(self.embedding(ids))  # (2, B, 128)
        return torch.sigmoid(self.output(torch.cat([last[0], last[1]], dim=1))).squeeze(1)


class SeedLoop:
    """The loop that the monitor grew from: every text padded to 200 words, batches of 256 in the order they come."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = Counter(word for text in texts for word in WORD.findall(text.lower()))
        self._ids = {word: i + 2 for i, (word, _) in enumerate(counts.most_common(SEED_WORDS - 2))}
        torch.manual_seed(1)
        self._network = SeedNetwork().eval()

    def _pad(self, text: str) -> list[int]:
        ids = [self._ids.get(word, 1) for word in WORD.findall(text.lower())][:SEED_LENGTH]
        return ids + [0] * (SEED_LENGTH - len(ids))

    def score(self, texts: Sequence[str]) -> list[float]:
        """P(positive) of each text."""
        scores: list[float] = []
        for at in range(0, len(texts), SEED_BATCH):
            with torch.no_grad():
                found = self._network(torch.tensor([self._pad(text) for text in texts[at : at + SEED_BATCH]]))
            scores.extend(found.tolist())
        return scores


def rate_of(score: Callable[[Sequence[str]], object], chunks: Iterator[list[str]], seconds: float) -> Rate:
    """Score chunks for about `seconds`; each chunk is taken from the iterator before time is measured."""
    wall = cpu = 0.0
    n_posts = 0
    while wall < seconds:
        chunk = next(chunks)
        began, cpu_began = time.perf_counter(), time.process_time()
        score(chunk)
        wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - cpu_began
        n_posts += len(chunk)
    return Rate(n_posts / wall, n_posts / cpu)


def chunks_of(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    """Chunks without end, no post twice: from the second round on each text has a number of its own."""
    turn = 0
    while True:
        for at in range(0, len(texts) - size + 1, size):
            yield [f"{text} {turn}" if turn else text for text in texts[at : at + size]]
        turn += 1


def seed_loop_posts_per_s(texts: Sequence[str], seconds: float) -> float:
    """Posts per second of the seed's loop, after one batch to warm up; torch's threads are left as they are."""
    loop = SeedLoop(texts)
    loop.score(texts[:SEED_BATCH])
    return rate_of(loop.score, chunks_of(texts, SEED_BATCH), seconds).posts_per_s


def real_texts() -> list[str]:
    """Different tweets of `SENTIMENT_DATA` where there are any, else simulated posts."""
    path = Path(os.environ.get(DATA_VARIABLE, ROOT / DEFAULT_DATA)) / "sentiment140_sample.csv.gz"
    if path.is_file():
        with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
            texts = {row["text"] for row in csv.DictReader(stream)}
    else:
        texts = {post.text for post in Simulator().history(datetime.now(UTC), 30, 200)}
    found = sorted(texts)
    random.Random(1).shuffle(found)
    return found


def compare(texts: Sequence[str], seconds: float, n_pairs: int) -> list[tuple[Rate, Rate]]:
    """Pairs of (seed's loop, bundle), one after the other."""
    loop, bundle = SeedLoop(texts[:20_000]), Bundle.load(find_bundle("social-gru", ROOT), "cpu")
    loop.score(texts[:SEED_BATCH])
    n_warm = len(texts) // 2
    bundle.score(texts[:n_warm])
    seeds, ours = chunks_of(texts, SEED_BATCH), chunks_of(texts[n_warm:], CHUNK)
    return [(rate_of(loop.score, seeds, seconds), rate_of(bundle.score, ours, seconds)) for _ in range(n_pairs)]


def latency_ms(texts: Sequence[str]) -> float:
    """Median milliseconds of one post scored alone."""
    bundle = Bundle.load(find_bundle("social-gru", ROOT), "cpu")
    times = []
    for text in texts[:300]:
        began = time.perf_counter()
        bundle.score([text])
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--pairs", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    texts = real_texts()
    print(f"{given.threads} threads, compiled engine: {fixed_point.IS_AVAILABLE}, {len(texts)} different posts")
    pairs = compare(texts, given.seconds, given.pairs)
    for name, rates in (("the seed's loop", [a for a, _ in pairs]), ("social-gru", [b for _, b in pairs])):
        wall, cpu = (statistics.median(values) for values in zip(*rates, strict=True))
        print(f"{name:16} {wall:10,.0f} posts/s {cpu:10,.0f} posts/CPU s")
    ratios = [statistics.median(b[i] / a[i] for a, b in pairs) for i in (0, 1)]
    print(f"{'ratio':16} {ratios[0]:10.1f}         {ratios[1]:10.1f}")
    print(f"one post alone: {latency_ms(texts):.2f} ms")


if __name__ == "__main__":
    main()
