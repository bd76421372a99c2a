"""Posts to measure with: tweets from SENTIMENT_DATA, else generated ones with their lengths and word frequencies."""

import csv
import json
import math
import os
import random
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = "sentiment140_sample.csv.gz"
N_BRANDS = 20
N_USERS = 5_000
N_DAYS = 30

#: words a tweet has: share of tweets with at most so many (137,681 tweets of 2009)
_LENGTHS = (
    (0.0, 1), (0.01, 2), (0.05, 4), (0.1, 5), (0.25, 8), (0.5, 13), (0.75, 19), (0.9, 24), (0.99, 29), (1.0, 45),
)  # fmt: skip
#: share of all words that the so many most frequent ones make up; the others are names and spellings seen once
_RANKS = ((0.0, 1), (0.034, 2), (0.176, 10), (0.436, 100), (0.69, 1_000), (0.849, 10_000))
_SYLLABLES = ("ba", "chi", "do", "er", "ga", "hoo", "ix", "jo", "ka", "lu", "mi", "nna", "pi", "que", "ri", "sta", "vy")


def find_texts() -> tuple[list[str], str]:
    """Distinct texts in a fixed random order, and where they are from."""
    path = Path(os.environ.get("SENTIMENT_DATA", ROOT.parent / "shared" / "data")) / CORPUS
    if not path.is_file():
        return list(
            islice(_generated(random.Random(1)), 100_000)
        ), "generated like tweets (set SENTIMENT_DATA for real ones)"
    import pandas as pd

    found = pd.read_csv(path, usecols=["text"], keep_default_na=False)["text"].drop_duplicates().tolist()
    random.Random(1).shuffle(found)
    return found, f"{len(found):,} tweets of {CORPUS}"


def texts(found: Sequence[str], n: int, first: int = 0) -> Iterator[str]:
    """`n` different texts from number `first` on; where there are too few, a number behind them makes them differ."""
    for index in range(first, first + n):
        round_, at = divmod(index, len(found))
        yield f"{found[at]} {round_}" if round_ else found[at]


def records(found: Sequence[str], n: int, first: int = 0) -> Iterator[dict[str, str]]:
    """Posts of 20 brands over 30 days, each with an id."""
    start = datetime.now(UTC) - timedelta(days=N_DAYS)
    for index, text in enumerate(texts(found, n, first), first):
        at = start + timedelta(seconds=index * 86_400 * N_DAYS / (first + n))
        brand, user = f"brand {index % N_BRANDS}", f"u{index % N_USERS}"
        yield {"created_at": at.isoformat(), "text": text, "user_id": user, "id": f"p{index}", "brand": brand}


def messages(found: Sequence[str], n: int, first: int = 0) -> list[bytes]:
    """The same as JSON messages."""
    return [json.dumps(record).encode() for record in records(found, n, first)]


def write_csv(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """The same as a CSV file, renamed into place."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["created_at", "text", "user_id", "id", "brand"])
        writer.writeheader()
        writer.writerows(rows)
    part.rename(path)


def generated(n: int) -> list[str]:
    """About `n` different texts with the lengths and word frequencies of tweets, always the same."""
    return list(dict.fromkeys(islice(_generated(random.Random(1)), n)))


def _generated(choice: random.Random) -> Iterator[str]:
    vocabulary = _vocabulary()
    while True:
        n = round(_quantile(_LENGTHS, choice.random()))
        yield " ".join(_word(choice, vocabulary) for _ in range(n))


def _word(choice: random.Random, vocabulary: Sequence[str]) -> str:
    share = choice.random()
    if share < _RANKS[-1][0]:
        return vocabulary[
            min(len(vocabulary), int(math.exp(_quantile([(s, math.log(rank)) for s, rank in _RANKS], share)))) - 1
        ]
    rare = "".join(choice.choices(_SYLLABLES, k=choice.randint(2, 5)))
    return f"@{rare}" if share > 0.94 else rare


def _quantile(points: Sequence[tuple[float, float]], share: float) -> float:
    """The inverse of a distribution function given at some points, straight between them."""
    at = min(bisect(points, (share, math.inf)), len(points) - 1)
    (below, low), (above, high) = points[at - 1], points[at]
    return low + (high - low) * (share - below) / (above - below)


def _vocabulary() -> list[str]:
    """Whole words of the shipped bundle's tokenizer, the frequent ones about first."""
    tokenizer = json.loads((ROOT / "models/bundles/social-gru/tokenizer.json").read_text(encoding="utf-8"))
    words = [word for word in tokenizer["model"]["vocab"] if word.isalpha() and word.isascii()]
    return [word for word in words if not word.startswith("xx") and (len(word) > 1 or word in "ai")]
