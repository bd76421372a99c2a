"""Training the linear kinds with scikit-learn (extra `train`); what is left is weights that are served without it."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.linear import LinearClassifier
from models.linear_plan import LinearPlan
from models.measures import FloatArray, IntArray
from models.recipe import RecipeError
from models.shapes import LinearShape
from models.word_tokenizer import WordEncoder

LOG = logging.getLogger(__name__)
MAX_ROUNDS = 1_000


def require_scikit_learn() -> None:
    """Raise RecipeError, naming the extra `train`, where scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401  # only whether it is there
    except ModuleNotFoundError as error:
        raise RecipeError("a linear recipe needs scikit-learn: pip install 'sentiment-monitor[train]'") from error


def make_pipeline(plan: LinearPlan, encoder: WordEncoder, seed: int) -> Any:
    """scikit-learn's own pipeline from texts to classes, over the terms of the encoder's vocabulary."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import Pipeline

    ids = encoder.tokenizer.get_vocab()
    terms = sorted(ids, key=ids.__getitem__)[1:]  # without the unknown token
    vectorizer = TfidfVectorizer(
        analyzer=_Terms(encoder),
        vocabulary=terms,
        binary=plan.frequency == "binary",
        sublinear_tf=plan.frequency == "log",
        use_idf=plan.idf,
        norm="l2" if plan.unit_length else None,
        dtype=np.float64,
    )
    return Pipeline([("features", vectorizer), ("classifier", _classifier(plan, seed))])


@dataclass(frozen=True)
class _Terms:
    """The terms of a text as the encoder cuts them."""

    encoder: WordEncoder

    def __call__(self, text: str) -> list[str]:
        return self.encoder.terms(text)


def _classifier(plan: LinearPlan, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    weight = "balanced" if plan.balanced else None
    if plan.classifier == "svm":
        return LinearSVC(C=plan.c, class_weight=weight, max_iter=MAX_ROUNDS, random_state=seed)
    return LogisticRegression(C=plan.c, solver=plan.solver, class_weight=weight, max_iter=MAX_ROUNDS, random_state=seed)


def fit(pipeline: Any, texts: Sequence[str], labels: IntArray) -> None:
    """Fit the pipeline to texts with class indices (n,); says so in the log where it stopped before its best."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        pipeline.fit(texts, labels)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        LOG.warning("the classifier had not settled after %d rounds", MAX_ROUNDS)


def network_of(pipeline: Any, plan: LinearPlan, n_classes: int) -> LinearClassifier:
    """The network that computes what a fitted pipeline does."""
    vectorizer, classifier = pipeline["features"], pipeline["classifier"]
    weights: FloatArray = classifier.coef_  # (outputs, V - 1)
    shape = LinearShape(
        n_tokens=weights.shape[1] + 1,
        n_classes=n_classes,
        frequency=plan.frequency,
        idf=plan.idf,
        unit_length=plan.unit_length,
        outputs=len(weights) if len(weights) != n_classes else 0,
    )
    state = {
        "output.weight": _behind_unknown(weights),
        "output.bias": torch.from_numpy(np.ravel(classifier.intercept_)).float(),
    }
    if plan.idf:
        state["idf"] = _behind_unknown(vectorizer.idf_)
    network = LinearClassifier(shape)
    network.load_state_dict(state)
    return network.eval()


def _behind_unknown(values: FloatArray) -> Tensor:
    """(..., V) of (..., V - 1): the unknown token has no weight."""
    return torch.nn.functional.pad(torch.from_numpy(np.asarray(values)).float(), (1, 0))
