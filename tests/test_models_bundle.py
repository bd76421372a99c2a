"""Bundles: what is loaded is whole and unaltered, and scores do not depend on how texts come."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from tiny_models import make_bundle, make_texts

from models.bundle import Bundle, describe, find_bundle, list_bundles, save_bundle
from models.calibration import Calibration
from models.manifest import LOADED_FILES, MANIFEST, BundleError, file_sha256, read_manifest

HOSTILE = [
    "",
    " \n\t",
    "\x00",
    "\ud800 love",
    "a" * 20_000,
    "love " * 4_000,
    "\u202eevil\u202c\u200d",
    "\U00010348 \ufdfa \u6f22 \U0001f9ff",
    "xxlove [UNK] ##a",
    "&#x110000; &lt;",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with random weights."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    """The same, loaded."""
    return Bundle.load(folder, "cpu")


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON in place."""
    path = folder / MANIFEST
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def test_scores_are_calibrated_rounded_and_ordered(bundle: Bundle) -> None:
    """Rows sum to one, pos_prob is P(positive) + P(neutral) / 2 to six decimals, the label is the likeliest class."""
    scores = bundle.score(make_texts(50))
    assert scores.probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    expected = scores.probabilities[:, 2] + scores.probabilities[:, 1] / 2
    assert scores.pos_prob == pytest.approx(expected, abs=5.1e-7)
    assert (np.round(scores.pos_prob, 6) == scores.pos_prob).all()
    assert scores.labels == [bundle.classes[i] for i in scores.probabilities.argmax(axis=1)]
    assert len(set(scores.pos_prob)) > 30


def test_two_classes_have_no_neutral_probability(tmp_path: Path) -> None:
    """With two classes the neutral column is NaN and pos_prob is P(positive)."""
    bundle = Bundle.load(make_bundle(tmp_path / "two", ("negative", "positive")))
    scores = bundle.score(["love it", "hate it"])
    assert np.isnan(scores.probabilities[:, 1]).all()
    assert scores.pos_prob == pytest.approx(scores.probabilities[:, 2], abs=5.1e-7)
    assert set(scores.labels) <= {"negative", "positive"}


def test_scores_do_not_depend_on_batching(bundle: Bundle) -> None:
    """Alone, together, in another order or in tiny batches: the same score within 1e-5, in the order of the texts."""
    texts = make_texts(300)
    together = bundle.score(texts).probabilities
    order = np.random.default_rng(3).permutation(len(texts))
    shuffled = bundle.score([texts[i] for i in order], max_tokens_per_batch=64).probabilities
    alone = np.concatenate([bundle.score([text]).probabilities for text in texts[:60]])
    assert shuffled == pytest.approx(together[order], abs=1e-5)
    assert alone == pytest.approx(together[:60], abs=1e-5)


def test_every_text_is_scored(bundle: Bundle) -> None:
    """Empty, blank, NUL, lone surrogates, 20,000 characters, bidi controls: each gets a finite score."""
    scores = bundle.score(HOSTILE)
    assert len(scores.labels) == len(HOSTILE)
    assert np.isfinite(scores.probabilities).all()
    assert ((scores.pos_prob >= 0) & (scores.pos_prob <= 1)).all()


def test_no_texts_no_scores(bundle: Bundle) -> None:
    """An empty batch gives empty scores."""
    scores = bundle.score([])
    assert scores.probabilities.shape == (0, 3)
    assert scores.labels == []


def test_threads_get_the_same_scores(bundle: Bundle) -> None:
    """Equal texts score equally whether or not their words were seen before."""
    texts = make_texts(40, seed=9)
    warm = bundle.score(texts).pos_prob
    bundle.encoder.forget()
    assert (bundle.score(texts).pos_prob == warm).all()


@pytest.mark.parametrize("name", [*LOADED_FILES, MANIFEST])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """A bundle without one of its files is refused, and the message names the file."""
    folder = make_bundle(tmp_path / "b")
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


