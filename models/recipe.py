"""A recipe: the YAML file that says how a bundle is trained. Checked as a whole before any time is spent."""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from models.preparation import PREPARATIONS_BY_WORD
from models.shapes import check_name, check_numbers, check_positive, check_share

Part = TypeVar("Part")
MAX_HIDDEN = 128  #: units of the shipped kind per direction
SENTENCE_ENCODER = "sentence_encoder"  #: the kind of a teacher
ENCODERS = ("minilm", "mpnet")  #: that a teacher starts from, see `encoder_files`
_NAME_LISTS = ("languages", "untaught", "untrusted")  # keys of a recipe that hold a list of names


class RecipeError(Exception):
    """A recipe that is missing or wrong; the message names file, key and what is allowed."""


@dataclass(frozen=True)
class VocabularyPlan:
    """Subwords that occur `min_count` times; `start`: `encoder` (pretrained vectors) or `texts` (learnt from posts)."""

    min_count: int = 3
    start: str = "encoder"
    max_size: int = 8_000  # for `texts` only

    def __post_init__(self) -> None:
        check_numbers(self)
        check_name("vocabulary.start", self.start, ("encoder", "texts"))


@dataclass(frozen=True)
class NetworkPlan:
    """Widths of the network and what is dropped while training. `kind`: `gru`, or a teacher's `sentence_encoder`.

    A sentence encoder has the widths of the `encoder` it starts from, and drops no tokens.
    """

    kind: str = "gru"
    encoder: str = "minilm"
    embedding: int = 128
    hidden: int = 128
    dropout: float = 0.3
    token_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)
        check_name("network.kind", self.kind, ("gru", SENTENCE_ENCODER))
        check_name("network.encoder", self.encoder, ENCODERS)
        if self.encoder != ENCODERS[0] and self.kind != SENTENCE_ENCODER:
            raise ValueError(f"network.encoder is for a {SENTENCE_ENCODER}")
        check_share("network.dropout", self.dropout)
        check_share("network.token_dropout", self.token_dropout)
        if self.hidden > MAX_HIDDEN:
            raise ValueError(f"network.hidden {self.hidden} is more than {MAX_HIDDEN}")


@dataclass(frozen=True)
class Stage:
    """Some epochs over a mixture: `posts` per epoch and source, `weights` of a source's loss (1 unless named).

    The weights are of what the posts are; hints (`hints.Hints`) of all sources count alike.
    `patience` epochs without a better development figure end the stage, and the best epoch's weights are kept; with 0
    all epochs are run, and the last one's are.
    """

    name: str
    epochs: int
    learning_rate: float
    posts: Mapping[str, int]
    weights: Mapping[str, float] = field(default_factory=dict)
    patience: int = 2

    def __post_init__(self) -> None:
        check_numbers(self, ("patience",))
        check_positive("learning_rate", self.learning_rate)
        for part in ("posts", "weights"):
            if not isinstance(getattr(self, part), Mapping):
                raise TypeError(f"{part} of stage {self.name} must be a mapping of sources to numbers")
        if not self.posts:
            raise ValueError(f"stage {self.name} draws no posts")
        for source, number in self.posts.items():
            if type(number) is not int or number < 1:
                raise ValueError(f"posts of {source} {number!r} is no whole number from 1")
        for source, weight in self.weights.items():
            check_positive(f"weights of {source}", weight, or_zero=True)


@dataclass(frozen=True)
class Recipe:
    """Everything that a training depends on but its data. `preparation` is one of `PREPARATIONS`."""

    name: str
    description: str
    languages: tuple[str, ...]
    preparation: str
    stages: tuple[Stage, ...]
    vocabulary: VocabularyPlan = VocabularyPlan()
    network: NetworkPlan = NetworkPlan()
    max_tokens: int = 128
    seed: int = 1
    development_posts: int = 3_000
    calibration_posts: int = 0  # random posts held out for the calibration besides (see `holdouts.split`)
    measuring_posts: int = 0  # and held out to measure it on
    batch_posts: int = 128
    fresh_epochs: int = 0  # that many of a stage draw posts to ask a teacher about, later ones these again; 0: all
    average_decay: float = 0.998
    clip: float = 1.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    emoji_share: float = 0.0
    half_precision: bool = False  # where the processor is faster with it (`precision.half_precision`)
    teacher_share: float = 0.0  # of what a network shall say of a post is what its teacher says of it
    hint_weight: float = 0.0  # of the distance to the teachers' states in the loss (`hints.Hints`)
    untaught: tuple[str, ...] = ()  # sources of whose posts the labels alone count
    untrusted: tuple[str, ...] = ()  # sources whose labels are ignored where there is a teacher
    start_share: float = 0.0  # of the last weights are those of the bundle to start from (`trainer.mix_weights`)

    def __post_init__(self) -> None:
        check_numbers(self, ("seed",))
        check_name("preparation", self.preparation, tuple(PREPARATIONS_BY_WORD))
        for name in ("average_decay", "label_smoothing"):
            check_share(name, getattr(self, name))
        for name in ("emoji_share", "teacher_share", "start_share"):
            check_share(name, getattr(self, name), or_all=True)
        for name in ("clip", "weight_decay", "hint_weight"):
            check_positive(name, getattr(self, name), or_zero=name != "clip")
        if self.max_tokens < 2:
            raise ValueError("max_tokens must be at least 2")
        if not self.stages:
            raise ValueError("stages must name at least one stage")
        if self.teacher_share and self.network.kind == SENTENCE_ENCODER:
            raise ValueError(f"a {SENTENCE_ENCODER} is a teacher and has none: teacher_share must be 0")
        if self.half_precision and self.network.kind != SENTENCE_ENCODER:
            raise ValueError(f"half_precision is for a {SENTENCE_ENCODER}: others are served in single precision")
        if self.hint_weight and not self.teacher_share:
            raise ValueError("hint_weight is of hints from teachers: it needs a teacher_share")


