"""A recipe: the YAML file that says how a bundle is trained. Checked as a whole before any time is spent."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from models.preparation import PREPARATIONS_BY_WORD

Part = TypeVar("Part")


class RecipeError(Exception):
    """A recipe that is missing or wrong; the message names file, key and what is allowed."""


@dataclass(frozen=True)
class VocabularyPlan:
    """Subwords that occur `min_count` times; `start`: `encoder` (pretrained vectors) or `texts` (learnt from posts)."""

    min_count: int = 3
    start: str = "encoder"
    max_size: int = 8_000  # for `texts` only


@dataclass(frozen=True)
class NetworkPlan:
    """Widths of the network and what is dropped while training. `kind`: `gru`, or a teacher's `sentence_encoder`.

    A sentence encoder has its own widths, and drops no tokens.
    """

    kind: str = "gru"
    embedding: int = 128
    hidden: int = 128
    dropout: float = 0.3
    token_dropout: float = 0.0


@dataclass(frozen=True)
class Stage:
    """Some epochs over a mixture: `posts` per epoch and source, `weights` of a source's loss (1 unless named)."""

    name: str
    epochs: int
    learning_rate: float
    posts: Mapping[str, int]
    weights: Mapping[str, float] = field(default_factory=dict)
    patience: int = 2


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
    calibration_posts: int = 0  # random posts of the last stage's sources, held out for the calibration besides
    measuring_posts: int = 0  # and held out to measure it on
    batch_posts: int = 128
    average_decay: float = 0.998
    clip: float = 1.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    emoji_share: float = 0.0
    teacher_share: float = 0.0  # of what a network shall say of a post is what its teacher says of it
    untaught: tuple[str, ...] = ()  # sources of whose posts the labels alone count
    start_share: float = 0.0  # of the last weights are those of the bundle to start from (`trainer.mix_weights`)


def find_recipe(recipe: str | Path) -> Path:
    """A path, or the name of a recipe that ships with the package. Raises RecipeError with the names there are."""
    path = Path(recipe)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise RecipeError(f"recipe {recipe} is no file")
    shipped = Path(str(resources.files("models") / "recipes"))
    if (shipped / f"{recipe}.yaml").is_file():
        return shipped / f"{recipe}.yaml"
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
    _check(recipe, path.name)
    return recipe


def read_tree(path: Path) -> dict[str, Any]:
    """What the YAML of a recipe holds, by key. Raises RecipeError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"recipe {path.name} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"recipe {path.name}: it must be a mapping of keys to values")
    return tree


def _recipe_of(tree: Mapping[str, Any]) -> Recipe:
    stages = tuple(build(Stage, stage) for stage in tree.get("stages") or ())
    parts: dict[str, type[Any]] = {"vocabulary": VocabularyPlan, "network": NetworkPlan}
    built: dict[str, Any] = {key: build(part, tree[key]) for key, part in parts.items() if key in tree}
    names = {key: tuple(tree.get(key, ())) for key in ("languages", "untaught")}
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
    return part(**values)


def _check(recipe: Recipe, name: str) -> None:
    problems = {
        f"preparation {recipe.preparation!r} is none of {', '.join(PREPARATIONS_BY_WORD)}": recipe.preparation
        not in PREPARATIONS_BY_WORD,
        "stages must name at least one stage": not recipe.stages,
        f"network.kind {recipe.network.kind!r} is none of gru, sentence_encoder": recipe.network.kind
        not in {"gru", "sentence_encoder"},
        f"teacher_share {recipe.teacher_share} is not between 0 and 1": not 0.0 <= recipe.teacher_share <= 1.0,
        f"network.hidden {recipe.network.hidden} is more than 128": recipe.network.hidden > 128,
        f"vocabulary.start {recipe.vocabulary.start!r} is none of encoder, texts": recipe.vocabulary.start
        not in {"encoder", "texts"},
        f"untaught names {', '.join(recipe.untaught)}, of which no stage draws posts": not set(recipe.untaught)
        <= {name for stage in recipe.stages for name in stage.posts},
        "max_tokens must be at least 2": recipe.max_tokens < 2,
        "every stage needs epochs and posts above 0": any(
            s.epochs < 1 or sum(s.posts.values()) < 1 for s in recipe.stages
        ),
    }
    for problem, present in problems.items():
        if present:
            raise RecipeError(f"recipe {name}: {problem}")
