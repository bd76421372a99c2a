"""How well a recipe does on a source of posts that its training had nothing of: `model evaluate --hold-out SOURCE`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.corpora import check_sources, find_data, load_sources
from models.hub import path_of
from models.left_out import TEACHER, digest_of
from models.manifest import MANIFEST, read_manifest
from models.protocol import origin_of, said_by, sided_accuracy, without_source
from models.recipe import SENTENCE_ENCODER, Recipe, RecipeError, find_recipe, read_recipe, recipe_of
from models.task_recipe import is_task_recipe
from models.teacher import Teacher
from models.train import train
from models.training_posts import data_hashes

RECIPE = "social-gru"


def measure_without(
    source: str,
    data: Path | str | None,
    out: Path,
    recipe: str | Path = RECIPE,
    teacher: str | Path = TEACHER,
    scale: str = "small",
) -> dict[str, Any]:
    """Two-class accuracy on `source` of `recipe` trained without it, on posts with a side.

    A recipe that learns from teachers has one of the recipe `teacher`, which was trained without the source, too, and
    is measured as well (`teacher`): what the network could have learnt from it.
    For `scale` see `protocol.without_source`.
    Bundles are kept under `out` and trained again only where recipe, data or teacher are others. Raises CorpusError,
    RecipeError, BundleError.
    """
    check_sources([source])
    _check_teacher(find_recipe(teacher))
    place = find_data(None if data is None else path_of(data))
    without = _Without(source, origin_of(source), scale, data, place, out)
    plan = read_recipe(find_recipe(recipe))
    master = without.trained(teacher, []) if plan.teacher_share else None
    folder = without.trained(recipe, [] if master is None else [master])
    posts = load_sources(place, [source])[source]
    found = {
        "recipe": plan.name,
        "left_out": list(without.left_out),
        "scale": scale,
        "recipe_sha256": digest_of(without_source(plan, without.left_out, scale)),
        **sided_accuracy(said_by(Bundle.load(folder, "cpu")), posts),
    }
    if master is not None:
        told = {"recipe": read_recipe(find_recipe(teacher)).name}
        found["teacher"] = told | sided_accuracy(Teacher(master).probabilities, posts)
    return found


def _check_teacher(recipe: Path) -> None:
    """Raises RecipeError for a recipe of something else."""
    if is_task_recipe(recipe) or read_recipe(recipe).network.kind != SENTENCE_ENCODER:
        raise RecipeError(f"{recipe.stem} is no recipe of a teacher: its network is no {SENTENCE_ENCODER}")


@dataclass(frozen=True)
class _Without:
    """Trainings without a source and those that share its texts."""

    source: str
    left_out: tuple[str, ...]
    scale: str
    data: Path | str | None
    place: Path
    out: Path

    def trained(self, recipe: str | Path, teachers: Sequence[Path]) -> Path:
        """The bundle's folder, trained where it does not lie there already."""
        plan = without_source(read_recipe(find_recipe(recipe)), self.left_out, self.scale)
        folder = self.out / f"{plan.name}-without-{self.source}"
        if not _is_of(folder, plan, data_hashes(plan, self.place, self.left_out), teachers):
            train(
                recipe,
                self.data,
                folder,
                leave_out=self.left_out,
                leave_out_scale=self.scale,
                teachers=teachers,
            )
        return folder


def _is_of(folder: Path, plan: Recipe, hashes: Mapping[str, str], teachers: Sequence[Path]) -> bool:
    """Whether a bundle of this plan, these data and these teachers lies there."""
    if not (folder / MANIFEST).is_file():
        return False
    trained = read_manifest(folder).trained
    taught_by = [told["sha256"] for told in trained.get("teachers", ())]
    if taught_by != [read_manifest(teacher).sha256 for teacher in teachers]:
        return False
    return recipe_of(trained) == plan and trained.get("data_sha256") == hashes
