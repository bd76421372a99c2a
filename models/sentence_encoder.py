"""A pretrained sentence encoder with an output for classes: a teacher of networks, never served.

Training only; for the weights see `encoder_files`. B posts, T tokens, D width, C classes, H heads.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.encoder_files import CONFIG, WEIGHTS
from models.preparation import PLACEHOLDERS
from models.recipe import SENTENCE_ENCODER
from models.tokenizer import UNKNOWN
from models.vocabulary import meaning_of, read_vocabulary

_DISTANCES = "encoder.relative_attention_bias.weight"  # MPNet alone has it
_BERT = {part: f"attention.self.{part}" for part in ("query", "key", "value")}
_BERT |= {"out": "attention.output.dense", "norm": "attention.output.LayerNorm"}
_MPNET = {part: f"attention.attn.{part[0]}" for part in ("query", "key", "value")}
_MPNET |= {"out": "attention.attn.o", "norm": "attention.LayerNorm"}


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of a BERT encoder (Devlin et al. 2019, arXiv:1810.04805); `first` and `last` are the ids around a text.

    MPNet (Song et al. 2020, arXiv:2004.09297) has `distances` besides: kinds of distance between two tokens, each with
    a bias of its own in every head. Its first token stands at place `first_place`.
    """

    n_tokens: int
    first: int
    last: int
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    n_classes: int
    distances: int = 0
    first_place: int = 0
    epsilon: float = 1e-12  # of the layer norms

    def numbers(self) -> dict[str, Any]:
        """What a manifest says of the network."""
        return {"kind": SENTENCE_ENCODER, **asdict(self)}


