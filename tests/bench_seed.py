"""The way this project's seeds did it, kept as a yardstick: every post padded to 200 words, 256 posts at a time.

Run as a program it is the obvious script end to end: read Kafka or a CSV, score, `DataFrame.to_sql`. It prints a line
of JSON with the number of rows stored so far and the time after every batch.
"""

import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from sqlalchemy import create_engine
from torch import Tensor, nn

MAX_WORDS = 200
BATCH = 256
VOCABULARY = 30_000
WIDTH = 128  # of the embedding and of each direction
PAD, UNKNOWN = 0, 1
WORD = re.compile(r"\b\w+\b")


class SeedNetwork(nn.Module):
    """Embedding 128, one bidirectional GRU of 128, the last states of both directions, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PAD)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(2 * WIDTH, 2)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, 2) of ids (B, 200)."""
        _, last = self.gru(self.embedding(ids))  # (2, B, H)
        logits: Tensor = self.output(self.dropout(torch.cat([last[0], last[1]], dim=1)))
        return logits


class SeedScorer:
    """Its scoring loop; the weights are random, which costs the same."""

    def __init__(self, texts: Iterable[str], device: str = "cpu") -> None:
        """The vocabulary is of the 30,000 most frequent words of `texts`."""
        counts = Counter(word for text in texts for word in WORD.findall(text.lower()))
        frequent = counts.most_common(VOCABULARY - 2)
        self.ids = {word: number for number, (word, _) in enumerate(frequent, 2)}
        self.device = device
        self.network = SeedNetwork().to(device).eval()

    def score(self, texts: Sequence[str]) -> list[float]:
        """P(positive) of each text."""
        scores: list[float] = []
        for start in range(0, len(texts), BATCH):
            ids = torch.tensor([self._encode(text) for text in texts[start : start + BATCH]]).to(self.device)
            with torch.no_grad():
                scores.extend(torch.softmax(self.network(ids), dim=1)[:, 1].tolist())
        return scores

    def _encode(self, text: str) -> list[int]:
        ids = [self.ids.get(word, UNKNOWN) for word in WORD.findall(text.lower())][:MAX_WORDS]
        return ids + [PAD] * (MAX_WORDS - len(ids))


def from_kafka(servers: str, topic: str, n: int) -> Iterator[pd.DataFrame]:
    """The topic's first `n` messages, 256 at a time."""
    from kafka import KafkaConsumer

    consumer: Any = KafkaConsumer(
        topic, bootstrap_servers=servers, auto_offset_reset="earliest", group_id=f"obvious-{os.getpid()}"
    )
    rows: list[dict[str, object]] = []
    for n_read, message in enumerate(consumer, 1):
        rows.append(json.loads(message.value))
        if len(rows) == BATCH or n_read == n:
            yield pd.DataFrame(rows)
            rows = []
        if n_read == n:
            break
    consumer.close()


def from_csv(path: str) -> Iterator[pd.DataFrame]:
    """The file's rows, 256 at a time."""
    yield from pd.read_csv(path, chunksize=BATCH, keep_default_na=False)


def main(kind: str, url: str, vocabulary: str, *place: str) -> None:
    """Read, score, store."""
    frames = from_kafka(place[0], place[1], int(place[2])) if kind == "kafka" else from_csv(place[0])
    scorer = SeedScorer(pd.read_csv(vocabulary, usecols=["text"], nrows=20_000, keep_default_na=False)["text"])
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    n = 0
    for frame in frames:
        frame["created_at"] = pd.to_datetime(frame["created_at"], format="ISO8601", utc=True)
        frame["pos_prob"] = scorer.score(frame["text"].tolist())
        frame["pred"] = (frame["pos_prob"] >= 0.5).astype(int)
        frame.to_sql("obvious_posts", engine, if_exists="append", index=False)
        n += len(frame)
        print(json.dumps([n, time.monotonic()]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
