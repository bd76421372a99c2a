"""A population's class shares without labels, and probabilities corrected for them.

A bundle's probabilities hold for equal class shares; a brand's posts have shares of their own. Expectation
maximisation finds the shares under which the probabilities of its posts are most likely (Saerens, Latinne and
Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities: A Simple Procedure", Neural
Computation 14(1)). It takes posts for independent, which those about one brand are not, since they repeat each other's
words; so a Dirichlet prior around the shares of another population of posts holds it back.
"""

import numpy as np

from models.measures import FloatArray

#: how many posts the prior is worth: about half of a brand's in SemEval 2016test, on whose daily means it was chosen
PRIOR_POSTS = 100.0
MAX_STEPS = 2_000
TOLERANCE = 1e-8


def estimate_shares(
    probabilities: FloatArray, prior: FloatArray | None = None, prior_posts: float = PRIOR_POSTS
) -> FloatArray:
    """Class shares (C,) of the posts whose probabilities under equal shares are `probabilities` (n, C), n >= 1.

    `prior` (C,): shares of a population that these posts are thought to come from; None for plain EM.
    """
    n, n_classes = probabilities.shape
    shares = np.full(n_classes, 1.0 / n_classes)
    pseudo = np.zeros(n_classes) if prior is None else prior_posts * prior
    for _ in range(MAX_STEPS):
        moved: FloatArray = (correct(probabilities, shares).sum(axis=0) + pseudo) / (n + pseudo.sum())
        if np.abs(moved - shares).max() < TOLERANCE:
            return moved
        shares = moved
    return shares


def correct(probabilities: FloatArray, shares: FloatArray) -> FloatArray:
    """Probabilities (n, C) for a population with class `shares` (C,) from those for equal shares (Bayes' rule)."""
    weighted = probabilities * shares
    corrected: FloatArray = weighted / np.maximum(weighted.sum(axis=1, keepdims=True), 1e-300)
    return corrected


def positivity(probabilities: FloatArray) -> FloatArray:
    """pos_prob (n,) of (n, 3): P(positive) + P(neutral) / 2."""
    result: FloatArray = probabilities[:, 2] + probabilities[:, 1] / 2
    return result
