"""Comparing, thresholds, mistakes, ONNX and int8: held against oracles and by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chi2
from tiny_models import make_bundle, make_texts, write_labelled

from models.bundle import Bundle, BundleError
from models.corpora import CorpusError
from models.evaluate import evaluate, load_report, save_report
from models.explore import explore, explore_texts
from models.figures import CONFUSION, CURVES, RELIABILITY
from models.manifest import CARD, REPORT, read_manifest, write_manifest
from models.measures import confidence_error, reliability
from models.mistakes import PATTERNS, group_mistakes
from models.model_card import render
from models.neighbours import neighbours
from models.network_weights import dequantise, quantise, read_weights
from models.paired import compare, compare_predictions, mcnemar
from models.quantize import quantize
from models.threshold import best, curve, measure_thresholds, set_threshold

ROWS = [(f"{text} {i}", ("negative", "neutral", "positive")[i % 3]) for i, text in enumerate(make_texts(60))]


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 9), (12, 12), (3, 20), (30, 50), (100, 101)])
def test_mcnemar_equals_scipy(b: int, c: int) -> None:
    """Exact below 25 discordant pairs, else chi-squared with continuity correction."""
    n = b + c
    if n == 0:
        expected = 1.0
    elif n < 25:
        expected = binomtest(b, n, 0.5).pvalue
    else:
        expected = chi2.sf(max(0, abs(b - c) - 1) ** 2 / n, 1)
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)


def test_the_interval_of_a_difference_is_paired() -> None:
    """40 of 400 posts are put right by the second: the interval is that of a paired mean, centred on 0.1."""
    truth = np.tile([0, 1, 2, 2], 100)
    first = truth.copy()
    first[:40] = (truth[:40] + 1) % 3
    found = compare_predictions(truth, first, truth)["accuracy"]
    assert found["difference"] == pytest.approx(0.1)
    half_width = 1.96 * np.sqrt(0.1 * 0.9 / 400)
    assert (found["low"], found["high"]) == (
        pytest.approx(0.1 - half_width, abs=0.006),
        pytest.approx(0.1 + half_width, abs=0.006),
    )


def test_a_two_class_bundle_is_compared_on_posts_with_a_side(tmp_path: Path) -> None:
    """Neutral posts are left out for both."""
    three, two = (
        make_bundle(tmp_path / name, k)
        for name, k in (("a", ("negative", "neutral", "positive")), ("b", ("negative", "positive")))
    )
    labelled = write_labelled(tmp_path / "l.csv", ROWS)
    assert compare(three, two, labelled)["posts"] == sum(label != "neutral" for _, label in ROWS)


def test_the_curve_equals_one_threshold_at_a_time() -> None:
    """Also where posts share a score."""
    draws = np.random.default_rng(3)
    scores, truth = draws.integers(0, 8, 50) / 8, draws.integers(0, 2, 50).astype(float)
    for point in curve(scores, truth):
        predicted = scores >= point.threshold
        hits = (predicted * truth).sum()
        assert (point.precision, point.recall) == (hits / predicted.sum(), hits / truth.sum())
        assert point.f1 == pytest.approx(2 * point.precision * point.recall / max(1e-9, point.precision + point.recall))
    assert best(curve(scores, truth)).f1 == max(p.f1 for p in curve(scores, truth))


def test_a_threshold_is_set_in_a_copy(tmp_path: Path) -> None:
    """The copy loads, has the new threshold and its folder's name; one that is there is not overwritten."""
    bundle = make_bundle(tmp_path / "tiny")
    for name in (CARD, REPORT):
        (bundle / name).write_text("of the bundle that it was")
    set_threshold(bundle, 0.625, tmp_path / "tuned")
    copied = Bundle.load(tmp_path / "tuned", "cpu")
    assert (copied.name, copied.pred_threshold) == ("tuned", 0.625)
    assert not {path.name for path in (tmp_path / "tuned").iterdir()} & {CARD, REPORT}
    with pytest.raises(BundleError, match="there already"):
        set_threshold(bundle, 0.5, tmp_path / "tuned")


def test_a_threshold_needs_both_kinds(tmp_path: Path) -> None:
    """Posts none of which is positive are refused in a sentence."""
    rows = [row for row in ROWS if row[1] != "positive"]
    bundle = Bundle.load(make_bundle(tmp_path / "tiny"), "cpu")
    with pytest.raises(CorpusError, match="has not a positive post"):
        measure_thresholds(bundle, write_labelled(tmp_path / "l.csv", rows))


@pytest.mark.parametrize(
    ("group", "text"),
    [("negation", "it isn't good"), ("mixed", "good but slow"), ("sarcasm-like", "oh great, again #sarcasm")],
)
def test_patterns_tell_groups(group: str, text: str) -> None:
    """Each group by an example, none by a plain post."""
    assert [name for name, pattern in PATTERNS.items() if pattern.search(text)] == [group]
    assert not any(pattern.search("I love this phone") for pattern in PATTERNS.values())


def test_mistakes_are_counted(tmp_path: Path) -> None:
    """At confidence 0 every wrong post is a mistake; at 1 none is."""
    bundle, labelled = make_bundle(tmp_path / "tiny"), write_labelled(tmp_path / "l.csv", ROWS)
    labels = Bundle.load(bundle, "cpu").score([text for text, _ in ROWS]).labels
    wrong = sum(found != label for found, (_, label) in zip(labels, ROWS, strict=True))
    assert group_mistakes(bundle, labelled, 0.0)[0].mistakes == wrong > 0
    assert group_mistakes(bundle, labelled, 1.0)[0].mistakes == 0


