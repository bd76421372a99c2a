"""Measuring a bundle on the task that it was trained for; `evaluate.py` is the shipped bundle's protocol."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.corpora import CLASSES, Corpus, find_data, load_csv
from models.hub import is_on_hub
from models.linear_words import weightiest
from models.manifest import Manifest, read_manifest
from models.measures import (
    FloatArray,
    IntArray,
    balanced_weights,
    calibration_error,
    class_figures,
    confidence_error,
    confusion,
    log_loss,
    reliability,
)
from models.reports import NETWORK
from models.speed import n_parameters, posts_per_cpu_second
from models.tasks import class_indices, load_task

HEADLINE = ("accuracy", "macro_f1", "macro_recall", "log_loss_balanced", "ece")
LINEAR = "linear"
LISTED_WORDS = 30  #: of the most positive and of the most negative ones of a linear bundle


def is_task_bundle(manifest: Manifest) -> bool:
    """Whether a task recipe made it."""
    recipe = manifest.trained.get("recipe")
    return isinstance(recipe, Mapping) and isinstance(recipe.get("task"), str)


def evaluate_task(path: Path, data: Path | str | None) -> dict[str, Any]:
    """Measure a bundle on the test posts of its task and split, on a CSV of one's own, or on a data set's test posts.

    Raises CorpusError.
    """
    manifest = read_manifest(path)
    if is_on_hub(data):
        return report_on_task(path, str(data), load_task(manifest.trained["recipe"]["task"], data).read_test())
    place = find_data(None if data is None else Path(data))
    if place.is_file():
        return report_on_task(path, place.stem, load_csv(place))
    task = manifest.trained["recipe"]["task"]
    split = load_task(task, place, int(manifest.trained.get("split", 0)))
    return report_on_task(path, f"{task} test", split.read_test())


def report_on_task(path: Path, name: str, corpus: Corpus) -> dict[str, Any]:
    """The report of the bundle in `path` over one set of labelled posts; two classes leave neutral posts out."""
    bundle, manifest = Bundle.load(path), read_manifest(path)
    known = [i for i, label in enumerate(corpus.labels) if CLASSES[label] in manifest.classes]
    corpus = corpus.select(known)
    figures = measure_bundle(bundle, corpus)
    words = weightiest(path, LISTED_WORDS) if manifest.network.get("kind") == LINEAR else None
    return {
        "bundle": manifest.name,
        "sha256": manifest.sha256,
        "headline": {key: figures[key] for key in HEADLINE},
        "headline_set": name,
        "parameters": n_parameters(manifest),
        "bytes": sum((path / file).stat().st_size for file in manifest.files),
        "posts_per_cpu_second": posts_per_cpu_second(bundle, corpus.texts),
        "sets": {name: {NETWORK: figures}},
    } | ({"words": dict(zip(("positive", "negative"), words, strict=True))} if words else {})


def measure_bundle(bundle: Bundle, corpus: Corpus) -> dict[str, Any]:
    """All figures of a bundle on posts that have its classes."""
    columns = [CLASSES.index(name) for name in bundle.classes]
    probabilities = bundle.score(corpus.texts).probabilities[:, columns]
    return measure_classes(class_indices(corpus, bundle.classes), probabilities, bundle.classes)


def measure_classes(truth: IntArray, probabilities: FloatArray, classes: Sequence[str]) -> dict[str, Any]:
    """All figures of `truth` (n,) and calibrated `probabilities` (n, C): C is 2 or 3, negative first, positive last.

    Those called balanced weigh classes alike. In `ece_pos_prob_balanced` a neutral post counts 0.5.
    """
    n_classes = len(classes)
    table = confusion(truth, probabilities.argmax(axis=1), n_classes)
    by_class = class_figures(table, classes)
    present = [figures for figures in by_class.values() if figures["support"]]
    weights = balanced_weights(truth, n_classes)
    pos_prob = probabilities[:, -1] + (probabilities[:, 1] / 2 if n_classes == 3 else 0.0)
    return {
        "posts": len(truth),
        "accuracy": float(np.diag(table).sum() / len(truth)),
        "macro_f1": float(np.mean([figures["f1"] for figures in present])),
        "macro_recall": float(np.mean([figures["recall"] for figures in present])),
        "classes": by_class,
        "confusion": table.tolist(),
        "log_loss": log_loss(truth, probabilities),
        "log_loss_balanced": log_loss(truth, probabilities, weights),
        "ece": confidence_error(truth, probabilities),
        "ece_pos_prob_balanced": calibration_error(truth / (n_classes - 1), pos_prob, weights),
        "reliability": reliability(truth, probabilities),
    }
