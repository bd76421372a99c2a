"""A bag of words under one layer of weights: what logistic regression and a linear SVM are once they are trained.

B posts, T tokens of the longest post, F features (terms that occur in a post, post by post), V tokens, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.recurrent import logits_of_outputs
from models.shapes import LinearShape

UNKNOWN_ID = 0


class Features(NamedTuple):
    """Terms of posts, each once: `rows` (F,) of the batch, ascending, `ids` (F,), `values` (F,) in float64."""

    rows: Tensor
    ids: Tensor
    values: Tensor


class LinearClassifier(nn.Module):
    """Features of a post times their weights; sums in float64, so that scores do not depend on the order of words.

    Equal to scikit-learn's CountVectorizer or TfidfVectorizer before a linear classifier (held by a test).
    """

    idf: Tensor

    def __init__(self, shape: LinearShape) -> None:
        super().__init__()
        self.shape = shape
        self.output = nn.Linear(shape.n_tokens, shape.n_outputs)
        if shape.idf:
            self.register_buffer("idf", torch.ones(shape.n_tokens))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, C) in float64 of `ids` (B, T) int64, of which the first `lengths` (B,) int64, each >= 1, count."""
        found = self.features(ids, lengths)
        weights = self.output.weight[:, found.ids].double().T  # (F, outputs)
        sums = weights.new_zeros(len(ids), weights.shape[1])
        sums.index_add_(0, found.rows, weights * found.values.unsqueeze(1))
        return logits_of_outputs(sums + self.output.bias.double(), self.shape.n_classes)

    def features(self, ids: Tensor, lengths: Tensor) -> Features:
        """The features of each post of a batch; the unknown token is none."""
        n_tokens = self.shape.n_tokens
        steps = torch.arange(ids.shape[1], device=ids.device)
        is_term = (steps < lengths.to(ids.device).unsqueeze(1)) & (ids != UNKNOWN_ID)  # (B, T)
        places = torch.arange(len(ids), device=ids.device).unsqueeze(1) * n_tokens + ids
        terms, counts = torch.unique(places[is_term], return_counts=True)  # sorted: by row, then by id
        rows, term_ids = terms // n_tokens, terms % n_tokens
        values = self._frequency(counts.double())
        if self.shape.idf:
            values = values * self.idf[term_ids].double()
        if self.shape.unit_length:
            squares = values.new_zeros(len(ids)).index_add_(0, rows, values**2)
            values = values / squares.sqrt()[rows].clamp_min(torch.finfo(values.dtype).tiny)
        return Features(rows, term_ids, values)

    def _frequency(self, counts: Tensor) -> Tensor:
        if self.shape.frequency == "binary":
            return torch.ones_like(counts)
        return 1.0 + counts.log() if self.shape.frequency == "log" else counts
