"""Daily means per brand on the tweets of SemEval `2016test`, which have topic and date, beside the human ones."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.class_shares import correct, estimate_shares, positivity
from models.corpora import CLASSES, TEST_SPLIT, read_rows
from models.intervals import interval_of
from models.measures import FloatArray, IntArray

TOPICS = "semeval_2016test_topics.csv.gz"
MIN_POSTS = 30  #: of a brand on a day that counts
SIMULATIONS = 100


@dataclass(frozen=True)
class DatedPosts:
    """Tweets in the order of the file: brand, day, text and the message's label (n,) as index into `CLASSES`."""

    brands: Sequence[str]
    days: Sequence[str]
    texts: Sequence[str]
    labels: IntArray


def has_dated(folder: Path) -> bool:
    """Whether the tweets with topic and date are among the corpora."""
    return (folder / TOPICS).exists()


def load_dated(folder: Path) -> DatedPosts:
    """The tweets of `semeval_2016test_topics` with the label of the same id in `2016test`. Raises CorpusError."""
    split = (row for row in read_rows(folder / "semeval_2013_2016.csv.gz") if row["split"] == TEST_SPLIT)
    label_of = {row["id"]: CLASSES.index(row["label"]) for row in split}
    rows = [row for row in read_rows(folder / TOPICS) if row["id"] in label_of]
    return DatedPosts(
        [row["topic"] for row in rows],
        [row["created_at"][:10] for row in rows],
        [row["text"] for row in rows],
        np.array([label_of[row["id"]] for row in rows], np.int64),
    )


def measure_days(posts: DatedPosts, probabilities: FloatArray, prior: FloatArray) -> dict[str, Any]:
    """Mean absolute difference of each brand-day's mean pos_prob to the human mean, without and with corrections.

    `probabilities` (n, 3) as the bundle gives them. A brand's shares are estimated from all its posts, no label among
    them: `plain_em` from these alone, `corrected` with `prior` (3,) besides. `perfect_model`: labels drawn by the
    corrected probabilities in the place of the human ones. Intervals: bootstrap of whole brands.
    """
    groups = _group(list(zip(posts.brands, posts.days, strict=True)))
    days = [(key[0], rows) for key, rows in groups.items() if len(rows) >= MIN_POSTS]
    brands = np.array([brand for brand, _ in days])
    corrected = correct_by_brand(posts.brands, probabilities, prior)
    systems = {
        "raw": probabilities,
        "plain_em": correct_by_brand(posts.brands, probabilities, None),
        "corrected": corrected,
    }
    figures: dict[str, Any] = {"brand_days": len(days), "brands": len(set(brands))}
    figures["posts"] = sum(len(rows) for _, rows in days)
    for name, values in systems.items():
        gaps = np.array([_gap(positivity(values)[rows], posts.labels[rows]) for _, rows in days])
        interval = interval_of(np.mean, gaps, groups=brands)
        figures[name] = {"mean_difference": float(gaps.mean()), "interval": interval}
    return figures | {"perfect_model": {"mean_difference": _perfect(corrected, [rows for _, rows in days])}}


def correct_by_brand(brands: Sequence[str], probabilities: FloatArray, prior: FloatArray | None) -> FloatArray:
    """Probabilities (n, 3) corrected for the estimated shares of each post's brand."""
    corrected = np.empty_like(probabilities)
    for rows in _group(brands).values():
        corrected[rows] = correct(probabilities[rows], estimate_shares(probabilities[rows], prior))
    return corrected


def _gap(pos_prob: FloatArray, labels: IntArray) -> float:
    return abs(float(pos_prob.mean()) - float(labels.mean()) / 2)


def _perfect(probabilities: FloatArray, days: Sequence[IntArray]) -> float:
    """What is left of the difference when labels follow the probabilities: the noise of a day's few posts."""
    generator = np.random.default_rng(1)
    ends = probabilities.cumsum(axis=1)[:, :-1]
    found = []
    for _ in range(SIMULATIONS):
        drawn = (generator.random((len(ends), 1)) > ends).sum(axis=1)
        found.append(np.mean([_gap(positivity(probabilities[rows]), drawn[rows]) for rows in days]))
    return float(np.mean(found))


def _group(keys: Sequence[Any]) -> Mapping[Any, IntArray]:
    rows: dict[Any, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return {key: np.array(found, np.int64) for key, found in rows.items()}