def test_words_that_make_most_of_the_text(tmp_path: Path) -> None:
    """7 + 1 + 1 + 1 words: two make 80%; lengths are in words."""
    found = explore_texts(["a a a a a", "a a b c d"], ["x", "y"])
    assert (found.n_covering, found.median, found.shares) == (2, 5.0, {"x": 0.5, "y": 0.5})
    (tmp_path / "empty.csv").write_text("text\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no posts"):
        explore(str(tmp_path / "empty.csv"))
    with pytest.raises(CorpusError, match="neither a file nor a task: there are imdb, semeval"):
        explore(str(tmp_path / "nowhere.csv"))


def test_neighbours_are_sorted_by_cosine(tmp_path: Path) -> None:
    """The nearest word's cosine is the one that numpy gives, and the word itself is not listed."""
    bundle = make_bundle(tmp_path / "tiny")
    vectors = read_weights(bundle)["embedding.weight"].numpy()
    encoder = Bundle.load(bundle, "cpu").encoder
    pieces, found = neighbours(bundle, "love", 50)
    a, b = (vectors[encoder.encode([word])[0][0]] for word in ("love", found[0][0]))
    assert pieces == 1
    assert found[0][1] == pytest.approx(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), abs=1e-5)
    assert "love" not in dict(found)
    assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)


def test_other_bundles_are_measured_beside(tmp_path: Path) -> None:
    """On the same posts, in rows of their own; two of one name cannot be told apart."""
    first, second = make_bundle(tmp_path / "first"), make_bundle(tmp_path / "second")
    two = make_bundle(tmp_path / "two", classes=("negative", "positive"))
    for folder in (second, two):
        write_manifest(folder, replace(read_manifest(folder), name=folder.name))
    data = write_labelled(tmp_path / "own.csv", ROWS)
    report = evaluate(first, data, [second, two])
    (figures,) = report["sets"].values()
    assert figures["second"]["confusion"] == figures["network"]["confusion"]
    assert (figures["two"]["posts"], figures["network"]["posts"]) == (40, 60)
    assert "| second " in render(report)
    save_report(first, report)
    save_report(first, evaluate(first, data))
    assert load_report(first)["sets"]["own"].keys() >= {"second", "two"}  # their posts are still the same
    save_report(first, evaluate(first, write_labelled(tmp_path / "own.csv", ROWS[:45])))
    assert not load_report(first)["sets"]["own"].keys() & {"second", "two"}
    with pytest.raises(CorpusError, match="another system of the report is called second"):
        evaluate(first, data, [second, second])


def test_int8_rows_are_within_half_a_step() -> None:
    """Each weight moves by at most half of its row's scale, vectors not at all."""
    weights = {"a.weight": torch.randn(9, 7), "zeros": torch.zeros(2, 3), "bias": torch.randn(4)}
    back = dequantise(quantise(weights))
    assert set(back) == set(weights)
    steps = weights["a.weight"].abs().amax(1, keepdim=True) / 127
    assert bool(((back["a.weight"] - weights["a.weight"]).abs() <= steps * 0.501).all())
    assert torch.equal(back["bias"], weights["bias"])
    assert torch.equal(back["zeros"], weights["zeros"])


def test_an_int8_bundle_is_served(tmp_path: Path) -> None:
    """It loads like any other, scores nearly the same, is smaller; int8 without its scales is refused."""
    bundle, labelled = make_bundle(tmp_path / "tiny"), write_labelled(tmp_path / "l.csv", ROWS)
    report = quantize(bundle, tmp_path / "small", labelled)
    texts = [text for text, _ in ROWS]
    before, after = (Bundle.load(path, "cpu").score(texts).pos_prob for path in (bundle, tmp_path / "small"))
    assert 0 < np.abs(before - after).max() < 0.1
    assert report["bytes_after"] < report["bytes_before"]
    with pytest.raises(ValueError, match="without a scale"):
        dequantise({"a": torch.zeros(2, 2, dtype=torch.int8)})


def test_reliability_adds_up_to_the_calibration_error() -> None:
    """The gaps of the bins, weighed by their posts, are the ECE."""
    draws = np.random.default_rng(4)
    probabilities, truth = draws.dirichlet([1, 1, 1], 500), draws.integers(0, 3, 500)
    bins = np.array(reliability(truth, probabilities))
    ece = (np.abs(bins[:, 0] - bins[:, 1]) * bins[:, 2]).sum() / 500
    assert ece == pytest.approx(confidence_error(truth, probabilities))


def test_a_report_is_drawn(tmp_path: Path) -> None:
    """Pictures lie in the bundle's folder, learning curves only where a training is known; its files stay in order."""
    bundle, labelled = make_bundle(tmp_path / "tiny"), write_labelled(tmp_path / "l.csv", ROWS)
    save_report(bundle, evaluate(bundle, labelled))
    assert {path.name for path in bundle.glob("*.png")} == {CONFUSION, RELIABILITY}
    assert CURVES not in {path.name for path in bundle.iterdir()}
    read_manifest(bundle)
