"""Linear bundles: equal to scikit-learn's own pipeline, served and explained without it."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_models_bundle import rewrite_manifest
from tiny_models import labelled_rows

from models.bundle import Bundle, BundleError, save_bundle
from models.calibrate import fit_calibration
from models.corpora import CLASSES
from models.explain import explain
from models.kinds import load_network
from models.linear import LinearClassifier
from models.linear_plan import CLASSIFIERS, LinearPlan
from models.linear_training import fit, make_pipeline, network_of
from models.linear_words import contributions, weightiest
from models.manifest import LOADED_FILES, MANIFEST, Manifest, read_manifest
from models.network_weights import read_weights
from models.shapes import FREQUENCIES
from models.tokens import Tokens
from models.torch_engine import padded
from models.word_tokenizer import WordEncoder, WordSettings
from models.word_vocabulary import learn_words, word_level

TWO = ("negative", "positive")
SAGA = LinearPlan(solver="saga", frequency="binary", idf=False, unit_length=False)
PLANS = [
    *(
        LinearPlan(classifier, 1.5, "lbfgs", frequency, idf=idf, unit_length=unit)
        for classifier, frequency, idf, unit in product(CLASSIFIERS, FREQUENCIES, (False, True), (False, True))
    ),
    SAGA,
    LinearPlan(solver="liblinear", balanced=True),
]
CASES = [
    (plan, classes)
    for plan in PLANS
    for classes in (TWO, CLASSES)
    if plan.solver != "liblinear" or classes == TWO  # it tells two classes apart
]


def posts_of(classes: Sequence[str], n: int = 150) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """Texts, some words of which come more than once, with class indices."""
    rows = [(text, label) for text, label in labelled_rows(2 * n) if label in classes][:n]
    choice = random.Random(2)
    texts = [f"{text} {' '.join(choice.choices(text.split(), k=choice.randrange(4)))}" for text, _ in rows]
    return texts, np.array([classes.index(label) for _, label in rows], np.int64)


def make_linear(
    plan: LinearPlan, classes: Sequence[str] = TWO, ngrams: int = 2
) -> tuple[Any, LinearClassifier, WordEncoder]:
    """A fitted pipeline of scikit-learn, the network made of it, and the encoder of both."""
    texts, labels = posts_of(classes)
    chosen = WordSettings(ngrams=ngrams)
    words = learn_words(texts, "words", chosen, max_size=60, padding=False)
    encoder = WordEncoder(word_level(words), "words", 100, chosen)
    pipeline = make_pipeline(plan, encoder, 1)
    fit(pipeline, texts, labels)
    return pipeline, network_of(pipeline, plan, len(classes)), encoder


def make_linear_bundle(folder: Path, plan: LinearPlan, classes: Sequence[str] = TWO, ngrams: int = 2) -> Path:
    """A bundle of such a network, calibrated on other posts."""
    _, network, encoder = make_linear(plan, classes, ngrams)
    texts, labels = posts_of(classes, 80)
    labels[::9] = (labels[::9] + 1) % len(classes)
    calibration = fit_calibration(logits_of(network, encoder, texts), labels)
    numbers = {"kind": "linear", **asdict(network.shape)}
    settings = asdict(encoder.settings)
    manifest = Manifest("words", tuple(classes), ("en",), "words", 100, numbers, {}, encoding=settings)
    save_bundle(folder, manifest, network.state_dict(), encoder.tokenizer.to_str(), calibration)
    return folder


def logits_of(network: LinearClassifier, encoder: WordEncoder, texts: Sequence[str]) -> np.ndarray[Any, Any]:
    """Logits (n, C)."""
    with torch.no_grad():
        return np.asarray(network(*padded(Tokens.of(encoder.encode(texts)))).numpy())


STRANGE = [
    "", "?!", "zebra", "love love love", "acme love hate acme love", "Great great GREAT acme nice", "\ud800",
    "x " * 300,
]  # fmt: skip


@pytest.mark.parametrize(("plan", "classes"), CASES, ids=str)
def test_the_network_equals_the_pipeline(plan: LinearPlan, classes: tuple[str, ...]) -> None:
    """Decisions, and probabilities where there are some, are scikit-learn's within 1e-6."""
    pipeline, network, encoder = make_linear(plan, classes)
    texts = [*posts_of(classes)[0], *STRANGE]
    logits = logits_of(network, encoder, texts)
    expected = pipeline.decision_function(texts)
    found = logits[:, 1] if len(classes) == 2 else logits
    assert found == pytest.approx(expected, abs=1e-6)
    assert (logits.argmax(axis=1) == pipeline.predict(texts)).mean() > 0.995  # but for ties
    if plan.classifier == "logistic":
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        assert powers / powers.sum(axis=1, keepdims=True) == pytest.approx(pipeline.predict_proba(texts), abs=1e-6)


