"""What each word of a text adds to its score, by integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from models import linear_words
from models.bundle import Bundle
from models.calibration import Calibration
from models.kinds import load_network, refuse_other_kinds
from models.manifest import read_manifest
from models.path_integral import integrate

if TYPE_CHECKING:
    from models.networks import GruClassifier


@dataclass(frozen=True)
class Explanation:
    """`base` and the `words`' contributions add up to `log_odds` of `pos_prob`, within 0.01.

    `base` is the log-odds of as many tokens whose embedding is zero, of a linear bundle that of a text without known
    words. `steps` and `jumps` as of `path_integral.Integral`; none for a linear bundle, whose contributions are exact.
    `attention`: of a bundle that pools by attention, the weight of each word's states; it says where the network looks,
    not which way a word pushes.
    """

    pos_prob: float
    log_odds: float
    base: float
    words: tuple[tuple[str, float], ...]
    steps: int
    jumps: float = 0.0
    attention: tuple[tuple[str, float], ...] = ()


def explain(path: Path, text: str) -> Explanation:
    """Contributions of each word of a text as the bundle reads it, in its order, calibration included.

    Computed in fp64 from the network itself. Raises BundleError for an unusable bundle.
    """
    manifest = read_manifest(path)
    if manifest.network.get("kind") == linear_words.KIND:
        base, log_odds, added = linear_words.contributions(path, text)
        return Explanation(_pos_prob(log_odds), log_odds, base, tuple(added), 0)
    refuse_other_kinds(manifest, "explained", ("gru", "recurrent", "cnn", linear_words.KIND))
    bundle = Bundle.load(path, "cpu")
    network = load_network(path, manifest).double().eval().requires_grad_(requires_grad=False)
    words = bundle.encoder.token_words(text)
    ids = torch.tensor(bundle.encoder.encode([text]))  # (1, T)
    score = LogOdds(network, bundle.calibration)
    with torch.no_grad():
        embedded = network.embedding(ids)  # (1, T, E)
        ends = score(ids, torch.cat([torch.zeros_like(embedded), embedded])).tolist()
        attention = _attention(network, ids)
    found = integrate(lambda points: score(ids, points), embedded[0])
    contributions, weights = (tuple(_by_word(words, values)) for values in (found.added, attention))
    return Explanation(_pos_prob(ends[1]), ends[1], ends[0], contributions, found.steps, found.jumps, weights)


def _attention(network: Any, ids: Tensor) -> list[float]:
    """The weight of each token of one post (1, T); none for a network that does not pool by attention."""
    if getattr(network.shape, "pooling", "") != "attention":
        return []
    weights: list[float] = network.attention_weights(ids, torch.tensor([ids.shape[1]]))[0].tolist()
    return weights


def _pos_prob(log_odds: float) -> float:
    return 0.5 + 0.5 * float(np.tanh(log_odds / 2))


class LogOdds:
    """Log-odds of the calibrated pos_prob as a function of embeddings."""

    def __init__(self, network: "GruClassifier", calibration: Calibration) -> None:
        self._network = network
        self._temperature = calibration.temperature
        self._bias = torch.tensor(calibration.bias, dtype=torch.float64)

    def __call__(self, ids: Tensor, embedded: Tensor) -> Tensor:
        """(N,) of `embedded` (N, T, E), which stand in for the embeddings of `ids` (1, T)."""
        n, length = embedded.shape[:2]
        with replaced(self._network.embedding, embedded):
            logits = self._network(ids.expand(n, -1), torch.full((n,), length))  # (N, C)
        scores = torch.log_softmax(logits / self._temperature + self._bias, dim=1)
        if scores.shape[1] == 2:
            return scores[:, 1] - scores[:, 0]
        half = scores[:, 1] - np.log(2.0)
        return torch.logaddexp(scores[:, 2], half) - torch.logaddexp(scores[:, 0], half)


@contextmanager
def replaced(embedding: nn.Module, embedded: Tensor) -> Iterator[None]:
    """Let a network read `embedded` in place of what its embedding looks up."""
    hook = embedding.register_forward_hook(lambda *_: embedded)
    try:
        yield
    finally:
        hook.remove()


def _by_word(words: list[tuple[int, str]], per_token: list[float]) -> list[tuple[str, float]]:
    sums: dict[tuple[int, str], float] = {}
    for word, value in zip(words if per_token else [], per_token, strict=True):
        sums[word] = sums.get(word, 0.0) + value
    return [(word, value) for (_, word), value in sums.items()]
