"""A bundle whose matrices are int8: half a network's bytes; engines compute as before, from the weights read back."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.bundle import Bundle, save_bundle
from models.calibration import Calibration
from models.corpora import CorpusError
from models.labelled import LabelledPosts, load_labelled
from models.manifest import CALIBRATION, TOKENIZER, WEIGHTS, Manifest, read_manifest
from models.network_weights import quantise, read_weights
from models.paired import compare_on
from models.places import require_new
from models.reports import load_report, write_report
from models.task_card import render_task_card
from models.task_report import evaluate_task


def quantize(path: Path, out: Path, data: Path | None) -> dict[str, Any]:
    """Write the int8 bundle to the new folder `out`; bytes of the weights before and after, and the paired figures.

    On the posts of `labelled.load_labelled`. Where these are what a task's bundle held out, it gets report and card
    with these figures and those of the task's test posts; others have theirs by `model evaluate`. Raises BundleError,
    CorpusError; nothing is left in `out` then.
    """
    manifest = read_manifest(path)
    before = Bundle.load(path, "cpu")
    posts = load_labelled(data, [manifest])
    require_new(out)
    try:
        _write(path, manifest, out)
        return _measured(path, before, out, posts, data)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # or another call would be told that it is there already
        raise


def _measured(path: Path, before: Bundle, out: Path, posts: LabelledPosts, data: Path | None) -> dict[str, Any]:
    """The figures of `quantize`, those of a task's bundle in its folder, too."""
    sizes = {"bytes_before": (path / WEIGHTS).stat().st_size, "bytes_after": (out / WEIGHTS).stat().st_size}
    report = {"data": posts.name} | sizes | compare_on(posts.corpus, [before, Bundle.load(out, "cpu")])
    if posts.task is not None:
        write_report(out, evaluate_task(out, data) | {"int8": report} | _bar(path), render_task_card)
    return report


def _bar(path: Path) -> dict[str, Any]:
    """What the recipe of the bundle in `path` is held to: its int8 form is, too."""
    try:
        return {key: value for key, value in load_report(path).items() if key == "must_reach"}
    except CorpusError:
        return {}


def _write(path: Path, manifest: Manifest, out: Path) -> None:
    name = out.name or out.resolve().name
    trained = dict(manifest.trained) | {"quantized_from": manifest.sha256}
    tokenizer = (path / TOKENIZER).read_text(encoding="utf-8")
    calibration = Calibration.load(path / CALIBRATION, len(manifest.classes))
    made = replace(manifest, name=name, trained=trained)
    save_bundle(out, made, quantise(read_weights(path)), tokenizer, calibration)