@pytest.fixture(scope="module", params=[TWO, CLASSES], ids=["two", "three"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all that a linear one can have."""
    return make_linear_bundle(tmp_path_factory.mktemp("linear") / "words", LinearPlan(), request.param)


def test_a_linear_bundle_is_served(bundle: Path, tmp_path: Path) -> None:
    """Scores as its network does, one post or many, in any order; saved again it is the same bytes."""
    loaded = Bundle.load(bundle, "cpu")
    texts = [*posts_of(loaded.classes)[0], *STRANGE]
    found = loaded.score(texts)
    network = load_network(bundle, read_manifest(bundle))
    assert isinstance(loaded.encoder, WordEncoder)
    expected = loaded.calibration.apply(logits_of(network, loaded.encoder, texts))
    columns = slice(None) if len(loaded.classes) == 3 else [0, 2]
    assert found.probabilities[:, columns] == pytest.approx(expected, abs=1e-12)
    assert loaded.score(texts[::-1]).pos_prob.tolist() == found.pos_prob[::-1].tolist()
    assert loaded.score(["great acme love", "awful acme hate"]).labels == ["positive", "negative"]
    manifest, weights = read_manifest(bundle), read_weights(bundle)
    tokenizer = (bundle / "tokenizer.json").read_text(encoding="utf-8")
    save_bundle(tmp_path / "again", manifest, weights, tokenizer, loaded.calibration)
    for file in (*LOADED_FILES, MANIFEST):
        assert (tmp_path / "again" / file).read_bytes() == (bundle / file).read_bytes()


def test_serving_needs_no_scikit_learn(bundle: Path) -> None:
    """A linear bundle is loaded and scores where scikit-learn and pandas cannot be imported."""
    code = (
        "import sys; from pathlib import Path; sys.modules.update(sklearn=None, pandas=None)\n"
        "from models.bundle import Bundle\n"
        f"print(Bundle.load(Path({str(bundle)!r}), 'cpu').score(['great acme love']).labels)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['positive']"


@pytest.mark.parametrize("text", [*STRANGE, "nice acme hate number 3 but great acme love and not bad"])
def test_contributions_add_up(bundle: Path, text: str) -> None:
    """Base and words make the log-odds of the score that is served, for two classes and three."""
    base, log_odds, words = contributions(bundle, text)
    loaded = Bundle.load(bundle, "cpu")
    assert base + sum(value for _, value in words) == pytest.approx(log_odds, abs=1e-9)
    assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(loaded.score([text]).pos_prob[0], abs=1e-6)
    assert base == pytest.approx(contributions(bundle, "")[1])
    assert isinstance(loaded.encoder, WordEncoder)
    assert [word for word, _ in words] == loaded.encoder.prepare(text).split()[:100]
    found = explain(bundle, text)
    assert (found.log_odds, list(found.words), found.steps) == (log_odds, words, 0)


def test_two_classes_contributions_are_weights_times_features(tmp_path: Path) -> None:
    """By hand: each term's weight times its feature over the temperature, a pair half to either word."""
    plan = LinearPlan(frequency="count", idf=False, unit_length=False)
    folder = make_linear_bundle(tmp_path / "words", plan)
    loaded, weights = Bundle.load(folder, "cpu"), read_weights(folder)["output.weight"][0].double()
    ids = loaded.encoder.tokenizer.get_vocab()
    weight = {term: weights[i].item() / loaded.calibration.temperature for term, i in ids.items()}
    _, _, words = contributions(folder, "great acme great acme zebra")
    pair, back = weight["great acme"], weight.get("acme great", 0.0)
    assert dict(words)["zebra"] == 0
    assert words[0][1] == pytest.approx(weight["great"] + pair / 2)
    assert words[1][1] == pytest.approx(weight["acme"] + pair / 2 + back / 2)


def test_the_weightiest_words_are_listed(bundle: Path) -> None:
    """Those that give the label away lead their sides; the unknown token is in neither list."""
    positive, negative = weightiest(bundle, 5)
    assert {word for word, _ in positive} & {"love", "great", "nice"}
    assert {word for word, _ in negative} & {"hate", "bad", "awful"}
    assert all(value > 0 for _, value in positive)
    assert all(value < 0 for _, value in negative)
    everything = weightiest(bundle, 1000)
    assert 50 < len({word for side in everything for word, _ in side}) <= 59
    for side in everything:
        assert [abs(value) for _, value in side] == sorted((abs(value) for _, value in side), reverse=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frequency": "often"}, "frequency 'often' is none of count, binary, log"),
        ({"idf": 1}, "idf 1 is neither true nor false"),
        ({"idf": False}, "idf is no part of such a network"),
        ({"n_tokens": 10**9}, "output.weight is not of the shape"),
        ({"outputs": 7}, "do not tell"),
        ({"n_classes": 5}, "is not of the shape|do not tell"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Numbers and names that are none, or not those of the weights."""
    folder = make_linear_bundle(tmp_path / "words", LinearPlan())
    rewrite_manifest(folder, lambda tree: tree["network"].update(changes))
    with pytest.raises(BundleError, match=words):
        Bundle.load(folder, "cpu")


def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Fewer words than weights."""
    folder = make_linear_bundle(tmp_path / "words", LinearPlan())
    manifest, calibration = read_manifest(folder), Bundle.load(folder, "cpu").calibration
    tree = json.loads((folder / "tokenizer.json").read_text())
    tree["model"]["vocab"].popitem()
    save_bundle(folder, manifest, read_weights(folder), json.dumps(tree), calibration)
    with pytest.raises(BundleError, match=r"tokenizer\.json has 59 tokens, weights\.safetensors has vectors for 60"):
        Bundle.load(folder, "cpu")
