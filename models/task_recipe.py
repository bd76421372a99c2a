"""A recipe for one task: how one of the seed systems is trained, with the variants that are reported beside it.

The second family of recipes, told by its key `task`; the staged mixtures of the shipped bundle are `recipe.py`. All of
a file, `small` and `variants` included, is checked before any time is spent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from models.recipe import RecipeError, build, read_tree
from models.shapes import check_name, check_numbers
from models.task_plans import NETWORKS, OptimizerPlan, Repeats, WordsPlan
from models.word_preparation import WORD_PREPARATIONS
from models.word_tokenizer import WordSettings

SCALES = ("full", "small")
LOSSES = ("cross_entropy", "bce")
BALANCINGS = ("none", "under", "over", "hybrid", "augment")
VECTORS = ("none", "minilm", "glove")
MAIN = "main"  #: the name of a recipe's own run; its first repeat is the bundle
_PARTS_OF_RECIPE = ("variants", "small")


@dataclass(frozen=True)
class TaskRecipe:
    """One training, but for its data. `length`: tokens of a post that are read, the `keep` end of a longer one.

    `max_posts`: training posts that are used, 0 for all. `seed_says` and `must_reach`: the seed's own figure, and what
    this one is held to, in words; both are only shown.
    """

    name: str
    description: str
    languages: tuple[str, ...]
    task: str
    preparation: str
    network: Any  # one of NETWORKS
    kind: str
    length: int
    vocabulary: WordsPlan = field(default_factory=WordsPlan)
    optimizer: OptimizerPlan = field(default_factory=OptimizerPlan)
    keep: str = "first"
    remove: tuple[str, ...] = ()
    ngrams: int = 1
    vectors: str = "none"
    loss: str = "cross_entropy"
    balancing: str = "none"
    seed: int = 1
    max_posts: int = 0
    repeats: Repeats = field(default_factory=Repeats)
    seed_says: str = ""
    must_reach: str = ""

    def __post_init__(self) -> None:
        check_numbers(self, ("seed",))
        check_name("preparation", self.preparation, tuple(WORD_PREPARATIONS))
        check_name("loss", self.loss, LOSSES)
        check_name("balancing", self.balancing, BALANCINGS)
        check_name("vectors", self.vectors, VECTORS)
        if self.length < 1 + 2 * self.vocabulary.marks:
            raise ValueError(f"length {self.length} leaves no room for words")
        _ = self.settings

    @property
    def settings(self) -> WordSettings:
        """How its encoder reads."""
        return WordSettings(self.keep, self.remove, self.ngrams)


@dataclass(frozen=True)
class Variant:
    """A recipe that differs in some values from the one it is reported beside; `changes` are those."""

    name: str
    recipe: TaskRecipe
    changes: Mapping[str, Any] = field(default_factory=dict)
    seed_says: str = ""
    is_on_another_task: bool = False  # than the recipe's own


def is_task_recipe(path: Path) -> bool:
    """Whether a file is of this family. Raises RecipeError for one that cannot be read."""
    return "task" in read_tree(path)


def read_task_recipe(path: Path, scale: str = "full", seed: int | None = None) -> list[Variant]:
    """The recipe of a file, named `MAIN`, and its variants after it, at a scale. Raises RecipeError."""
    tree = read_tree(path)
    try:
        check_name("scale", scale, SCALES)
        variants = tree.get("variants") or []
        both = [_checked(tree, size, variants) for size in SCALES]
    except (TypeError, ValueError) as error:
        raise RecipeError(f"recipe {path.name}: {error}") from error
    found = both[SCALES.index(scale)]
    return found if seed is None else [replace(v, recipe=replace(v.recipe, seed=seed)) for v in found]


def _checked(tree: Mapping[str, Any], scale: str, variants: Any) -> list[Variant]:
    if not isinstance(variants, list) or not all(isinstance(variant, dict) for variant in variants):
        raise TypeError("variants must be a list of mappings")
    small = tree.get("small") or {}
    base = {key: value for key, value in tree.items() if key not in _PARTS_OF_RECIPE}
    base = merged(base, small) if scale == "small" else base
    found = [Variant(MAIN, recipe_of(base), {}, str(base.get("seed_says", "")))]
    found += [_variant(base, variant) for variant in variants]
    names = [variant.name for variant in found]
    if len(set(names)) < len(names):
        raise ValueError(f"variants must have names of their own: {', '.join(names)}")
    return found


def _variant(base: Mapping[str, Any], tree: Mapping[str, Any]) -> Variant:
    unknown = sorted(set(tree) - {"name", "changes", "seed_says"})
    if unknown or "name" not in tree or not isinstance(tree.get("changes"), dict):
        raise ValueError("a variant has name, changes (a mapping) and perhaps seed_says")
    says = str(tree.get("seed_says", ""))
    return Variant(str(tree["name"]), recipe_of(merged(base, tree["changes"])), tree["changes"], says)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, mappings inside mapping by mapping."""
    inner = {k: merged(base[k], v) for k, v in changes.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    return {**base, **changes, **inner}


def recipe_of(tree: Mapping[str, Any]) -> TaskRecipe:
    """A recipe from what YAML gives, or from `plain` of one. Raises TypeError or ValueError naming the key."""
    network = dict(tree.get("network") or {})
    kind = network.pop("kind", tree.get("kind", "recurrent"))
    check_name("network.kind", kind, tuple(NETWORKS))
    parts: dict[str, type[Any]] = {"vocabulary": WordsPlan, "optimizer": OptimizerPlan, "repeats": Repeats}
    built = {key: build(part, tree[key]) for key, part in parts.items() if key in tree}
    lists = {key: tuple(tree.get(key) or ()) for key in ("languages", "remove")}
    whole = {**tree, **built, **lists, "network": build(NETWORKS[kind], network), "kind": kind}
    return build(TaskRecipe, whole)


def plain(recipe: TaskRecipe) -> dict[str, Any]:
    """A recipe as JSON can hold it."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(recipe).items()}


def runs_of(recipe: TaskRecipe, n_splits: int) -> Iterator[tuple[int, int]]:
    """(split, seed) of each of a recipe's repeats. Raises RecipeError for more splits than the task has."""
    times = recipe.repeats.times
    if recipe.repeats.over == "splits" and times > n_splits:
        raise RecipeError(f"repeats ask for {times} splits; the task {recipe.task} has {n_splits}")
    for i in range(times):
        yield (i, recipe.seed) if recipe.repeats.over == "splits" else (0, recipe.seed + i)
