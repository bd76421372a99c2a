"""mean_pos_corrected, held against ppi-python and quapy. They bring a compiler, so `make test-long` has them."""

import importlib.util
from typing import Any

import numpy as np
import pytest
from services import require
from test_corrections import MEAN_OF_CLASS, correction_of, drawn, scores_of

from monitor.aggregates import Z95

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def _oracles() -> None:
    """The extra `oracles`."""
    for name in ("ppi_py", "quapy"):
        require(importlib.util.find_spec(name) is not None, f"{name}, which the extra oracles has,")


def pacc() -> Any:
    """quapy's quantifier over probabilities that are given: its classifier has nothing to learn."""
    from quapy.method.aggregative import PACC
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression()
    classifier.classes_ = np.arange(3)
    return PACC(classifier, fit_classifier=False, val_split=None)


def half_width(errors: tuple[float, ...]) -> float:
    """Of a 95% interval with those independent errors."""
    return Z95 * float(np.sqrt(sum(error**2 for error in errors)))


@pytest.mark.parametrize(("n_labels", "n_posts"), [(50, 30), (200, 100), (400, 5_000)])
def test_it_is_prediction_powered_inference(n_labels: int, n_posts: int) -> None:
    """With the same lambda, ppi-python's point estimate, and its interval where sampling and labels alone count."""
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate

    labels, labelled = drawn(n_labels, 1)
    scores, day = scores_of(labelled), scores_of(drawn(n_posts, 2)[1])
    found = correction_of(labels, scores)
    (expected,) = np.atleast_1d(ppi_mean_pointestimate(labels, scores, day, lam=found.slope))
    assert found.estimate(day.mean()) == pytest.approx(expected, abs=1e-5)
    low, high = (float(np.squeeze(end)) for end in ppi_mean_ci(labels, scores, day, alpha=0.05, lam=found.slope))
    at_labels = found.label_error(found.mean_score)  # elsewhere the error of the slope is added
    ours = half_width((found.slope * day.std() / np.sqrt(n_posts), at_labels))
    assert ours == pytest.approx((high - low) / 2, rel=1.1 / n_labels + 1e-3)  # we divide by n - 2


def test_the_slope_is_the_power_tuning_of_ppi_plus_plus() -> None:
    """As many posts as there can be: what ppi-python tunes lambda to, seen in its estimate of a day far away."""
    from ppi_py import ppi_mean_pointestimate

    labels, labelled = drawn(200, 3)
    scores = scores_of(labelled)
    found = correction_of(labels, scores)
    day = np.tile(scores, 2_000)
    assert 0.3 < found.slope < 1
    (tuned,) = np.atleast_1d(ppi_mean_pointestimate(labels, scores, day))
    (fixed,) = np.atleast_1d(ppi_mean_pointestimate(labels, scores, day, lam=found.slope))
    assert tuned == pytest.approx(fixed, abs=1e-4)
    shifted = day - 0.2 * (day > 0.2)
    (tuned,) = np.atleast_1d(ppi_mean_pointestimate(labels, scores, shifted))
    assert found.estimate(shifted.mean()) == pytest.approx(tuned, abs=0.02)


def test_the_interval_holds_what_quapy_finds() -> None:
    """Class shares by PACC (Bella et al. 2010) from the same labels, as a mean: another road to the same figure."""
    inside = 0
    for seed in range(100, 140):
        labels, labelled = drawn(400, seed)
        _, day = drawn(2_000, seed + 1_000)
        quantifier = pacc()
        quantifier.aggregation_fit(labelled, (labels * 2).astype(int))
        by_shares = float(quantifier.aggregate(day) @ MEAN_OF_CLASS)
        scores = scores_of(day)
        error = scores.std() / np.sqrt(len(scores))
        found = correction_of(labels, scores_of(labelled)).correct(float(scores.mean()), len(scores), error)
        inside += found.low <= by_shares <= found.high
    assert inside >= 38
