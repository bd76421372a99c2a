"""Doubles for pure unit tests, in one place: a scorer that needs no bundle, a bookkeeper that needs no database."""

import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b

from monitor.errors import StoreUnavailable, TooManyRefused
from monitor.posts import Batch, Post, Saved, Score, ScoredBatch


def score_of(text: str) -> Score:
    """A score that depends on the text alone: the same for equal texts, spread over [0, 1]."""
    number = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
    pos_prob = number % 1_000_001 / 1_000_000
    p_positive, p_neutral = round(pos_prob**2, 6), round(2 * (pos_prob - pos_prob**2), 6)
    label = "positive" if pos_prob > 0.66 else "negative" if pos_prob < 0.33 else "neutral"
    return Score(pos_prob, int(pos_prob >= 0.5), label, 1 - p_positive - p_neutral, p_neutral, p_positive)


class HashScorer:
    """protocols.Scorer by `score_of`."""

    model = "hash@00000000"

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        """`before` runs at the start of every call: to block, to fail."""
        self._before = before

    def score(self, posts: Sequence[Post]) -> list[Score | None]:
        self._before()
        return [score_of(post.text) for post in posts]


class ListBookkeeper:
    """pipeline.Bookkeeper that keeps what it is given; `away` and `refuse_next` script its failures."""

    def __init__(self) -> None:
        self.saved: list[ScoredBatch] = []
        self.refused: list[tuple[str, bool]] = []
        self.away = threading.Event()
        self.refuse_next = threading.Event()
        self.n_attempts = 0

    def save(self, batch: ScoredBatch) -> Saved:
        self.n_attempts += 1
        if self.away.is_set():
            raise StoreUnavailable("the database is away")
        if self.refuse_next.is_set():
            self.refuse_next.clear()
            raise TooManyRefused(batch.batch.source, 80, 100)
        self.saved.append(batch)
        return Saved(len(batch.batch.posts), 0, {})

    def refuse(self, batch: Batch, reason: str, *, pause: bool) -> None:  # noqa: ARG002
        self.refused.append((batch.source, pause))

    @property
    def texts(self) -> list[str]:
        """Texts of every saved post, in the order of saving."""
        return [post.text for scored in self.saved for post in scored.batch.posts]
