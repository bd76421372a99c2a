"""Small bundles, recipes and labelled posts for tests, made on the spot and the same every time."""

import csv
import gzip
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from models.bundle import save_bundle
from models.calibration import Calibration
from models.manifest import Manifest
from models.networks import GruClassifier
from models.preparation import PLACEHOLDERS
from models.shapes import GruShape
from models.tokenizer import UNKNOWN
from models.vocabulary import wordpiece

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
    "…",
    "!",
    "?",
)
VOCABULARY = (UNKNOWN, *PLACEHOLDERS, *WORDS, *(mark + chr(code) for code in range(97, 123) for mark in ("", "##")))
THREE = ("negative", "neutral", "positive")
MARKS = {
    "positive": ("love", "great", "nice"),
    "negative": ("hate", "bad", "awful"),
    "neutral": ("monday", "opens", "shop"),
}

RECIPE = """
name: tiny
description: Words that give their label away
languages: [en]
preparation: subword
max_tokens: 32
seed: 5
vocabulary: {min_count: 1, start: texts, max_size: 300}
network: {embedding: 12, hidden: 8, dropout: 0.2, token_dropout: 0.1}
batch_posts: 16
average_decay: 0.9
label_smoothing: 0.05
stages:
  - {name: only, epochs: 3, patience: 3, learning_rate: 0.02, posts: {labels: 1}}
"""


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_network(classes: tuple[str, ...] = THREE, hidden: int = 16, n_tokens: int = len(VOCABULARY)) -> GruClassifier:
    """A network with random weights, large enough that texts get different scores."""
    torch.manual_seed(7)
    network = GruClassifier(GruShape(n_tokens, 8, hidden, len(classes))).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return network


def make_bundle(folder: Path, classes: tuple[str, ...] = THREE, n_tokens: int = len(VOCABULARY)) -> Path:
    """A bundle with random weights in `folder`; another `n_tokens` makes one that does not fit together."""
    network = make_network(classes, n_tokens=n_tokens)
    shape = {"n_tokens": n_tokens, "embedding": 8, "hidden": 16, "n_classes": len(classes)}
    manifest = Manifest("tiny", classes, ("en",), "subword", 48, shape, {})
    calibration = Calibration(1.3, (0.1, -0.1, 0.0)[: len(classes)])
    save_bundle(folder, manifest, network.state_dict(), wordpiece(VOCABULARY).to_str(), calibration)
    return folder


def make_texts(n_texts: int, seed: int = 1) -> list[str]:
    """Texts of 0 to 60 words."""
    choice = random.Random(seed)
    return [" ".join(choice.choices(WORDS, k=choice.randrange(61))) for _ in range(n_texts)]


def labelled_rows(n_rows: int, seed: int = 1) -> list[tuple[str, str]]:
    """(text, label) rows whose words give the label away."""
    choice = random.Random(seed)
    labels = [choice.choice(list(MARKS)) for _ in range(n_rows)]
    return [(f"{choice.choice(MARKS[x])} acme {choice.choice(MARKS[x])} number {i}", x) for i, x in enumerate(labels)]


def write_labelled(path: Path, rows: list[tuple[str, str]]) -> Path:
    """A CSV with the columns text and label."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    return path


def write_corpora(folder: Path) -> Path:
    """Files of generated tweets: one source has near-copies of the other; the dated ones have topics."""
    words = [f"w{i}" for i in range(400)]
    generator = np.random.default_rng(3)

    def text() -> str:
        return " ".join(generator.choice(words, 9))

    tweets = [[str(i), "", "2013train", THREE[i % 3], "0", text()] for i in range(600)]
    tests = [[str(i + 1000), "", "2016test", THREE[i % 3], "0", text()] for i in range(120)]
    copies = [[row[5] + " indeed", row[3], "x"] for row in tweets[::4]] + [
        [text(), THREE[i % 3], "x"] for i in range(300)
    ]
    header = ["id", "created_at", "split", "label", "in_tweeteval_val", "text"]
    write_rows(folder / "semeval_2013_2016.csv.gz", [header, *tweets, *tests])
    write_rows(folder / "tweet_sentiment_extraction.csv.gz", [["text", "label", "source"], *copies])
    sided = [[text(), THREE[2 * (i % 2)], "x"] for i in range(40)]
    write_rows(folder / "sentiment140_sample.csv.gz", [["text", "label", "source"], *sided])
    topics = [[row[0], f"2016-07-0{1 + i % 2}T10:00", f"brand{i % 2}", "0", row[5]] for i, row in enumerate(tests)]
    write_rows(folder / "semeval_2016test_topics.csv.gz", [["id", "created_at", "topic", "score", "text"], *topics])
    return folder


def write_rows(path: Path, rows: list[list[str]]) -> None:
    """A gzipped CSV."""
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
