"""The recurrent networks of the seed systems in plain PyTorch: GRU or LSTM layers, pooling, perhaps a hidden layer.

B posts, T tokens of the longest post, L tokens of the fixed length where padding is read, E embedding width, H hidden
units per direction, D = H or 2H, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.networks import drop_tokens, pool
from models.shapes import RecurrentShape

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentClassifier(nn.Module):
    """Embedding, recurrent layers, pooling over time, output. Dropouts act in training only.

    `dropout` acts on embeddings, between layers and on the pooled vector; `token_dropout` zeroes whole tokens.
    """

    def __init__(self, shape: RecurrentShape, *, dropout: float = 0.0, token_dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.token_dropout = token_dropout
        self.embedding = nn.Embedding(shape.n_tokens, shape.embedding)
        self.rnn = CELLS[shape.cell](
            shape.embedding,
            shape.hidden,
            num_layers=shape.layers,
            bidirectional=shape.bidirectional,
            batch_first=True,
            dropout=dropout if shape.layers > 1 else 0.0,
        )
        pooled = shape.width * (1 + (shape.pooling == "mean_max"))
        if shape.pooling == "attention":  # one hop of structured self-attention (arXiv:1703.03130, equation 5)
            self.attention = nn.Sequential(
                nn.Linear(shape.width, shape.hidden), nn.Tanh(), nn.Linear(shape.hidden, 1, bias=False)
            )
        if shape.head:
            self.head = nn.Sequential(nn.Linear(pooled, shape.head), nn.ReLU(), nn.Dropout(dropout))
        self.output = nn.Linear(shape.head or pooled, shape.n_outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, C) of `ids` (B, T) int64, of which the first `lengths` (B,) int64 on the CPU, each >= 1, count."""
        states, last, lengths = self._run(ids, lengths)
        pooled = self.dropout(self._pool(states, last, lengths))
        hidden = self.head(pooled) if self.shape.head else pooled
        return logits_of_outputs(self.output(hidden), self.shape.n_classes)  # (B, C)

    def attention_weights(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) of each post's tokens, which sum to 1 with the padding that is read; for `attention` pooling only."""
        states, _, read = self._run(ids, lengths)
        weights = self._attend(states, read)  # (B, T or L)
        if self.shape.padding != "left":
            return weights[:, : ids.shape[1]]
        starts = (self.shape.length - lengths.clamp(max=self.shape.length)).to(weights.device).unsqueeze(1)
        steps = torch.arange(ids.shape[1], device=weights.device) + starts
        return weights.gather(1, steps.clamp(max=weights.shape[1] - 1))

    def _run(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(states (B, T or L, D) of the last layer, its final states (B, D), steps of each post that count (B,))."""
        embedded = self.embedding(ids)  # (B, T, E)
        if self.training:
            embedded = self.dropout(drop_tokens(embedded, self.token_dropout))
        if self.shape.padding != "none":
            embedded, lengths = self._fill_up(embedded, lengths)
        if bool((lengths == embedded.shape[1]).all()):
            states, final = self.rnn(embedded)
        else:
            packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            packed_states, final = self.rnn(packed)
            states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=embedded.shape[1])
        hidden = final[0] if self.shape.cell == "lstm" else final  # (layers x directions, B, H)
        directions = 1 + self.shape.bidirectional
        return states, torch.cat(list(hidden[-directions:]), dim=1), lengths

    def _fill_up(self, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Every post as `length` steps that all count: words and zero vectors, which are what a padding index has."""
        length, n_steps = self.shape.length, embedded.shape[1]
        lengths = lengths.clamp(max=length)
        steps = torch.arange(n_steps, device=embedded.device)
        is_word = (steps < lengths.to(embedded.device).unsqueeze(1)).unsqueeze(-1)  # (B, T, 1)
        filled = pad(embedded * is_word, (0, 0, 0, max(0, length - n_steps)))[:, :length]  # (B, L, E)
        if self.shape.padding == "left":
            shift = (length - lengths).to(embedded.device).unsqueeze(1)
            places = (torch.arange(length, device=embedded.device) - shift) % length  # (B, L)
            filled = filled.gather(1, places.unsqueeze(-1).expand_as(filled))
        return filled, torch.full_like(lengths, length)

    def _pool(self, states: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
        pooling = self.shape.pooling
        if pooling == "last":
            return last
        if pooling == "attention":
            return (self._attend(states, lengths).unsqueeze(-1) * states).sum(dim=1)  # (B, D)
        both = pool(states, lengths)  # (B, 2D)
        return both if pooling == "mean_max" else both[:, : self.shape.width]

    def _attend(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Attention weights (B, T) over the steps that count."""
        scores: Tensor = self.attention(states).squeeze(-1)
        steps = torch.arange(states.shape[1], device=states.device)
        beyond = steps >= lengths.to(states.device).unsqueeze(1)
        return scores.masked_fill(beyond, float("-inf")).softmax(dim=1)


def logits_of_outputs(outputs: Tensor, n_classes: int) -> Tensor:
    """(B, C): one output for two classes is the log-odds of the second, so that its cross-entropy is the binary one."""
    if outputs.shape[1] == n_classes:
        return outputs
    return torch.cat([torch.zeros_like(outputs), outputs], dim=1)
