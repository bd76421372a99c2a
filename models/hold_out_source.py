"""How well a recipe does on a source of posts that its training had nothing of: `model evaluate --hold-out SOURCE`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.corpora import check_sources, find_data, load_sources
from models.holdouts import split
from models.hub import path_of
from models.left_out import TEACHER, digest_of
from models.manifest import MANIFEST, read_manifest
from models.protocol import origin_of, said_by, sided_accuracy, without_source
from models.recipe import SENTENCE_ENCODER, Recipe, RecipeError, find_recipe, read_recipe, recipe_of
from models.task_recipe import is_task_recipe
from models.teacher import Teacher, held_out_sha256
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
    plan = read_recipe(find_recipe(recipe))
    if plan.teacher_share:
        _check_teacher(find_recipe(teacher), plan.name)
    place = find_data(None if data is None else path_of(data))
    without = _Without(source, origin_of(source), scale, data, place, out)
    master = without.teacher(teacher, plan) if plan.teacher_share else None
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


def _check_teacher(recipe: Path, pupil: str) -> None:
    """Raises RecipeError for a recipe of something else, or one whose bundle its pupil's would replace."""
    if is_task_recipe(recipe) or (plan := read_recipe(recipe)).network.kind != SENTENCE_ENCODER:
        raise RecipeError(
            f"{recipe.stem} is no recipe of a teacher: its network is no {SENTENCE_ENCODER}, as that of"
            f" {TEACHER} or {TEACHER}-mpnet is"
        )
    if plan.name == pupil:
        raise RecipeError(f"the recipe of a teacher has to have another name than its pupil's, {pupil}")


@dataclass(frozen=True)
class _Without:
    """Trainings without a source and those that share its texts."""

    source: str
    left_out: tuple[str, ...]
    scale: str
    data: Path | str | None
    place: Path
    out: Path

    def teacher(self, recipe: str | Path, pupil: Recipe) -> Path:
        """The folder of the one that its pupil, of the plan `pupil`, learns from."""
        if not self._lies_there(self._plan(read_recipe(find_recipe(recipe))), []):
            self._check_held_out(find_recipe(recipe), pupil)
        return self.trained(recipe, [])

    def _check_held_out(self, teacher: Path, pupil: Recipe) -> None:
        """Raises RecipeError, before hours of training, where the two would not hold out the same posts."""
        plans = [self._plan(plan) for plan in (read_recipe(teacher), pupil)]
        if len({held_out_sha256(split(plan, self.place, self.left_out)) for plan in plans}) > 1:
            raise RecipeError(
                f"{teacher.stem} would learn from posts that {pupil.name} holds out: development_posts,"
                " calibration_posts and the sources of the last stage have to be the same"
            )

    def trained(self, recipe: str | Path, teachers: Sequence[Path]) -> Path:
        """The bundle's folder, trained where it does not lie there already."""
        plan = self._plan(read_recipe(find_recipe(recipe)))
        folder = self._folder(plan)
        if not self._lies_there(plan, teachers):
            train(
                recipe,
                self.data,
                folder,
                leave_out=self.left_out,
                leave_out_scale=self.scale,
                teachers=teachers,
            )
        return folder

    def _plan(self, plan: Recipe) -> Recipe:
        return without_source(plan, self.left_out, self.scale)

    def _folder(self, plan: Recipe) -> Path:
        return self.out / f"{plan.name}-without-{self.source}"

    def _lies_there(self, plan: Recipe, teachers: Sequence[Path]) -> bool:
        return _is_of(self._folder(plan), plan, data_hashes(plan, self.place, self.left_out), teachers)


def _is_of(folder: Path, plan: Recipe, hashes: Mapping[str, str], teachers: Sequence[Path]) -> bool:
    """Whether a bundle of this plan, these data and these teachers lies there."""
    if not (folder / MANIFEST).is_file():
        return False
    trained = read_manifest(folder).trained
    taught_by = [told["sha256"] for told in trained.get("teachers", ())]
    if taught_by != [read_manifest(teacher).sha256 for teacher in teachers]:
        return False
    return recipe_of(trained) == plan and trained.get("data_sha256") == hashes
