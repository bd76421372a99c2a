"""What words do in a linear bundle: exact contributions to one score, and the words of most weight overall."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from models.bundle import Bundle
from models.kinds import load_network
from models.linear import UNKNOWN_ID, LinearClassifier
from models.manifest import BundleError, read_manifest
from models.measures import FloatArray
from models.word_tokenizer import WordEncoder

KIND = "linear"
NODES = 256  # of the integral for three classes: far beyond what doubles can tell
WordValues = list[tuple[str, float]]


def contributions(path: Path, text: str) -> tuple[float, float, WordValues]:
    """(base, log-odds of pos_prob, what each word of a text adds, in its order); base and words add up to log-odds.

    A term counts at each place where it stands in the text, a pair of words half to either. `base` is the score of a
    text without known words. For two classes log-odds are linear in the features, so that the contributions are simply
    weight times feature; for three they are the Aumann-Shapley values, the integral on the way from no word to all.
    Raises BundleError for a bundle of another kind.
    """
    bundle, encoder, network = _load(path)
    ids = torch.tensor(encoder.encode([text]))  # (1, T)
    found = network.features(ids, torch.tensor([ids.shape[1]]))
    with torch.no_grad():
        outputs = (network.output.weight[:, found.ids].double().T * found.values.unsqueeze(1)).numpy()  # (F, outputs)
        bias = network.output.bias.double().numpy()
    per_class, base = (_logits(values, network.shape.n_classes) for values in (outputs, bias[None]))
    scaled = per_class / bundle.calibration.temperature
    start = base[0] / bundle.calibration.temperature + np.array(bundle.calibration.bias)
    gradient = _mean_gradient(start, scaled.sum(axis=0))
    by_id = dict(zip(found.ids.tolist(), (scaled @ gradient).tolist(), strict=True))
    return _log_odds(start), _log_odds(start + scaled.sum(axis=0)), _by_word(encoder, text, by_id)


def weightiest(path: Path, n_words: int) -> tuple[WordValues, WordValues]:
    """(most positive, most negative) terms with what one adds to the log-odds of pos_prob where it stands alone.

    For three classes: positive less negative. Raises BundleError for a bundle of another kind.
    """
    bundle, encoder, network = _load(path)
    weights = _logits(network.output.weight.detach().double().numpy().T, network.shape.n_classes)  # (V, C)
    sides = (weights[:, -1] - weights[:, 0]) / bundle.calibration.temperature
    if network.shape.idf and not network.shape.unit_length:
        sides = sides * network.idf.double().numpy()
    order = [i for i in np.argsort(-sides, kind="stable").tolist() if i != UNKNOWN_ID]
    name = {i: term for term, i in encoder.tokenizer.get_vocab().items()}
    listed = [(name[i], float(sides[i])) for i in order]
    positive = [(term, value) for term, value in listed if value > 0]
    negative = [(term, value) for term, value in reversed(listed) if value < 0]
    return positive[:n_words], negative[:n_words]


def _load(path: Path) -> tuple[Bundle, WordEncoder, LinearClassifier]:
    manifest = read_manifest(path)
    bundle = Bundle.load(path, "cpu")
    network = load_network(path, manifest)
    if not isinstance(network, LinearClassifier) or not isinstance(bundle.encoder, WordEncoder):
        raise BundleError(f"{manifest.name} is no bundle of the kind {KIND} over words: it has no weight for each word")
    return bundle, bundle.encoder, network


def _logits(outputs: FloatArray, n_classes: int) -> FloatArray:
    """(n, C) of (n, outputs): one output is the log-odds of the second of two classes."""
    if outputs.shape[1] == n_classes:
        return outputs
    return np.concatenate([np.zeros_like(outputs), outputs], axis=1)


def _log_odds(scores: FloatArray) -> float:
    """Of pos_prob, from calibrated scores (C,) whose softmax are the probabilities."""
    if len(scores) == 2:
        return float(scores[1] - scores[0])
    half = scores[1] - np.log(2.0)
    return float(np.logaddexp(scores[2], half) - np.logaddexp(scores[0], half))


def _mean_gradient(start: FloatArray, change: FloatArray) -> FloatArray:
    """(C,) mean gradient of the log-odds in the scores, on the straight way from `start` to `start + change`."""
    if len(start) == 2:
        return np.array([-1.0, 1.0])
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    scores = start + (nodes[:, None] + 1) / 2 * change  # (NODES, 3)
    negative, positive = (_sigmoid(scores[:, side] - scores[:, 1] + np.log(2.0)) for side in (0, 2))
    gradients = np.stack([-negative, negative - positive, positive], axis=1)
    return np.asarray(weights @ gradients / 2, np.float64)


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray((1 + np.tanh(x / 2)) / 2, np.float64)


def _by_word(encoder: WordEncoder, text: str, by_id: dict[int, float]) -> WordValues:
    words, places = encoder.places(text)
    ids = encoder.tokenizer.get_vocab()
    counts = Counter(term for term, _ in places)
    sums = [0.0] * len(words)
    for term, span in places:
        value = by_id.get(ids.get(term, UNKNOWN_ID), 0.0)
        for place in span:
            sums[place] += value / counts[term] / len(span)
    return list(zip(words, sums, strict=True))
