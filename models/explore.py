"""What labelled posts are like before training: class shares, lengths, how often words occur."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.corpora import CLASSES, CorpusError, named_columns, read_own_rows
from models.figures import canvas
from models.hub import is_on_hub
from models.tasks import TASKS, load_task

COVERED = 0.8
_WORD = re.compile(r"\b\w+\b")


@dataclass(frozen=True)
class Exploration:
    """`shares` of the labels, lengths in words (`median`, `p99`), and `counts` of words, most frequent first.

    The `n_covering` most frequent words make 80% of the text.
    """

    posts: int
    shares: dict[str, float]
    median: float
    p99: float
    counts: tuple[int, ...]
    n_covering: int


def explore(data: str) -> Exploration:
    """Look at labelled posts: a CSV's, or what the recipes of a task may train on.

    `data`: the path of a CSV, plain or gzipped, with the column text, and label if it has one; a task, whose
    test posts stay unseen; or `hub:` and the name of a data set. Raises CorpusError.
    """
    if Path(data).is_file():
        return explore_file(Path(data))
    if not is_on_hub(data) and data not in TASKS:
        raise CorpusError(f"{data} is neither a file nor a task: there are {', '.join(sorted(TASKS))}, and hub:NAME")
    split = load_task(next(iter(TASKS)), data) if is_on_hub(data) else load_task(data)
    labels = [CLASSES[label] for part in (split.train, split.development) for label in part.labels]
    return explore_texts((*split.train.texts, *split.development.texts), labels)


def explore_file(path: Path) -> Exploration:
    """Look at a CSV. Raises CorpusError where it is unusable or empty."""
    texts, labels = [], []
    for row in read_own_rows(path):
        if row.get("text") is None:
            raise CorpusError(f"{path} needs the column text; {named_columns(row)}")
        texts.append(row["text"])
        labels.append(row.get("label") or "none")
    if not texts:
        raise CorpusError(f"{path} has no posts")
    return explore_texts(texts, labels)


def explore_texts(texts: Iterable[str], labels: Iterable[str]) -> Exploration:
    """The same of texts and their labels; a word is `\\b\\w+\\b` in lower case."""
    words = [_WORD.findall(text.lower()) for text in texts]
    counts = np.array(sorted(Counter(word for post in words for word in post).values(), reverse=True), np.int64)
    median, p99 = np.quantile([len(post) for post in words], [0.5, 0.99])
    by_label = Counter(labels)
    shares = {name: n / len(words) for name, n in sorted(by_label.items())}
    covering = int(np.searchsorted(np.cumsum(counts), COVERED * counts.sum()) + 1) if len(counts) else 0
    return Exploration(len(words), shares, float(median), float(p99), tuple(counts.tolist()), covering)


def draw_zipf(found: Exploration, path: Path) -> None:
    """Frequency of each word over its rank as a PNG, both logarithmic; Zipf's line has the slope -1."""
    if not found.counts:
        raise CorpusError("there is no word to draw")
    ranks = np.arange(1, len(found.counts) + 1)
    with canvas(path) as axes:
        axes.loglog(ranks, found.counts, color="#1769aa", label="words")
        axes.loglog(ranks, found.counts[0] / ranks, color="#9db2c4", linestyle="--", label="1 / rank")
        axes.axvline(found.n_covering, color="#c62839", label=f"80% of the text: {found.n_covering:,} words")
        axes.set(xlabel="rank of a word", ylabel="times it occurs", title="Words by frequency", ylim=(0.7, None))
        axes.legend()
