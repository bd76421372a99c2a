"""How far a bundle's probabilities can be believed: class-balanced ECE of each class and of pos_prob, with its floor.

An ECE (Naeini et al. 2015) is above 0 even for a perfect model, since the posts of a bin are finitely many. The floor
says by how much: the mean ECE when labels are drawn by the probabilities themselves.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from models.class_shares import correct, estimate_shares, positivity
from models.corpora import CLASSES
from models.intervals import basic_interval_of
from models.measures import FloatArray, IntArray, balanced_weights, calibration_error

SIMULATIONS = 100
RESAMPLES = 300
POS_PROB = "pos_prob"

ClassError = Callable[[IntArray, FloatArray], float]


def class_error(index: int) -> ClassError:
    """ECE (15 bins) of one class's probability; `truth` (n,), `probabilities` (n, 3), classes weighted alike."""

    def error(truth: IntArray, probabilities: FloatArray) -> float:
        outcome = (truth == index).astype(np.float64)
        return calibration_error(outcome, probabilities[:, index], balanced_weights(truth, len(CLASSES)))

    return error


def pos_prob_error(truth: IntArray, probabilities: FloatArray) -> float:
    """ECE (15 bins) of pos_prob, for which a neutral post counts 0.5, classes weighted alike."""
    return calibration_error(truth / 2.0, positivity(probabilities), balanced_weights(truth, len(CLASSES)))


ERRORS: Mapping[str, ClassError] = {
    **{name: class_error(index) for index, name in enumerate(CLASSES)},
    POS_PROB: pos_prob_error,
}


def measure_calibration(truth: IntArray, probabilities: FloatArray) -> dict[str, Any]:
    """Of each class and of pos_prob: `ece`, its 95% basic bootstrap `interval`, and the `floor` of a perfect model."""
    figures: dict[str, Any] = {"posts": len(truth)}
    drawn = _draw_labels(probabilities)
    for name, error in ERRORS.items():
        figures[name] = {
            "ece": error(truth, probabilities),
            "interval": basic_interval_of(error, truth, probabilities, resamples=RESAMPLES),
            "floor": float(np.mean([error(labels, probabilities) for labels in drawn])),
        }
    return figures


def _draw_labels(probabilities: FloatArray) -> list[IntArray]:
    """Labels as the probabilities, which are for equal class shares, have them at the shares that fit them best.

    Only at those do the drawn classes come in the shares that they are drawn by, so that weighting them alike undoes
    these shares.
    """
    generator = np.random.default_rng(1)
    ends = correct(probabilities, estimate_shares(probabilities)).cumsum(axis=1)[:, :-1]
    return [(generator.random((len(ends), 1)) > ends).sum(axis=1) for _ in range(SIMULATIONS)]