def find_recipe(recipe: str | Path) -> Path:
    """A path, or the name of a recipe that ships with the package. Raises RecipeError with the names there are."""
    path = Path(recipe)
    if path.suffix in {".yaml", ".yml"}:
        if os.path.isfile(path):  # noqa: PTH113 - False also for a name that is too long
            return path
        raise RecipeError(f"recipe {recipe} is no file")
    if str(recipe) in list_recipes():
        return Path(str(resources.files("models") / "recipes" / f"{recipe}.yaml"))
    raise RecipeError(
        f"no recipe is called {recipe}; there are {', '.join(list_recipes())}, or give the path of a YAML file"
    )


def list_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in Path(str(resources.files("models") / "recipes")).glob("*.yaml"))


def read_recipe(path: Path) -> Recipe:
    """Parse and check a recipe. Raises RecipeError."""
    tree = read_tree(path)
    try:
        recipe = _recipe_of(tree)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"recipe {path.name}: {error}") from error
    _check_sources_of_teaching(recipe, path)
    return recipe


def _check_sources_of_teaching(recipe: Recipe, path: Path) -> None:
    """Raise RecipeError where `untaught` or `untrusted` names a source that has no use there."""
    drawn = {name for stage in recipe.stages for name in stage.posts}
    for key in ("untaught", "untrusted"):
        strangers = set(getattr(recipe, key)) - drawn
        if strangers:
            named = ", ".join(sorted(strangers))
            raise RecipeError(f"recipe {path.name}: {key} names {named}, of which no stage draws posts")
    both = set(recipe.untaught) & set(recipe.untrusted)
    if both:
        raise RecipeError(f"recipe {path.name}: {', '.join(sorted(both))} is both untaught and untrusted")


def read_tree(path: Path) -> dict[str, Any]:
    """What the YAML of a recipe holds, by key. Raises RecipeError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"recipe {path.name} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"recipe {path.name}: it must be a mapping of keys to values")
    return tree


def _recipe_of(tree: Mapping[str, Any]) -> Recipe:
    for key in ("stages", *_NAME_LISTS):
        if not isinstance(tree.get(key) or (), list | tuple):
            raise TypeError(f"{key} must be a list")
    stages = tuple(build(Stage, stage) for stage in tree.get("stages") or ())
    parts: dict[str, type[Any]] = {"vocabulary": VocabularyPlan, "network": NetworkPlan}
    built: dict[str, Any] = {key: build(part, tree[key]) for key, part in parts.items() if key in tree}
    names = {key: tuple(tree.get(key) or ()) for key in _NAME_LISTS}
    return build(Recipe, {**tree, **built, **names, "stages": stages})


def recipe_of(trained: Mapping[str, Any]) -> Recipe | None:
    """The recipe in what a manifest says of a bundle's training; None where it has none that is one of today's."""
    tree = trained.get("recipe")
    try:
        return _recipe_of(tree) if isinstance(tree, Mapping) else None
    except (TypeError, ValueError):
        return None


def build(part: type[Part], values: Mapping[str, Any]) -> Part:
    """A dataclass from what YAML gives. Raises ValueError or TypeError, naming keys that it does not have."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{part.__name__} must be a mapping of keys to values")
    known = {f.name for f in fields(part)}  # type: ignore[arg-type]  # every part is a dataclass
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}; allowed are {', '.join(sorted(known))}")
    missing = [
        f.name
        for f in fields(part)  # type: ignore[arg-type]
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING
    ]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return part(**values)
