"""The pred_threshold at which pred (1 from it on) has the highest F1 on labelled posts."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.bundle import Bundle
from models.corpora import CorpusError, load_csv
from models.manifest import CARD, REPORT, read_manifest, write_manifest
from models.measures import FloatArray
from models.paired import POSITIVE
from models.places import require_new


@dataclass(frozen=True)
class Point:
    """What a threshold gives: precision, recall and F1 of the posts labelled positive."""

    threshold: float
    precision: float
    recall: float
    f1: float


def measure_thresholds(bundle: Bundle, labels: Path) -> list[Point]:
    """Every threshold that changes a prediction on the posts of a CSV, ascending. Raises CorpusError."""
    corpus = load_csv(labels)
    is_positive = np.array(corpus.labels) == POSITIVE
    if not is_positive.any() or is_positive.all():
        missing = "a positive post" if not is_positive.any() else "a post that is not positive"
        raise CorpusError(f"{labels} has not {missing}: a threshold needs both kinds")
    return curve(bundle.score(corpus.texts).pos_prob, is_positive.astype(float))


def curve(pos_prob: FloatArray, is_positive: FloatArray) -> list[Point]:
    """Points of the thresholds that occur as scores, ascending; posts of one score fall on the same side."""
    thresholds = np.unique(pos_prob)
    order = np.argsort(pos_prob, kind="stable")
    hits_below = np.concatenate([[0.0], np.cumsum(is_positive[order])])
    first = np.searchsorted(pos_prob[order], thresholds, side="left")
    hits, predicted, n = hits_below[-1] - hits_below[first], len(pos_prob) - first, hits_below[-1]
    f1 = 2 * hits / (predicted + n)
    parts = zip(thresholds, hits / predicted, hits / n, f1, strict=True)
    return [Point(*map(float, part)) for part in parts]


def best(points: list[Point], current: float = 0.5) -> Point:
    """The point of highest F1; among equals the one nearest to `current`, the lower of two as near."""
    highest = max(point.f1 for point in points)
    return min((point for point in points if point.f1 == highest), key=lambda p: abs(p.threshold - current))


def set_threshold(bundle: Path, threshold: float, out: Path) -> None:
    """Copy a bundle to the new folder `out` with another `pred_threshold`. Raises BundleError where `out` exists.

    Report, card and pictures, which are of the bundle that it was, are not copied.
    """
    manifest = read_manifest(bundle)
    require_new(out)
    shutil.copytree(bundle, out, ignore=shutil.ignore_patterns(REPORT, CARD, "*.png"))
    write_manifest(out, replace(manifest, name=out.name or out.resolve().name, pred_threshold=threshold))
    read_manifest(out)
