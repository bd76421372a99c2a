"""mean_pos_corrected, held against draws whose truth is known; test_corrections_oracles.py has other programs."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.aggregates import Z95
from monitor.corrections import DAY_DRIFT, Correction, LabelSums, sums_of

FloatArray = npt.NDArray[np.float64]
MEAN_OF_CLASS = np.array([0.0, 0.5, 1.0])


def drawn(n: int, seed: int, shares: tuple[float, float, float] = (0.3, 0.45, 0.25)) -> tuple[FloatArray, FloatArray]:
    """Labels (n,) and probabilities (n, 3) of a classifier that errs, and is biased towards the positive."""
    draws = np.random.default_rng(seed)
    truth = draws.choice(3, n, p=shares)
    logits = draws.normal(size=(n, 3)) + 1.3 * np.eye(3)[truth] + np.array([0.0, 0.0, 0.5])
    powers = np.exp(logits)
    return MEAN_OF_CLASS[truth], powers / powers.sum(axis=1, keepdims=True)


def scores_of(probabilities: FloatArray) -> FloatArray:
    """pos_prob (n,), with the six decimals that are stored."""
    return np.asarray(np.round(probabilities @ MEAN_OF_CLASS, 6))


def correction_of(labels: FloatArray, scores: FloatArray) -> Correction:
    """From arrays."""
    return Correction.of(sums_of(zip(labels.tolist(), scores.tolist(), strict=True)))


@pytest.mark.parametrize("n_labels", [50, 200])
def test_the_interval_holds_the_mean_behind_and_the_human_mean(n_labels: int) -> None:
    """1,000 days of 60 posts like those labelled: both means are held as often as promised, drift left out."""
    behind, held_behind, held_human = 0.475, 0, 0
    for seed in range(1_000):
        labels, probabilities = drawn(n_labels + 60, 10_000 + seed)
        scores = scores_of(probabilities)
        found = correction_of(labels[:n_labels], scores[:n_labels])
        day, human = scores[n_labels:], labels[n_labels:].mean()
        one = found.correct(float(day.mean()), 60, float(day.std(ddof=1) / np.sqrt(60)), drift=0.0)
        held_behind += one.low <= behind <= one.high
        held_human += one.low <= human <= one.high
    assert 0.93 <= held_behind / 1_000 <= 0.99
    assert 0.93 <= held_human / 1_000 <= 0.975


def test_the_error_falls_with_labels() -> None:
    """Twice as many labels, an error smaller by about the root of two."""
    errors: dict[int, list[float]] = {n: [] for n in (50, 200, 800)}
    for seed in range(200):
        labels, probabilities = drawn(800, 50_000 + seed)
        scores = scores_of(probabilities)
        for n, found in errors.items():
            found.append(abs(correction_of(labels[:n], scores[:n]).estimate(0.55) - 0.475))
    means = {n: float(np.mean(found)) for n, found in errors.items()}
    assert means[50] / means[800] > 2
    assert means[50] > means[200] > means[800]


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 1_000_000)), min_size=3, max_size=60),
    st.floats(0, 1),
    st.integers(1, 10_000),
    st.one_of(st.none(), st.floats(0, 0.5)),
)
def test_whatever_the_labels_it_stays_within_zero_and_one(
    drawn_pairs: list[tuple[float, int]], mean: float, n_posts: int, error: float | None
) -> None:
    """In order, within [0, 1], and never narrower than the drift."""
    found = Correction.of(sums_of((label, micro / 1_000_000) for label, micro in drawn_pairs))
    one = found.correct(mean, n_posts, error)
    assert 0 <= one.low <= one.mean <= one.high <= 1
    assert one.high - one.low >= Z95 * DAY_DRIFT or one.low == 0 or one.high == 1


def test_scores_that_say_nothing_leave_the_labels_alone() -> None:
    """Equal scores, or scores that fall where labels rise: the labels' mean for every day."""
    for scores in ([0.5] * 60, [1.0, 0.5, 0.0] * 20):
        found = Correction.of(sums_of(zip([0.0, 0.5, 1.0] * 20, scores, strict=True)))
        assert found.slope == 0
        assert found.estimate(0.9) == pytest.approx(0.5)


def test_sums_are_whole_millionths() -> None:
    """Each addend rounded, as in daily_totals."""
    assert sums_of([(0.5, 0.123457), (1.0, 0.333333)]) == LabelSums(
        2, 1_500_000, 456_790, 1_250_000, 15_242 + 111_111, 61_728 + 333_333
    )
