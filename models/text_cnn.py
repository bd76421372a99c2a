"""The convolutional network for sentences (Kim 2014, arXiv:1408.5882) in plain PyTorch.

B posts, T tokens of the longest post, E embedding width, F filters of each width, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from models.networks import drop_tokens
from models.recurrent import logits_of_outputs
from models.shapes import CnnShape


class TextCnn(nn.Module):
    """Embedding, filters over 3, 4 and 5 words, maximum over time, output. Dropouts act in training only.

    A filter begins at every word of a post and reads zero vectors behind the last, so that the shortest post has an
    answer and none depends on the posts beside it.
    """

    def __init__(self, shape: CnnShape, *, dropout: float = 0.0, token_dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.token_dropout = token_dropout
        self.embedding = nn.Embedding(shape.n_tokens, shape.embedding)
        self.filters = nn.ModuleList(nn.Conv1d(shape.embedding, shape.filters, width) for width in shape.widths)
        self.output = nn.Linear(shape.filters * len(shape.widths), shape.n_outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, C) of `ids` (B, T) int64, of which the first `lengths` (B,) int64, each >= 1, count."""
        steps = torch.arange(ids.shape[1], device=ids.device)
        is_word = (steps < lengths.to(ids.device).unsqueeze(1)).unsqueeze(1)  # (B, 1, T)
        embedded = self.embedding(ids)  # (B, T, E)
        if self.training:
            embedded = self.dropout(drop_tokens(embedded, self.token_dropout))
        embedded = embedded.transpose(1, 2) * is_word  # (B, E, T)
        answers = [
            relu(layer(pad(embedded, (0, width - 1)))).masked_fill(~is_word, 0.0).amax(dim=2)  # (B, F)
            for layer, width in zip(self.filters, self.shape.widths, strict=True)
        ]
        return logits_of_outputs(self.output(self.dropout(torch.cat(answers, dim=1))), self.shape.n_classes)
