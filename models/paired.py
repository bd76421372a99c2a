"""Two bundles on the same posts: McNemar's test, and a bootstrap interval of the difference."""

from collections.abc import Callable, Sequence
from math import comb, erfc, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.corpora import CLASSES, Corpus
from models.labelled import load_labelled
from models.manifest import read_manifest
from models.measures import FloatArray, IntArray, macro_recall

EXACT_BELOW = 25  # discordant pairs: with fewer the chi-squared approximation is poor (Fagerland et al. 2013)
RESAMPLES = 2_000
POSITIVE = CLASSES.index("positive")
NEUTRAL = CLASSES.index("neutral")


def predictions(bundle: Bundle, texts: tuple[str, ...]) -> IntArray:
    """Predicted classes (n,) as indices into `CLASSES`."""
    return np.array([CLASSES.index(label) for label in bundle.score(texts).labels], np.int64)


def compare(first: Path, second: Path, data: Path | None) -> dict[str, Any]:
    """Accuracy and macro recall of two bundles, their differences with 95% intervals, and McNemar's p.

    On the posts of `labelled.load_labelled`. Raises BundleError, CorpusError.
    """
    bundles = [Bundle.load(path, "cpu") for path in (first, second)]
    posts = load_labelled(data, [read_manifest(path) for path in (first, second)])
    return {"data": posts.name} | compare_on(posts.corpus, bundles)


def compare_on(corpus: Corpus, bundles: Sequence[Bundle]) -> dict[str, Any]:
    """The figures of `compare` of two bundles on given posts.

    Where one bundle has two classes, neutral posts are left out and both tell positive from negative.
    """
    if any(len(bundle.classes) == 2 for bundle in bundles):
        corpus = corpus.select(i for i, label in enumerate(corpus.labels) if label != NEUTRAL)
        predicted = [_sides(bundle, corpus.texts) for bundle in bundles]
    else:
        predicted = [predictions(bundle, corpus.texts) for bundle in bundles]
    return compare_predictions(np.array(corpus.labels, np.int64), predicted[0], predicted[1])


def _sides(bundle: Bundle, texts: tuple[str, ...]) -> IntArray:
    columns = bundle.score(texts).probabilities
    return np.where(columns[:, POSITIVE] >= columns[:, 0], POSITIVE, 0).astype(np.int64)


def compare_predictions(truth: IntArray, first: IntArray, second: IntArray, seed: int = 1) -> dict[str, Any]:
    """The figures of `compare` from class indices (n,); `difference` is the second's less the first's."""
    only_first = int(((first == truth) & (second != truth)).sum())
    only_second = int(((first != truth) & (second == truth)).sum())
    measured: dict[str, Callable[[IntArray, IntArray], float]] = {"accuracy": _accuracy, "macro_recall": _macro_recall}
    report: dict[str, Any] = {"posts": len(truth), "only_first_right": only_first, "only_second_right": only_second}
    report["different_predictions"] = int((first != second).sum())
    report["mcnemar_p"] = mcnemar(only_first, only_second)
    for name, measure in measured.items():
        a, b = measure(truth, first), measure(truth, second)
        low, high = _interval(truth, first, second, measure, seed)
        report[name] = {"first": a, "second": b, "difference": b - a, "low": low, "high": high}
    return report


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar (1947): exact binomial for few discordant pairs, else chi-squared with continuity."""
    n = only_first + only_second
    if n == 0:
        return 1.0
    if n < EXACT_BELOW:
        tail: float = sum(comb(n, k) for k in range(min(only_first, only_second) + 1)) * 0.5**n
        return min(1.0, 2 * tail)
    statistic = max(0, abs(only_first - only_second) - 1) ** 2 / n
    return erfc(sqrt(statistic / 2))  # the upper tail of chi-squared with one degree of freedom


def _interval(
    truth: IntArray, first: IntArray, second: IntArray, measure: Callable[[IntArray, IntArray], float], seed: int
) -> tuple[float, float]:
    """95% percentile interval of the difference; a resample takes the same posts for both."""
    draws = np.random.default_rng(seed)
    differences: FloatArray = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        rows = draws.integers(0, len(truth), len(truth))
        differences[i] = measure(truth[rows], second[rows]) - measure(truth[rows], first[rows])
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def _accuracy(truth: IntArray, predicted: IntArray) -> float:
    return float((truth == predicted).mean())


def _macro_recall(truth: IntArray, predicted: IntArray) -> float:
    return macro_recall(truth, predicted, len(CLASSES))