class SentenceClassifier(nn.Module):
    """Transformer layers over subwords, the mean of their states, and a linear output.

    Mean pooling as both encoders were trained with (Reimers and Gurevych 2019, arXiv:1908.10084). Dropouts act in
    training only.
    """

    def __init__(self, shape: EncoderShape, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.n_tokens, shape.width)
        self.position = nn.Embedding(shape.positions, shape.width)
        self.distance = nn.Embedding(shape.distances, shape.heads) if shape.distances else None
        self.norm = nn.LayerNorm(shape.width, eps=shape.epsilon)
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
        places = torch.arange(marked.shape[1], device=ids.device) + self.shape.first_place
        states = self.dropout(self.norm(self.embedding(marked) + self.position(places)))  # (B, T + 2, D)
        masks = self._masks(padded)
        with _plain_layers(wanted="src_mask" in masks):
            for layer in self.layers:
                states = layer(states, **masks)
        kept = (~padded).unsqueeze(-1).to(states.dtype)
        mean: Tensor = self.dropout((states * kept).sum(dim=1) / kept.sum(dim=1))
        return mean

    def _masks(self, padded: Tensor) -> dict[str, Tensor]:
        """What a layer is to heed besides the states: padding (B, T), and the biases of distances."""
        if self.distance is None:
            return {"src_key_padding_mask": padded} if bool(padded.any()) else {}
        n_posts, n_tokens = padded.shape
        kinds = kinds_of_distance(n_tokens, self.shape.distances).to(padded.device)
        bias = self.distance(kinds).permute(2, 0, 1).expand(n_posts, -1, -1, -1)  # (B, H, T, T)
        bias = bias.masked_fill(padded[:, None, None, :], float("-inf"))
        return {"src_mask": bias.reshape(-1, n_tokens, n_tokens)}

    def _marked(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The ids between the marks of a text's beginning and end, and which places are padding."""
        n_posts, n_tokens = ids.shape
        marked = ids.new_zeros(n_posts, n_tokens + 2)
        marked[:, 0] = self.shape.first
        marked[:, 1:-1] = ids
        marked[torch.arange(n_posts, device=ids.device), lengths + 1] = self.shape.last
        return marked, torch.arange(n_tokens + 2, device=ids.device) >= (lengths + 2).unsqueeze(1)


@contextmanager
def _plain_layers(*, wanted: bool) -> Iterator[None]:
    """Not PyTorch's faster way through a layer, which gives NaN with biases and padding, while that is `wanted`.

    It is a switch of the whole process: one thread alone may train or ask.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(before and not wanted)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def kinds_of_distance(n_tokens: int, n_kinds: int, furthest: int = 128) -> Tensor:
    """(T, T) int64: which kind the distance from each token (row) to each other is.

    Half of the kinds are for tokens before it and half for those behind; near ones have one each, further ones share
    theirs, the more the further, on a logarithmic scale up to `furthest` (Raffel et al. 2020, arXiv:1910.10683, T5).
    """
    places = torch.arange(n_tokens)
    ahead = places[None, :] - places[:, None]
    half = n_kinds // 2
    single = half // 2
    scale = torch.log(ahead.abs().clamp(min=1) / single) / math.log(furthest / single)
    shared = (single + (scale * (half - single)).long()).clamp(max=half - 1)
    return torch.where(ahead.abs() < single, ahead.abs(), shared) + half * (ahead > 0)


def _layer(shape: EncoderShape, dropout: float) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        shape.width, shape.heads, shape.inner, dropout, "gelu", layer_norm_eps=shape.epsilon, batch_first=True
    )


def teacher_vocabulary(folder: Path) -> list[str]:
    """The encoder's own tokens, then the placeholders of prepared posts."""
    return [*read_vocabulary(folder), *PLACEHOLDERS]


def pretrained(folder: Path, vocabulary: Sequence[str], n_classes: int, dropout: float) -> SentenceClassifier:
    """The encoder with its pretrained weights; a placeholder begins as the mean of the words that say what it is."""
    from safetensors.torch import load_file

    stored = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items() if tensor.dim()}
    row_of = {token: row for row, token in enumerate(vocabulary)}
    words = stored["embeddings.word_embeddings.weight"]  # (30522, D)
    sizes = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    first, last = ("<s>", "</s>") if _DISTANCES in stored else ("[CLS]", "[SEP]")
    shape = EncoderShape(
        n_tokens=len(vocabulary),
        first=row_of[first],
        last=row_of[last],
        width=words.shape[1],
        layers=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        inner=sizes["intermediate_size"],
        positions=sizes["max_position_embeddings"],
        n_classes=n_classes,
        distances=len(stored.get(_DISTANCES, ())),
        first_place=sizes["pad_token_id"] + 1 if _DISTANCES in stored else 0,
        epsilon=sizes["layer_norm_eps"],
    )
    network = SentenceClassifier(shape, dropout=dropout)
    unknown = row_of[UNKNOWN]
    added = [words[[row_of.get(word, unknown) for word in meaning_of(token)]].mean(dim=0) for token in PLACEHOLDERS]
    own = {
        "embedding.weight": torch.cat([words, torch.stack(added)]),
        "position.weight": stored["embeddings.position_embeddings.weight"],
        "norm.weight": stored["embeddings.LayerNorm.weight"],
        "norm.bias": stored["embeddings.LayerNorm.bias"],
    }
    if shape.distances:
        own["distance.weight"] = stored[_DISTANCES]
    else:
        own["position.weight"] = own["position.weight"] + stored["embeddings.token_type_embeddings.weight"][0]
    names = _MPNET if shape.distances else _BERT
    for number in range(shape.layers):
        own |= _layer_weights(stored, number, names)
    new = {f"output.{name}": weight for name, weight in network.output.state_dict().items()}
    network.load_state_dict(own | new)
    return network


def _layer_weights(stored: Mapping[str, Tensor], number: int, names: Mapping[str, str]) -> dict[str, Tensor]:
    """One layer's weights by the names of PyTorch's own transformer layer; `names` are those of the stored ones."""
    old, new = f"encoder.layer.{number}.", f"layers.{number}."
    parts = {
        "self_attn.out_proj": names["out"],
        "norm1": names["norm"],
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    found = {
        f"{new}{name}.{end}": stored[f"{old}{part}.{end}"] for name, part in parts.items() for end in ("weight", "bias")
    }
    for end in ("weight", "bias"):
        queries = [stored[f"{old}{names[part]}.{end}"] for part in ("query", "key", "value")]
        found[f"{new}self_attn.in_proj_{end}"] = torch.cat(queries)
    return found
