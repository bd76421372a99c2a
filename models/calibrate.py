"""Fitting a calibration to equal class shares; applying one is `calibration.py`."""

import numpy as np

from models.calibration import MAX_SCALE, Calibration
from models.measures import FloatArray, IntArray, balanced_weights

STEPS = 60
MIN_SPREAD = 1e-3


def fit_calibration(logits: FloatArray, truth: IntArray) -> Calibration:
    """Temperature and a bias per class (after Guo et al. 2017, arXiv:1706.04599) of least class-balanced log loss.

    `logits` (n, C), `truth` (n,). Newton's method on (inverse temperature, C - 1 free biases), with halved steps where
    one overshoots.
    """
    n_classes = logits.shape[1]
    weights = balanced_weights(truth, n_classes) / len(truth)
    target = _targets(truth, n_classes)
    theta = np.zeros(n_classes)
    theta[0] = min(1.0, 1.0 / max(float(logits.std()), MIN_SPREAD))  # from logits far apart no step would lead back
    for _ in range(STEPS):
        gradient, hessian = _derivatives(theta, logits, target, weights)
        step: FloatArray = np.linalg.solve(hessian + 1e-9 * np.eye(n_classes), gradient).astype(np.float64)
        theta = _improve(theta, step, logits, target, weights)
        if np.abs(gradient).max() < 1e-10:
            break
    return _calibration(theta)


def _targets(truth: IntArray, n_classes: int) -> FloatArray:
    """(n, C): what is to be said of each post.

    Platt's targets (1999, "Probabilistic outputs for support vector machines", section 2.2), for the C classes that
    occur: (N + 1) / (N + C) for the label, 1 / (N + C) for each other, so that a few posts that are told apart without
    a mistake do not make a bundle certain of everything. N is the mean over the classes: the same for all, or else the
    mean probabilities of classes that weigh alike would differ.
    """
    counts = np.bincount(truth, minlength=n_classes)
    occurs = counts > 0
    n_posts, n_present = counts[occurs].mean(), occurs.sum()
    target: FloatArray = (np.eye(n_classes)[truth] * n_posts + occurs) / (n_posts + n_present)
    return target


def _calibration(theta: FloatArray) -> Calibration:
    bias = np.append(theta[1:], 0.0)
    return Calibration(temperature=float(1 / theta[0]), bias=tuple(float(b) for b in bias - bias.mean()))


def _improve(
    theta: FloatArray, step: FloatArray, logits: FloatArray, target: FloatArray, weights: FloatArray
) -> FloatArray:
    """The first of theta - step, - step/2, ... that does not raise the loss and stays where a bundle may be loaded."""
    before = _loss(theta, logits, target, weights)
    for k in range(30):
        tried: FloatArray = theta - step / 2**k
        is_sane = 1 / MAX_SCALE < tried[0] < MAX_SCALE and float(np.abs(tried[1:]).max(initial=0.0)) < MAX_SCALE / 2
        if is_sane and _loss(tried, logits, target, weights) <= before:
            return tried
    return theta


def _loss(theta: FloatArray, logits: FloatArray, target: FloatArray, weights: FloatArray) -> float:
    """Weighted cross-entropy to the targets (n, C)."""
    probabilities = np.maximum(_calibration(theta).apply(logits), np.finfo(np.float64).tiny)
    return float(-(weights[:, None] * target * np.log(probabilities)).sum())


def _derivatives(
    theta: FloatArray, logits: FloatArray, target: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Gradient (C,) and Hessian (C, C) of the weighted log loss in theta."""
    n, n_classes = logits.shape
    features = np.zeros((n, n_classes, n_classes))  # (post, class, parameter): d logit / d theta
    features[:, :, 0] = logits
    features[:, np.arange(n_classes - 1), np.arange(1, n_classes)] = 1.0
    probability = _calibration(theta).apply(logits)
    gradient = np.einsum("n,nc,ncp->p", weights, probability - target, features)
    mean = np.einsum("nc,ncp->np", probability, features)
    second = np.einsum("n,nc,ncp,ncq->pq", weights, probability, features, features) - np.einsum(
        "n,np,nq->pq", weights, mean, mean
    )
    return gradient, second