@pytest.mark.parametrize("name", LOADED_FILES)
def test_altered_file_is_named(tmp_path: Path, name: str) -> None:
    """One changed byte, or a truncated file, is refused before anything is loaded from it."""
    folder = make_bundle(tmp_path / "b")
    content = bytearray((folder / name).read_bytes())
    (folder / name).write_bytes(content[:-10])
    with pytest.raises(BundleError, match=name):
        read_manifest(folder)
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: tree.update(format=2), "format"),
        (lambda tree: tree.update(classes=["good", "bad"]), "classes"),
        (lambda tree: tree.pop("files"), "files"),
        (lambda tree: tree.update(files={"../../etc/passwd": "0"}), "own folder"),
        (lambda tree: tree.update(pred_threshold=1.5), "pred_threshold"),
        (lambda tree: tree.update(preparation="os.system"), "preparation"),
        (lambda tree: tree["network"].update(hidden=15), "weights.safetensors"),
        (lambda tree: tree["network"].update(layers=2), "weights.safetensors"),
        (lambda tree: tree.update(classes=["negative", "positive"]), "weights.safetensors"),
    ],
)  # fmt: skip
def test_wrong_manifest_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    """A manifest that is no manifest, or does not fit the weights, is one clear BundleError."""
    folder = make_bundle(tmp_path / "b")
    rewrite_manifest(folder, change)
    with pytest.raises(BundleError, match=words):
        Bundle.load(folder)


def test_vocabulary_must_fit_the_weights(tmp_path: Path) -> None:
    """A tokenizer with more or fewer tokens than there are vectors is refused with both numbers."""
    folder = make_bundle(tmp_path / "b", n_tokens=150)
    with pytest.raises(BundleError, match="150"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    "content", ["not JSON", "{}", '{"temperature": 0, "bias": [0, 0, 0]}', '{"temperature": 1, "bias": [0, 0]}']
)
def test_wrong_calibration_is_refused(tmp_path: Path, content: str) -> None:
    """A calibration that is none is refused though its hash is right."""
    folder = make_bundle(tmp_path / "b")
    (folder / "calibration.json").write_text(content)
    digest = file_sha256(folder / "calibration.json")
    rewrite_manifest(folder, lambda tree: tree["files"].update({"calibration.json": digest}))
    with pytest.raises(BundleError, match="calibration"):
        Bundle.load(folder)


def test_saved_again_is_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Saving what was loaded gives every file of the bundle again, byte for byte."""
    manifest = read_manifest(folder)
    tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
    calibration = Calibration.load(folder / "calibration.json", 3)
    again = save_bundle(tmp_path / "again", manifest, load_file(folder / "weights.safetensors"), tokenizer, calibration)
    assert again.sha256 == manifest.sha256
    for name in (*LOADED_FILES, MANIFEST):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_bundle_is_found_by_path_or_shipped_name(folder: Path) -> None:
    """Relative and absolute paths and shipped names are found; else the message lists what there is."""
    assert find_bundle("tiny", folder.parent) == folder
    assert find_bundle(str(folder), Path("/")) == folder
    assert "social-gru" in list_bundles()
    assert find_bundle("social-gru", folder).name == "social-gru"
    with pytest.raises(BundleError, match="social-gru"):
        find_bundle("no-such", folder)


def test_unknown_device_is_refused(folder: Path) -> None:
    """A device that is not there, or is none, is a BundleError that names it; `auto` says what it chose."""
    with pytest.raises(BundleError, match="cuda:99"):
        Bundle.load(folder, "cuda:99")
    with pytest.raises(BundleError, match="abacus"):
        Bundle.load(folder, "abacus")
    assert Bundle.load(folder, "auto").device_reason.startswith("auto: ")


def test_describe_has_what_show_prints(folder: Path) -> None:
    """`describe` gives name, hash, classes and size without loading weights."""
    shown = describe(folder)
    assert shown["sha256"] == file_sha256(folder / MANIFEST)
    assert shown["bytes"] > 1000
    assert shown["metrics"] == {}


def test_reading_a_manifest_needs_no_torch(folder: Path) -> None:
    """`check` and `model list` read manifests without the seconds that torch takes to import."""
    program = (
        "import sys; from pathlib import Path; from models.bundle import read_manifest;"
        f"read_manifest(Path({str(folder)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
