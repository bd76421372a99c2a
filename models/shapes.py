"""What fixes the tensors of each kind of network: the numbers of a bundle's manifest. No torch here.

A shape names every tensor with its size, so that a file of weights is held against it before any network is made: a
manifest alone could ask for any amount of memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import ClassVar, Protocol

Sizes = dict[str, tuple[int, ...]]

CELLS: Mapping[str, int] = {"gru": 3, "lstm": 4}  #: gates of a cell
POOLINGS = ("last", "mean", "attention", "mean_max")
PADDINGS = ("none", "left", "right")
FREQUENCIES = ("count", "binary", "log")
MAX_LAYERS = 8
MAX_NUMBER = 2**31 - 1


class Shape(Protocol):
    """The numbers of one kind of network."""

    @property
    def n_tokens(self) -> int:
        """Tokens that it has weights for."""

    @property
    def n_classes(self) -> int:
        """Columns of its logits."""

    def sizes(self) -> Sizes:
        """The size of each of its tensors by name, as the module's `state_dict` has them."""


def check_numbers(shape: object, or_zero: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless every whole number of a dataclass is one: from 1, or from 0 where its default is 0."""
    for number in fields(shape):  # type: ignore[arg-type]  # every shape is a dataclass
        value = getattr(shape, number.name)
        lowest = 1 if (number.default is MISSING or number.default) and number.name not in or_zero else 0
        if number.type is int and not (type(value) is int and lowest <= value <= MAX_NUMBER):
            raise ValueError(f"{number.name} {value!r} is no whole number from {lowest}")
        if number.type is bool and type(value) is not bool:
            raise ValueError(f"{number.name} {value!r} is neither true nor false")


def check_name(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the allowed names."""
    if value not in allowed:
        raise ValueError(f"{name} {value!r} is none of {', '.join(allowed)}")


def check_share(name: str, value: object, *, or_all: bool = False) -> None:
    """Raise ValueError unless it is a number from 0, and below 1 or, with `or_all`, not above it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (0 <= value < 1 or (or_all and value == 1)):  # type: ignore[operator]  # it is a number
        raise ValueError(f"{name} {value!r} is no share " + ("from 0 to 1" if or_all else "below 1"))


def check_positive(name: str, value: object, *, or_zero: bool = False) -> None:
    """Raise ValueError unless it is a finite number above 0 or, with `or_zero`, 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (0 < value < float("inf") or (or_zero and value == 0)):  # type: ignore[operator]
        raise ValueError(f"{name} {value!r} is no number " + ("from 0" if or_zero else "above 0"))


@dataclass(frozen=True)
class GruShape:
    """One bidirectional GRU layer, mean and max pooling: `networks.GruClassifier`, the shipped bundle's."""

    n_tokens: int
    embedding: int
    hidden: int
    n_classes: int

    def __post_init__(self) -> None:
        check_numbers(self)

    def numbers(self) -> dict[str, int]:
        """What a manifest says of the network."""
        return asdict(self)

    def sizes(self) -> Sizes:
        return {
            "embedding.weight": (self.n_tokens, self.embedding),
            **dict(_recurrent_sizes("gru", CELLS["gru"], self.embedding, self.hidden, 1, 2)),
            **_linear_sizes("output", 4 * self.hidden, self.n_classes),
        }


@dataclass(frozen=True)
class RecurrentShape:
    """GRU or LSTM layers, their states pooled, perhaps a hidden layer: `recurrent.RecurrentClassifier`.

    `head` is the width of that layer, 0 for none. With `padding` left or right every post is filled up to `length`
    with zero vectors that the network reads like words, as the seed systems do; with `none` it reads words alone.
    `outputs` 1 is the one logit of a two-class network that was trained with binary cross-entropy.
    """

    n_tokens: int
    embedding: int
    hidden: int
    n_classes: int
    cell: str = "gru"
    layers: int = 1
    bidirectional: bool = True
    pooling: str = "last"
    head: int = 0
    padding: str = "none"
    length: int = 0
    outputs: int = 0  # 0: one for each class

    def __post_init__(self) -> None:
        check_numbers(self)
        check_name("cell", self.cell, tuple(CELLS))
        check_name("pooling", self.pooling, POOLINGS)
        check_name("padding", self.padding, PADDINGS)
        if self.layers > MAX_LAYERS:
            raise ValueError(f"layers {self.layers} are more than {MAX_LAYERS}")
        if self.padding != "none" and not self.length:
            raise ValueError(f"padding {self.padding} needs a length")
        check_outputs(self.outputs, self.n_classes)

    @property
    def width(self) -> int:
        """Of the states of all directions."""
        return self.hidden * (1 + self.bidirectional)

    @property
    def n_outputs(self) -> int:
        """Of the last layer."""
        return self.outputs or self.n_classes

    def sizes(self) -> Sizes:
        gates, directions = CELLS[self.cell], 1 + self.bidirectional
        pooled = self.width * (1 + (self.pooling == "mean_max"))
        sizes: Sizes = {"embedding.weight": (self.n_tokens, self.embedding)}
        sizes |= dict(_recurrent_sizes("rnn", gates, self.embedding, self.hidden, self.layers, directions))
        if self.pooling == "attention":
            sizes |= _linear_sizes("attention.0", self.width, self.hidden) | {"attention.2.weight": (1, self.hidden)}
        if self.head:
            sizes |= _linear_sizes("head.0", pooled, self.head)
        return sizes | _linear_sizes("output", self.head or pooled, self.n_outputs)


@dataclass(frozen=True)
class CnnShape:
    """Filters over 3, 4 and 5 words, the highest answer of each: `text_cnn.TextCnn`."""

    n_tokens: int
    embedding: int
    filters: int
    n_classes: int
    outputs: int = 0  # as in `RecurrentShape`
    widths: ClassVar[tuple[int, ...]] = (3, 4, 5)

    def __post_init__(self) -> None:
        check_numbers(self)
        check_outputs(self.outputs, self.n_classes)

    @property
    def n_outputs(self) -> int:
        """Of the last layer."""
        return self.outputs or self.n_classes

    def sizes(self) -> Sizes:
        sizes: Sizes = {"embedding.weight": (self.n_tokens, self.embedding)}
        for i, width in enumerate(self.widths):
            sizes |= {f"filters.{i}.weight": (self.filters, self.embedding, width)}
            sizes |= {f"filters.{i}.bias": (self.filters,)}
        return sizes | _linear_sizes("output", self.filters * len(self.widths), self.n_outputs)


@dataclass(frozen=True)
class LinearShape:
    """Weights of words and their neighbours: `linear.LinearClassifier`. Token 0 is the unknown one, and no feature.

    How often a term occurs in a post counts as it is (`count`), as 1 (`binary`), or as 1 + its logarithm (`log`). With
    `idf` each term has a weight for its rarity; with `unit_length` the features of a post have the length 1.
    """

    n_tokens: int
    n_classes: int
    frequency: str = "count"
    idf: bool = False
    unit_length: bool = False
    outputs: int = 0  # as in `RecurrentShape`

    def __post_init__(self) -> None:
        check_numbers(self)
        check_name("frequency", self.frequency, FREQUENCIES)
        check_outputs(self.outputs, self.n_classes)

    @property
    def n_outputs(self) -> int:
        """Of the last layer."""
        return self.outputs or self.n_classes

    def sizes(self) -> Sizes:
        sizes = _linear_sizes("output", self.n_tokens, self.n_outputs)
        return sizes | ({"idf": (self.n_tokens,)} if self.idf else {})


def check_outputs(outputs: int, n_classes: int) -> None:
    """Raise ValueError for another number of outputs than one for each class, or one for two classes."""
    if outputs not in {0, n_classes} and (outputs, n_classes) != (1, 2):
        raise ValueError(f"outputs {outputs} do not tell {n_classes} classes")


def _linear_sizes(name: str, inputs: int, outputs: int) -> Sizes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _recurrent_sizes(
    name: str, gates: int, inputs: int, hidden: int, layers: int, directions: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """As torch's GRU and LSTM name their tensors."""
    for layer in range(layers):
        for side in ("", "_reverse")[:directions]:
            yield f"{name}.weight_ih_l{layer}{side}", (gates * hidden, inputs)
            yield f"{name}.weight_hh_l{layer}{side}", (gates * hidden, hidden)
            yield f"{name}.bias_ih_l{layer}{side}", (gates * hidden,)
            yield f"{name}.bias_hh_l{layer}{side}", (gates * hidden,)
        inputs = directions * hidden
