"""The shipped network in plain PyTorch, to read and to train; `engine.py` computes the same faster (held by a test).

B posts, T tokens of the longest post, V tokens in the vocabulary, E embedding width, H hidden units per direction, C
classes.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.shapes import GruShape


class GruClassifier(nn.Module):
    """One bidirectional GRU layer (arXiv:1406.1078, in cuDNN's variant) with mean and max pooling over time.

    Padding is never read: posts are packed, and pooling leaves padded steps out. Dropouts act in training only;
    `token_dropout` is the share of tokens whose embedding is zeroed, `dropout` acts on embeddings and on the pooled
    vector.
    """

    def __init__(self, shape: GruShape, *, dropout: float = 0.0, token_dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.token_dropout = token_dropout
        self.embedding = nn.Embedding(shape.n_tokens, shape.embedding)
        self.gru = nn.GRU(shape.embedding, shape.hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(4 * shape.hidden, shape.n_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, C) of `ids` (B, T) int64, of which the first `lengths` (B,) int64 on the CPU, each >= 1, count."""
        logits: Tensor = self.output(self.states(ids, lengths))  # (B, C)
        return logits

    def states(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, 4H): what the output makes the logits of; arguments as in `forward`. Dropouts act in training only."""
        embedded = self.embedding(ids)  # (B, T, E)
        if self.training:
            embedded = self.dropout(drop_tokens(embedded, self.token_dropout))
        pooled: Tensor = self.dropout(pool(self._run(embedded, lengths), lengths))
        return pooled

    def _run(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """States (B, T, 2H) of both directions; packing is left out where there is no padding."""
        if bool((lengths == embedded.shape[1]).all()):
            states: Tensor = self.gru(embedded)[0]
            return states
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=embedded.shape[1])[0]


def drop_tokens(embedded: Tensor, share: float) -> Tensor:
    """Embeddings (B, T, E) with those of about a `share` of the tokens zeroed."""
    if share == 0.0:
        return embedded
    kept = torch.rand(embedded.shape[:2], device=embedded.device) >= share  # (B, T)
    return embedded * kept.unsqueeze(-1)


def pool(states: Tensor, lengths: Tensor) -> Tensor:
    """Mean and maximum over each post's own steps: (B, T, 2H) and (B,) to (B, 4H)."""
    lengths = lengths.to(states.device)
    steps = torch.arange(states.shape[1], device=states.device)
    padded = (steps >= lengths.unsqueeze(1)).unsqueeze(-1)  # (B, T, 1)
    mean = states.masked_fill(padded, 0.0).sum(dim=1) / lengths.unsqueeze(1)  # (B, 2H)
    highest = states.masked_fill(padded, float("-inf")).amax(dim=1)  # (B, 2H)
    return torch.cat([mean, highest], dim=1)
