"""The sentence encoder all-MiniLM-L6-v2 with an output for classes: a teacher of networks, never served.

Training only; its weights (Apache-2.0) come with the extra `vectors`. B posts, T tokens, D width, C classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.preparation import PLACEHOLDERS
from models.recipe import SENTENCE_ENCODER
from models.tokenizer import UNKNOWN
from models.vocabulary import meaning_of, read_vocabulary


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of a BERT encoder (Devlin et al. 2019, arXiv:1810.04805); `first` and `last` are the ids around a text."""

    n_tokens: int
    first: int
    last: int
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    n_classes: int

    def numbers(self) -> dict[str, Any]:
        """What a manifest says of the network."""
        return {"kind": SENTENCE_ENCODER, **asdict(self)}


class SentenceClassifier(nn.Module):
    """Transformer layers over subwords, the mean of their states, and a linear output.

    Mean pooling as all-MiniLM-L6-v2 was trained with (Reimers and Gurevych 2019, arXiv:1908.10084). Dropouts act in
    training only.
    """

    def __init__(self, shape: EncoderShape, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.n_tokens, shape.width)
        self.position = nn.Embedding(shape.positions, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.layers = nn.ModuleList(_layer(shape, dropout) for _ in range(shape.layers))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(shape.width, shape.n_classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, C) of `ids` (B, T) int64, of which the first `lengths` (B,) int64, each >= 1, count."""
        logits: Tensor = self.output(self.states(ids, lengths))
        return logits

    def states(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, D): what the output makes the logits of; arguments as in `forward`. Dropouts act in training only."""
        marked, padded = self._marked(ids, lengths.to(ids.device))  # (B, T + 2)
        places = torch.arange(marked.shape[1], device=ids.device)
        states = self.dropout(self.norm(self.embedding(marked) + self.position(places)))  # (B, T + 2, D)
        mask = padded if bool(padded.any()) else None
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=mask)
        kept = (~padded).unsqueeze(-1).to(states.dtype)
        mean: Tensor = self.dropout((states * kept).sum(dim=1) / kept.sum(dim=1))
        return mean

    def _marked(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The ids between the marks of a text's beginning and end, and which places are padding."""
        n_posts, n_tokens = ids.shape
        marked = ids.new_zeros(n_posts, n_tokens + 2)
        marked[:, 0] = self.shape.first
        marked[:, 1:-1] = ids
        marked[torch.arange(n_posts, device=ids.device), lengths + 1] = self.shape.last
        return marked, torch.arange(n_tokens + 2, device=ids.device) >= (lengths + 2).unsqueeze(1)


def _layer(shape: EncoderShape, dropout: float) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        shape.width, shape.heads, shape.inner, dropout, "gelu", layer_norm_eps=1e-12, batch_first=True
    )


def teacher_vocabulary(folder: Path) -> list[str]:
    """The encoder's own tokens, then the placeholders of prepared posts."""
    return [*read_vocabulary(folder), *PLACEHOLDERS]


def pretrained(folder: Path, vocabulary: Sequence[str], n_classes: int, dropout: float) -> SentenceClassifier:
    """The encoder with its pretrained weights; a placeholder begins as the mean of the words that say what it is."""
    from safetensors.torch import load_file

    stored = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items() if tensor.dim()}
    row_of = {token: row for row, token in enumerate(vocabulary)}
    words = stored["embeddings.word_embeddings.weight"]  # (30522, D)
    sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = EncoderShape(
        n_tokens=len(vocabulary),
        first=row_of["[CLS]"],
        last=row_of["[SEP]"],
        width=words.shape[1],
        layers=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        inner=sizes["intermediate_size"],
        positions=sizes["max_position_embeddings"],
        n_classes=n_classes,
    )
    network = SentenceClassifier(shape, dropout=dropout)
    unknown = row_of[UNKNOWN]
    added = [words[[row_of.get(word, unknown) for word in meaning_of(token)]].mean(dim=0) for token in PLACEHOLDERS]
    own = {
        "embedding.weight": torch.cat([words, torch.stack(added)]),
        "position.weight": stored["embeddings.position_embeddings.weight"]
        + stored["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": stored["embeddings.LayerNorm.weight"],
        "norm.bias": stored["embeddings.LayerNorm.bias"],
    }
    for number in range(shape.layers):
        own |= _layer_weights(stored, number)
    new = {f"output.{name}": weight for name, weight in network.output.state_dict().items()}
    network.load_state_dict(own | new)
    return network


def _layer_weights(stored: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """One layer's weights by the names of PyTorch's own transformer layer."""
    old, new = f"encoder.layer.{number}.", f"layers.{number}."
    parts = {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    found = {
        f"{new}{name}.{end}": stored[f"{old}{part}.{end}"] for name, part in parts.items() for end in ("weight", "bias")
    }
    for end in ("weight", "bias"):
        queries = [stored[f"{old}attention.self.{part}.{end}"] for part in ("query", "key", "value")]
        found[f"{new}self_attn.in_proj_{end}"] = torch.cat(queries)
    return found
