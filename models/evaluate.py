"""Measuring a bundle: `sentiment-monitor model evaluate NAME`.

No training learns from the split `2016test`, and no recipe was chosen by it. Beside this module the tasks `semeval` and
`social` measure on it, and tests and the simulation of corrected means do.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.baselines import BagOfWords, Baseline, Vader
from models.bundle import Bundle, read_manifest
from models.corpora import (
    CHECK_SETS,
    CLASSES,
    COMPOSED,
    TEST_SPLIT,
    Corpus,
    CorpusError,
    check_sets,
    find_data,
    load_csv,
    load_test,
)
from models.holdouts import split
from models.hub import path_of
from models.left_out import mark_others
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
from models.model_card import render, render_card
from models.protocol import composed_development, epoch_of, intervals, measure_protocol, plan_of
from models.reports import NETWORK, load_report, write_report
from models.speed import n_parameters, posts_per_cpu_second
from models.task_card import render_task_card
from models.task_report import evaluate_task, is_task_bundle

__all__ = ["evaluate", "load_report", "measure", "render", "report_on", "save_report"]

LOG = logging.getLogger(__name__)


def evaluate(bundle: Path, data: Path | str | None = None, beside: Sequence[Path] = ()) -> dict[str, Any]:
    """Measure a bundle on `2016test`, generated posts and the two hundred plain and hard ones, baselines beside it.

    With it go calibration and daily means (`protocol.measure_protocol`), and what `--hold-out` measured before. `data`
    is the folder of the corpora (default `SENTIMENT_DATA`), or a CSV of one's own (text, label), which is then what is
    measured. Other bundles `beside` it are measured on the same posts, those of two classes on the ones with a side.
    A bundle of a task recipe is measured on that task's test posts instead, or on those of a `hub:` data set.
    The report holds nothing but what JSON can. Raises BundleError, CorpusError.
    """
    manifest = read_manifest(bundle)
    if is_task_bundle(manifest):
        if beside:
            raise CorpusError(f"{manifest.name} is of a task recipe: name it as the one beside a bundle of mixed posts")
        return evaluate_task(bundle, data)
    place = find_data(None if data is None else path_of(data))
    if place.is_file():
        return report_on(bundle, {place.stem: load_csv(place)}, _baselines([]), beside)
    plan = plan_of(manifest)
    posts = split(plan, place)
    sets = {TEST_SPLIT: load_test(place)} | check_sets() | {COMPOSED: composed_development()}
    report = report_on(bundle, sets, _baselines(epoch_of(plan, posts)), beside)
    if len(manifest.classes) == len(CLASSES):
        report |= measure_protocol(Bundle.load(bundle, "cpu"), posts, place)
    return report | {"hold_out": mark_others(_hold_outs(bundle), manifest.trained)}


def report_on(
    path: Path, sets: Mapping[str, Corpus], baselines: Sequence[Baseline], beside: Sequence[Path] = ()
) -> dict[str, Any]:
    """The report of the bundle in `path` over named sets of labelled posts. Raises BundleError, CorpusError."""
    bundle = Bundle.load(path, "cpu")
    manifest = read_manifest(path)
    others = _others(beside, {NETWORK, manifest.name, *(b.name for b in baselines)})
    figures = {
        name: {NETWORK: _measure_bundle(bundle, corpus)}
        | {other: _measure_bundle(found, corpus) for other, found in others.items()}
        | {b.name: _measure_baseline(b, corpus) for b in baselines}
        for name, corpus in sets.items()
    }
    speed = posts_per_cpu_second(bundle, next(iter(sets.values())).texts)
    first = next(iter(figures.values()))[NETWORK]
    checks = {f"{name}_accuracy": figures[name][NETWORK]["accuracy"] for name in CHECK_SETS if name in figures}
    keys = ("accuracy", "macro_f1", "macro_recall", "log_loss_balanced", "ece")
    headline = {key: first[key] for key in keys if key in first}
    return {
        "bundle": manifest.name,
        "sha256": manifest.sha256,
        "headline": headline | checks,
        "headline_set": next(iter(sets)),
        "parameters": n_parameters(manifest),
        "bytes": sum((path / name).stat().st_size for name in manifest.files),
        "posts_per_cpu_second": speed,
        "sets": figures,
    }


def _others(paths: Sequence[Path], taken: set[str]) -> dict[str, Bundle]:
    found: dict[str, Bundle] = {}
    for path in paths:
        name = read_manifest(path).name
        if name in taken | set(found):
            raise CorpusError(f"{path}: another system of the report is called {name}")
        found[name] = Bundle.load(path, "cpu")
    return found


def _hold_outs(bundle: Path) -> dict[str, Any]:
    try:
        return dict(load_report(bundle).get("hold_out", {}))
    except CorpusError:
        return {}


def _baselines(posts: Sequence[Corpus]) -> list[Baseline]:
    """VADER, and bags of words on `posts` where there are some; what is not installed stays out."""
    found: list[Baseline] = []
    try:
        if posts:
            found.append(BagOfWords(posts))
        found.append(Vader())
    except ModuleNotFoundError as error:
        LOG.warning("a baseline is left out: %s; install the extra `train`", error)
    return found


def _measure_bundle(bundle: Bundle, corpus: Corpus) -> dict[str, Any]:
    scores = bundle.score(corpus.texts)
    truth = np.array(corpus.labels)
    if len(bundle.classes) == 3:
        figures = measure(truth, scores.probabilities.argmax(axis=1), scores.probabilities)
        return figures | {"intervals": intervals(truth, scores.probabilities)}
    sided = truth != 1
    predicted = np.where(scores.probabilities[:, 2] >= scores.probabilities[:, 0], 2, 0)
    return measure(truth[sided], predicted[sided], None)


def _measure_baseline(baseline: Baseline, corpus: Corpus) -> dict[str, Any]:
    return measure(np.array(corpus.labels), *baseline.predict(corpus.texts))


def measure(truth: IntArray, predicted: IntArray, probabilities: FloatArray | None) -> dict[str, Any]:
    """All figures of one set: `truth` and `predicted` (n,) class indices, `probabilities` (n, 3) or None."""
    table = confusion(truth, predicted, len(CLASSES))
    classes = class_figures(table, CLASSES)
    present = [figures for figures in classes.values() if figures["support"]]
    figures = {
        "posts": len(truth),
        "accuracy": float((truth == predicted).mean()),
        "macro_f1": float(np.mean([c["f1"] for c in present])),
        "macro_recall": float(np.mean([c["recall"] for c in present])),
        "classes": classes,
        "confusion": table.tolist(),
    }
    if probabilities is None:
        return figures
    return figures | measure_probabilities(truth, probabilities) | {"reliability": reliability(truth, probabilities)}


def measure_probabilities(truth: IntArray, probabilities: FloatArray) -> dict[str, float]:
    """Log loss and calibration errors; `balanced` ones weigh classes alike, which is what the calibration aims at.

    `two_class_accuracy`, where there are any: posts with a side, told by pos_prob >= 0.5. In `ece_pos_prob_balanced` a
    neutral post counts 0.5.
    """
    weights = balanced_weights(truth, len(CLASSES))
    pos_prob = probabilities[:, 2] + probabilities[:, 1] / 2
    sided = truth != 1
    return {
        "log_loss": log_loss(truth, probabilities),
        "log_loss_balanced": log_loss(truth, probabilities, weights),
        "ece": confidence_error(truth, probabilities),
        "ece_pos_prob_balanced": calibration_error(truth / 2.0, pos_prob, weights),
    } | ({"two_class_accuracy": float(((pos_prob >= 0.5) == (truth == 2))[sided].mean())} if sided.any() else {})


def save_report(bundle: Path, report: Mapping[str, Any]) -> None:
    """Write report, model card and pictures into the bundle's folder (`reports.write_report`)."""
    is_of_task = is_task_bundle(read_manifest(bundle))
    write_report(bundle, report, render_task_card if is_of_task else render_card)
