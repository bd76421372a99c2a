"""The parts of a task recipe: vocabulary, network, optimizer, repeats. Each checks its own values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.linear_plan import LinearPlan
from models.shapes import CELLS, PADDINGS, POOLINGS, check_name, check_numbers, check_share

REPEATS = ("splits", "seeds")


@dataclass(frozen=True)
class WordsPlan:
    """The vocabulary: so many words at most, special tokens included, that occur `min_count` times in training posts.

    `marks`: every text begins with `[SOS]` and ends with `[EOS]`.
    """

    max_size: int = 30_000
    min_count: int = 1
    marks: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class RecurrentPlan:
    """A `recurrent.RecurrentClassifier`, and what acts on it in training only.

    `embedding_std`: of the first embeddings, where no vectors are given. `frozen`: embeddings stay as they began.
    """

    embedding: int
    hidden: int
    cell: str = "gru"
    layers: int = 1
    bidirectional: bool = True
    pooling: str = "last"
    head: int = 0
    padding: str = "none"
    dropout: float = 0.0
    token_dropout: float = 0.0
    embedding_std: float = 1.0
    frozen: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)
        check_name("network.cell", self.cell, tuple(CELLS))
        check_name("network.pooling", self.pooling, POOLINGS)
        check_name("network.padding", self.padding, PADDINGS)
        check_share("network.dropout", self.dropout)
        check_share("network.token_dropout", self.token_dropout)


@dataclass(frozen=True)
class CnnPlan:
    """A `text_cnn.TextCnn`; the other settings as in `RecurrentPlan`."""

    embedding: int
    filters: int
    dropout: float = 0.0
    token_dropout: float = 0.0
    embedding_std: float = 1.0
    frozen: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)
        check_share("network.dropout", self.dropout)
        check_share("network.token_dropout", self.token_dropout)


#: what `network` may hold, by its `kind`
NETWORKS: Mapping[str, type[Any]] = {"recurrent": RecurrentPlan, "cnn": CnnPlan, "linear": LinearPlan}


@dataclass(frozen=True)
class OptimizerPlan:
    """Adam. `clip` is the largest norm of the gradients, 0 for none.

    `patience` epochs without a better development figure end the training, and the best epoch's weights are kept; with
    0 every epoch is run and the last one's are, as most seeds do. After `plateau` epochs without a lower development
    loss the learning rate is halved; 0: never. With `average_decay` above 0 it is the exponential average of the
    weights over the steps that is measured and kept.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 0.0
    batch_posts: int = 128
    epochs: int = 5
    patience: int = 2
    plateau: int = 0
    average_decay: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self, ("patience",))
        check_share("optimizer.average_decay", self.average_decay)
        if not self.learning_rate > 0 or self.weight_decay < 0 or self.clip < 0:
            raise ValueError("optimizer.learning_rate must be above 0, weight_decay and clip not below it")


@dataclass(frozen=True)
class Repeats:
    """Runs whose figures are averaged: over the task's `splits` (folds), or over `seeds` on the first split."""

    over: str = "seeds"
    times: int = 1

    def __post_init__(self) -> None:
        check_numbers(self)
        check_name("repeats.over", self.over, REPEATS)
