"""A bundle's calibration fitted anew on labelled posts that it was not trained on, written as another bundle."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.calibrate import fit_calibration
from models.calibration import Calibration
from models.corpora import CLASSES, Corpus, CorpusError
from models.divisions import stratified_parts
from models.labelled import load_labelled
from models.manifest import CALIBRATION, CARD, REPORT, read_manifest, write_manifest
from models.measures import FloatArray, IntArray, balanced_weights, calibration_error, log_loss
from models.paired import NEUTRAL
from models.places import require_new

N_PARTS = 5
MIN_OF_EACH = 50  #: posts of each class: a bias per class is fitted


def recalibrate(path: Path, out: Path, data: Path | None) -> dict[str, Any]:
    """Copy the bundle `path` to the new folder `out` with a calibration fitted to equal class shares.

    The posts are those of a CSV, or the development tweets of the shipped recipe; a two-class bundle takes those with a
    side. Returns what the two
    calibrations make of the same posts: for the new one each fifth of them is measured with what the other four gave.
    Report and card of the old bundle are not copied: they would tell of other probabilities. Raises BundleError where
    `out` exists, CorpusError for too few posts of a class, and for a bundle of a task where no CSV is named: what it
    held out fitted the calibration that it has.
    """
    require_new(out)
    bundle = Bundle.load(path, "cpu")
    labelled = load_labelled(data, [read_manifest(path)])
    if labelled.task is not None:
        raise CorpusError(
            f"{read_manifest(path).name} held out posts of {labelled.task} for its calibration: name others with --data"
        )
    corpus = _posts(labelled.corpus, len(bundle.classes))
    truth = np.array([bundle.classes.index(CLASSES[label]) for label in corpus.labels], np.int64)
    logits = bundle.logits(corpus.texts)
    fitted = fit_calibration(logits, truth)
    _write(path, out, fitted, {"data": labelled.name, "posts": len(corpus)})
    measured = {
        "before": _measure(bundle.calibration.apply(logits), truth),
        "after": _measure(_out_of_fold(corpus, logits, truth), truth),
    }
    return {
        "data": labelled.name,
        "posts": len(corpus),
        "temperature": fitted.temperature,
        "bias": list(fitted.bias),
        **measured,
    }


def _out_of_fold(corpus: Corpus, logits: FloatArray, truth: IntArray) -> FloatArray:
    """Probabilities (n, C) of each post by a calibration that has not seen it."""
    found = np.empty_like(logits)
    for part in stratified_parts(corpus, N_PARTS, "calibration"):
        others = np.setdiff1d(np.arange(len(truth)), part)
        found[part] = fit_calibration(logits[others], truth[others]).apply(logits[part])
    return found


def _posts(corpus: Corpus, n_classes: int) -> Corpus:
    chosen = (
        corpus
        if n_classes == len(CLASSES)
        else corpus.select(i for i, label in enumerate(corpus.labels) if label != NEUTRAL)
    )
    counts = {name: chosen.labels.count(i) for i, name in enumerate(CLASSES) if n_classes == 3 or i != NEUTRAL}
    short = [f"{n} {name}" for name, n in counts.items() if n < MIN_OF_EACH]
    if short:
        raise CorpusError(f"a calibration needs {MIN_OF_EACH} posts of each class; there are only {', '.join(short)}")
    return chosen


def _write(path: Path, out: Path, fitted: Calibration, posts: Mapping[str, Any]) -> None:
    manifest = read_manifest(path)
    shutil.copytree(path, out, ignore=shutil.ignore_patterns(REPORT, CARD, "*.png"))
    fitted.save(out / CALIBRATION)
    note = {"of": f"{manifest.name}@{manifest.sha256[:8]}", **posts}
    name = out.name or out.resolve().name
    write_manifest(out, replace(manifest, name=name, trained={**manifest.trained, "calibrated": note}))
    read_manifest(out)


def _measure(probabilities: FloatArray, truth: IntArray) -> dict[str, float]:
    """Class-balanced log loss, and calibration error of pos_prob, a neutral post counting 0.5."""
    n_classes = probabilities.shape[1]
    weights = balanced_weights(truth, n_classes)
    pos_prob = probabilities @ np.linspace(0.0, 1.0, n_classes)
    return {
        "log_loss_balanced": log_loss(truth, probabilities, weights),
        "ece_pos_prob_balanced": calibration_error(truth / (n_classes - 1), pos_prob, weights),
    }
