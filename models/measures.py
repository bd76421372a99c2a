"""Measures of a classifier, in numpy alone. Equal to scikit-learn's where that has them (held by a test).

`truth` (n,) holds class indices, `probabilities` (n, C) rows that sum to one; C classes in the order negative, neutral,
positive.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def confusion(truth: IntArray, predicted: IntArray, n_classes: int) -> IntArray:
    """Counts (C, C): rows are the truth, columns the prediction."""
    table = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(table, (truth, predicted), 1)
    return table


def class_figures(table: IntArray, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of each class of a confusion table; 0 where a share has no posts below it."""
    hits = np.diag(table).astype(float)
    predicted, support = table.sum(axis=0), table.sum(axis=1)
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(predicted + support, 1)
    return {
        name: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, name in enumerate(names)
    }


def macro_recall(truth: IntArray, predicted: IntArray, n_classes: int) -> float:
    """Mean of the recalls of the classes that occur: the figure of SemEval task 4 A since 2017."""
    table = confusion(truth, predicted, n_classes)
    posts = table.sum(axis=1)
    return float(np.mean((np.diag(table) / np.maximum(posts, 1))[posts > 0]))


def balanced_weights(truth: IntArray, n_classes: int) -> FloatArray:
    """Weights (n,) of mean 1 under which every class that occurs counts alike."""
    counts = np.bincount(truth, minlength=n_classes)
    return np.asarray(len(truth) / (np.count_nonzero(counts) * np.maximum(counts, 1))[truth], np.float64)


def log_loss(truth: IntArray, probabilities: FloatArray, weights: FloatArray | None = None) -> float:
    """Mean negative log probability of the true class, in nats."""
    losses = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], 1e-15, 1.0))
    return float(np.average(losses, weights=weights))


def calibration_error(outcome: FloatArray, probability: FloatArray, weights: FloatArray, n_bins: int = 15) -> float:
    """Expected calibration error (Naeini et al. 2015) of one probability: mean gap over equal-width bins.

    `outcome` (n,) is what the probability stands for: 1 or 0, or 0.5 for a neutral post under pos_prob.
    """
    bins = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=weights * (outcome - probability), minlength=n_bins)
    return float(np.abs(gaps).sum() / weights.sum())


def confidence_error(truth: IntArray, probabilities: FloatArray, n_bins: int = 15) -> float:
    """ECE of the most likely class (Guo et al. 2017, arXiv:1706.04599)."""
    right = (probabilities.argmax(axis=1) == truth).astype(float)
    return calibration_error(right, probabilities.max(axis=1), np.ones(len(truth)), n_bins)


def reliability(truth: IntArray, probabilities: FloatArray, n_bins: int = 15) -> list[list[float]]:
    """[mean confidence, share that is right, posts] of each equal-width bin of confidence that has posts."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(float)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    return [
        [float(confidence[bins == i].mean()), float(right[bins == i].mean()), int((bins == i).sum())]
        for i in np.unique(bins)
    ]
