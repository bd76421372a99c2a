"""How well a recipe does on a source of posts that its training had nothing of: `model evaluate --hold-out SOURCE`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.corpora import CorpusError, check_sources, find_data, has_sides, load_set_aside, load_sources
from models.holdouts import split
from models.hub import path_of
from models.left_out import TEACHER, digest_of
from models.manifest import MANIFEST, BundleError, read_manifest
from models.places import training_folder
from models.protocol import origin_of, said_by, sided_accuracy, without_source
from models.recipe import SENTENCE_ENCODER, Recipe, RecipeError, find_recipe, read_recipe, recipe_of
from models.task_recipe import is_task_recipe
from models.teacher import Teacher, held_out_sha256
from models.train import require_encoder, train
from models.training_posts import data_hashes

RECIPE = "social-gru"


@dataclass(frozen=True)
class WithoutSource:
    """The trainings without one source and those that share its texts: of `recipe`, and of its `teacher`, if any."""

    source: str
    recipe: Path
    teacher: Path | None
    scale: str
    data: Path | str | None
    place: Path  # of the corpora
    out: Path

    @property
    def left_out(self) -> tuple[str, ...]:
        """The source and those that share its texts."""
        return origin_of(self.source)

    def told(self) -> dict[str, Any]:
        """What the figures say of the recipes; `left_out.mark_others` knows by it whether they are a bundle's."""
        plan = read_recipe(self.recipe)
        digest = digest_of(without_source(plan, self.left_out, self.scale))
        told = {"recipe": plan.name, "left_out": list(self.left_out), "scale": self.scale, "recipe_sha256": digest}
        return told if self.teacher is None else told | {"teacher": {"recipe": read_recipe(self.teacher).name}}

    def measure(self) -> dict[str, Any]:
        """What `measure_without` returns, after hours of training what does not lie there already."""
        masters = [] if self.teacher is None else [self._trained(self.teacher, [])]
        folder = self._trained(self.recipe, masters)
        posts = load_sources(self.place, [self.source])[self.source]
        says = said_by(Bundle.load(folder, "cpu"))
        found = self.told() | sided_accuracy(says, posts)
        if has_sides(aside := load_set_aside(self.place, self.source)):
            found["set_aside"] = sided_accuracy(says, aside)
        for master in masters:
            found["teacher"] |= sided_accuracy(Teacher(master).probabilities, posts)
        return found

    def check(self) -> None:
        """Raises RecipeError, CorpusError, BundleError for what a training would trip over.

        The pupil's above all, which begins only when its teacher's has ended.
        """
        for recipe in reversed(self._to_train()):
            plan = self._plan(recipe)
            training_folder(self._folder(plan), plan.name, None)
            require_encoder(plan)

    def check_held_out(self) -> None:
        """Raises RecipeError where pupil and teacher would not hold out the same posts; divides the corpora to know."""
        if self.teacher is None or not self._to_train():
            return
        plan, pupil = self._plan(self.teacher), self._plan(self.recipe)
        if self._lies_there(self.teacher, []):
            held_out = read_manifest(self._folder(plan)).trained.get("held_out_sha256")
        else:
            held_out = held_out_sha256(split(plan, self.place, self.left_out))
        if held_out != held_out_sha256(split(pupil, self.place, self.left_out)):
            raise RecipeError(
                f"{self.teacher.stem} and {pupil.name} do not hold out the same posts without {self.source}:"
                " development_posts, calibration_posts and those sources of the last stage that have all three classes"
                " have to be the same"
            )

    def _to_train(self) -> list[Path]:
        """The recipes that have to be trained, the pupil's last."""
        if self.teacher is None:
            return [] if self._lies_there(self.recipe, []) else [self.recipe]
        if not self._lies_there(self.teacher, []):
            return [self.teacher, self.recipe]
        return [] if self._lies_there(self.recipe, [self._folder(self._plan(self.teacher))]) else [self.recipe]

    def _trained(self, recipe: Path, teachers: Sequence[Path]) -> Path:
        """The bundle's folder, trained where it does not lie there already."""
        folder = self._folder(self._plan(recipe))
        if not self._lies_there(recipe, teachers):
            train(
                recipe,
                self.data,
                folder,
                leave_out=self.left_out,
                scale=self.scale,
                teachers=teachers,
            )
        return folder

    def _plan(self, recipe: Path) -> Recipe:
        return without_source(read_recipe(recipe), self.left_out, self.scale)

    def _folder(self, plan: Recipe) -> Path:
        return self.out / f"{plan.name}-without-{self.source}"

    def _lies_there(self, recipe: Path, teachers: Sequence[Path]) -> bool:
        plan = self._plan(recipe)
        return _is_of(self._folder(plan), plan, data_hashes(plan, self.place, self.left_out), teachers)


def prepare(
    sources: Sequence[str],
    data: Path | str | None,
    out: Path,
    recipe: str | Path = RECIPE,
    teacher: str | Path = TEACHER,
    scale: str = "small",
) -> list[WithoutSource]:
    """The trainings without each of the `sources`, none of which has begun. For the rest see `measure_without`.

    All of them are checked: an error is told now, not after hours. Raises CorpusError, RecipeError, BundleError.
    """
    check_sources(sources)
    path, master = find_recipe(recipe), None
    plan = read_recipe(path)
    if plan.teacher_share:
        master = find_recipe(teacher)
        _check_teacher(master, plan.name)
    place = find_data(None if data is None else path_of(data))
    if place.is_file():
        raise CorpusError(f"{place} is one file: a source is left out of the corpora, whose folder --data names")
    found = [WithoutSource(source, path, master, scale, data, place, out) for source in sources]
    for one in found:
        one.check()
    for one in found:
        one.check_held_out()
    return found


def measure_without(
    source: str,
    data: Path | str | None,
    out: Path,
    recipe: str | Path = RECIPE,
    teacher: str | Path = TEACHER,
    scale: str = "small",
) -> dict[str, Any]:
    """Two-class accuracy on `source` of a recipe trained without it, on posts with a side.

    A recipe that learns from teachers has one of the recipe `teacher`, which was trained without the source, too, and
    is measured as well (`teacher`): what the network could have learnt from it.
    For `scale` see `protocol.without_source`.
    The last bundles of each source are kept under `out` and trained again only where recipe, data, scale or teacher are
    others. Raises CorpusError, RecipeError, BundleError.
    """
    return prepare([source], data, out, recipe, teacher, scale)[0].measure()


def _check_teacher(recipe: Path, pupil: str) -> None:
    """Raises RecipeError for a recipe of something else, or one whose bundle its pupil's would replace."""
    if is_task_recipe(recipe) or (plan := read_recipe(recipe)).network.kind != SENTENCE_ENCODER:
        raise RecipeError(
            f"{recipe.stem} is no recipe of a teacher: its network is no {SENTENCE_ENCODER}, as that of"
            f" {TEACHER} or {TEACHER}-mpnet is"
        )
    if plan.name == pupil:
        raise RecipeError(f"the recipe of a teacher has to have another name than its pupil's, {pupil}")


def _is_of(folder: Path, plan: Recipe, hashes: Mapping[str, str], teachers: Sequence[Path]) -> bool:
    """Whether a whole bundle of this plan, these data and these teachers lies there."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        trained = read_manifest(folder).trained
    except BundleError:  # the rest of a training that was cut off while it was written
        return False
    taught_by = [told["sha256"] for told in trained.get("teachers", ())]
    if taught_by != [read_manifest(teacher).sha256 for teacher in teachers]:
        return False
    return recipe_of(trained) == plan and trained.get("data_sha256") == hashes
