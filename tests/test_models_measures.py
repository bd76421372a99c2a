"""Measures and calibration: equal to scikit-learn, and right on cases worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from models.calibrate import fit_calibration
from models.calibration import Calibration
from models.corpora import CLASSES
from models.evaluate import measure
from models.measures import FloatArray, IntArray, balanced_weights, calibration_error, confidence_error, log_loss
from models.model_card import render


@pytest.fixture(scope="module")
def sample() -> tuple[IntArray, FloatArray]:
    """Truth and probabilities of 2,000 posts with unequal class shares."""
    generator = np.random.default_rng(2)
    truth = generator.choice(3, 2_000, p=[0.15, 0.5, 0.35])
    logits = generator.normal(size=(2_000, 3)) + 1.2 * np.eye(3)[truth]
    return truth, Calibration(1.0, (0.0, 0.0, 0.0)).apply(logits)


def test_figures_equal_scikit_learn(sample: tuple[IntArray, FloatArray]) -> None:
    """Accuracy, macro F1 and recall, per-class figures, log loss and confusion are scikit-learn's."""
    truth, probabilities = sample
    predicted = probabilities.argmax(axis=1)
    figures = measure(truth, predicted, probabilities)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, predicted)
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert figures["macro_f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert figures["macro_recall"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert figures["log_loss"] == pytest.approx(metrics.log_loss(truth, probabilities))
    assert figures["confusion"] == metrics.confusion_matrix(truth, predicted).tolist()
    for i, name in enumerate(CLASSES):
        expected = {"precision": precision[i], "recall": recall[i], "f1": f1[i], "support": support[i]}
        assert figures["classes"][name] == pytest.approx(expected)
    weights = balanced_weights(truth, 3)
    balanced = metrics.log_loss(truth, probabilities, sample_weight=weights)
    assert figures["log_loss_balanced"] == pytest.approx(balanced)
    json.dumps(figures)


def test_balanced_weights_make_classes_equal() -> None:
    """Each class that occurs gets the same total weight, and the mean is one."""
    truth = np.array([0, 0, 0, 2])
    weights = balanced_weights(truth, 3)
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])


def test_calibration_error_by_hand() -> None:
    """Two bins of one and three posts: the weighted mean of their gaps."""
    outcome, probability = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.9, 0.9, 0.9])
    assert calibration_error(outcome, probability, np.ones(4), 2) == pytest.approx((0.9 + abs(2 - 2.7)) / 4)
    truth, rows = np.array([0, 1]), np.array([[0.8, 0.2], [0.7, 0.3]])
    assert confidence_error(truth, rows, 1) == pytest.approx(0.25)


def test_calibration_is_fitted_for_equal_shares() -> None:
    """From logits too sharp and biased, the fit recovers temperature and biases of a balanced population."""
    generator = np.random.default_rng(4)
    truth = generator.choice(3, 30_000, p=[0.2, 0.5, 0.3])
    evidence = generator.normal(size=(30_000, 3)) + np.eye(3)[truth]  # log-odds under equal shares: these very columns
    found = fit_calibration(2.5 * evidence + np.array([1.0, -2.0, 0.5]), truth)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    shift = np.array([1.0, -2.0, 0.5]) / 2.5
    assert np.array(found.bias) == pytest.approx(-(shift - shift.mean()), abs=0.05)
    probabilities = found.apply(2.5 * evidence + np.array([1.0, -2.0, 0.5]))
    weights = balanced_weights(truth, 3)
    assert (
        log_loss(truth, probabilities, weights)
        <= log_loss(truth, Calibration(1, (0, 0, 0)).apply(evidence), weights) + 1e-3
    )
    assert (weights[:, None] * probabilities).mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=1e-6)


def test_report_renders_as_a_table() -> None:
    """Every set and system is a row; a figure that a system lacks stays blank."""
    figures = {"posts": 1_200, "accuracy": 0.5, "macro_recall": 0.51, "macro_f1": 0.52}
    report = {
        "bundle": "tiny", "parameters": 1_000, "bytes": 2**20, "posts_per_cpu_second": 12_345,
        "sets": {"plain_posts": {"network": figures | {"ece": 0.04}, "VADER": figures}},
    }  # fmt: skip
    lines = render(report).splitlines()
    assert lines[2].split("|")[1:5] == [" plain posts ", " tiny   ", " 1,200 ", " 0.500    "]
    assert lines[3].count("0.0") == 0
    assert "12,345 posts per CPU second" in lines[-1]


def test_a_rare_class_does_not_make_the_others_uncertain() -> None:
    """Two posts of a class among seven hundred that are told apart well: those stay so."""
    generator = np.random.default_rng(7)
    truth = np.repeat([0, 1, 2], [350, 2, 350])
    logits = 6.0 * np.eye(3)[truth] + generator.normal(size=(702, 3))
    found = fit_calibration(logits, truth).apply(logits)
    assert found[truth == 2, 2].mean() > 0.95
    assert found[truth == 0, 0].mean() > 0.95


def test_logits_far_apart_are_brought_together() -> None:
    """However sure a network is of a set that it tells apart but for one post, or but for none."""
    truth = np.array([0, 1] * 150)
    for size in (10.0, 40.0, 300.0):
        for n_wrong in (0, 1):
            logits = size * np.eye(2)[np.where(np.arange(300) < n_wrong, 1 - truth, truth)]
            assert 0.9 < fit_calibration(logits, truth).apply(logits).max() < 152 / 153


def test_calibration_of_posts_told_apart_without_a_mistake_can_be_loaded(tmp_path: Path) -> None:
    """The best temperature would be zero: what is written stays within what is read, whatever the logits' size."""
    truth = np.array([0, 1] * 50)
    for size in (1e-6, 1e-3, 1.0, 10.0):
        for shift in (-0.9, 0.0, 0.9):
            logits = np.stack([np.zeros(100), size * (truth - 0.5 + shift)], axis=1)
            fit_calibration(logits, truth).save(tmp_path / "calibration.json")
            found = Calibration.load(tmp_path / "calibration.json", 2)
            assert np.isfinite(found.apply(logits)).all()
            assert size < 1e-3 or (found.apply(logits).argmax(axis=1) == truth).all()
            assert found.apply(logits).max() < 52 / 53  # of fifty posts without a mistake Platt says 51 / 52
