"""The measures of a bundle trained on the corpora that one table per set does not show.

Calibration on the random hold-out and on `2016test`, daily means per brand, and whole sources left out of training.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.brand_days import has_dated, load_dated, measure_days
from models.bundle import Bundle
from models.calibration_figures import measure_calibration
from models.composed import compose
from models.corpora import CLASSES, COMPOSED_SEED, LOADERS, TEST_SPLIT, Corpus, corpus_of, has_sides, load_test
from models.holdouts import DEVELOPMENT_SOURCE, Split
from models.intervals import interval_of
from models.manifest import Manifest
from models.measures import FloatArray, IntArray, macro_recall
from models.mixture import draw
from models.recipe import SENTENCE_ENCODER, Recipe, RecipeError, Stage, recipe_of

COMPOSED_DEVELOPMENT_POSTS = 3_000
BAG_POSTS = 25_000
#: sources that are parts of one: left out together
ORIGINS = ({"sst_phrases", "sst_sentences"}, {"sentiment140", "tweet_extraction"})
SMALL_SHARE, SMALL_FRESH_EPOCHS = 1 / 3, 2  #: of a stage's posts at small scale; epochs that draw other ones each
SMALL_TEACHER_EPOCHS = 1  #: with all posts: a third of what a teacher sees otherwise
HOLD_OUT = "random hold-out"


def plan_of(manifest: Manifest) -> Recipe:
    """The last stage of the recipe that a bundle was trained by, which is where its hold-out comes from.

    Of a bundle that was trained on other sources than those there are: SemEval alone.
    """
    found = recipe_of(manifest.trained)
    if found is not None and all(name in LOADERS for stage in found.stages for name in stage.posts):
        return replace(found, stages=found.stages[-1:])
    return Recipe("", "", (), "subword", (Stage("", 1, 1.0, {DEVELOPMENT_SOURCE: BAG_POSTS}),))


def epoch_of(plan: Recipe, posts: Split) -> list[Corpus]:
    """The posts of an epoch of the last stage, of the sources with all three classes: what a baseline learns from."""
    wanted = [(posts.training[name], n) for name, n in plan.stages[-1].posts.items()]
    return [
        corpus.select(draw(min(n, len(corpus)), len(corpus), 0, [plan.seed]))
        for corpus, n in wanted
        if len(set(corpus.labels)) == len(CLASSES)
    ]


def composed_development() -> Corpus:
    """Generated posts of frames that no training sees, and of words that none sees where a list has some to spare."""
    return corpus_of(compose(COMPOSED_DEVELOPMENT_POSTS, COMPOSED_SEED, "development"))


def intervals(truth: IntArray, probabilities: FloatArray) -> dict[str, list[float]]:
    """95% bootstrap intervals of accuracy, macro recall and two-class accuracy."""
    predicted = probabilities.argmax(axis=1)
    positive = probabilities[:, 2] + probabilities[:, 1] / 2 >= 0.5
    sided = truth != 1
    found = {
        "accuracy": interval_of(np.mean, truth == predicted),
        "macro_recall": interval_of(_macro_recall, truth, predicted),
    }
    if sided.any():
        found["two_class_accuracy"] = interval_of(np.mean, (positive == (truth == 2))[sided])
    return found


def _macro_recall(truth: IntArray, predicted: IntArray) -> float:
    return macro_recall(truth, predicted, 3)


def measure_protocol(bundle: Bundle, posts: Split, data: Path) -> dict[str, Any]:
    """`calibration` by set, `in_training` and `brand_days` (see `brand_days.measure_days`) of a three-class bundle.

    `in_training` is what `hold_out_source` measures of a source left out, on the random hold-out of one that is not.
    """
    posts = posts.cleared()
    sets = {HOLD_OUT: posts.measuring, TEST_SPLIT: load_test(data)}
    calibration = {name: _calibration(bundle, corpus) for name, corpus in sets.items() if len(corpus)}
    in_training = {
        name: sided_accuracy(said_by(bundle), corpus)
        for name, corpus in posts.measured_sources.items()
        if has_sides(corpus)
    }
    report: dict[str, Any] = {"calibration": calibration, "in_training": in_training}
    if not has_dated(data):
        return report
    dated = load_dated(data)
    development = np.array(posts.development.labels)
    prior = np.bincount(development, minlength=3) / len(development)
    days = measure_days(dated, bundle.score(dated.texts).probabilities, prior)
    return report | {"brand_days": days | {"prior": [float(share) for share in prior]}}


def sided_accuracy(says: Callable[[Sequence[str]], FloatArray], corpus: Corpus) -> dict[str, Any]:
    """Two-class accuracy (pos_prob >= 0.5) on the posts with a side, at least one, and its 95% interval.

    `by_side`: that of each side's posts. `says` gives the probabilities (n, C) of texts.
    """
    sided = corpus.select(i for i, label in enumerate(corpus.labels) if label != CLASSES.index("neutral"))
    probabilities = says(sided.texts)
    pos_prob = probabilities[:, 2] + probabilities[:, 1] / 2
    labels = np.array(sided.labels)
    right = (pos_prob >= 0.5) == (labels == CLASSES.index("positive"))
    by_side = {CLASSES[label]: float(right[labels == label].mean()) for label in sorted(set(sided.labels))}
    return {
        "posts": len(right),
        "two_class_accuracy": float(right.mean()),
        "interval": interval_of(np.mean, right),
        "by_side": by_side,
    }


def said_by(bundle: Bundle) -> Callable[[Sequence[str]], FloatArray]:
    """The probabilities (n, C) that a bundle gives to texts."""
    return lambda texts: bundle.score(texts).probabilities


def _calibration(bundle: Bundle, corpus: Corpus) -> dict[str, Any]:
    return measure_calibration(np.array(corpus.labels), bundle.score(corpus.texts).probabilities)


def origin_of(source: str) -> tuple[str, ...]:
    """The source and those that share its texts."""
    return tuple(sorted(next((names for names in ORIGINS if source in names), {source})))


def without_source(plan: Recipe, leave_out: Sequence[str], scale: str = "small") -> Recipe:
    """The recipe at a scale (see `at_scale`) without some sources, for which the others give more posts, in proportion.

    Raises RecipeError where a stage has no other source.
    """
    alone = [stage.name for stage in plan.stages if set(stage.posts) <= set(leave_out)]
    if alone:
        raise RecipeError(f"{plan.name}: stage {alone[0]} has no posts without {', '.join(leave_out)}")
    return at_scale(replace(plan, measuring_posts=0), scale, leave_out)


def at_scale(plan: Recipe, scale: str, leave_out: Sequence[str] = ()) -> Recipe:
    """The recipe at a scale, without sources to leave out.

    At `small` a stage draws a third of its posts in each epoch; those that a teacher has to be asked about in its first
    two epochs (or in fewer, by the recipe), to go through them again in the others. A teacher itself has one epoch of
    all its posts. At `full` the recipe is otherwise as it was.
    """
    if scale == "full":
        stages = [_stage_without(stage, leave_out) for stage in plan.stages]
    elif plan.network.kind == SENTENCE_ENCODER:
        stages = [_stage_without(stage, leave_out, epochs=SMALL_TEACHER_EPOCHS) for stage in plan.stages]
    else:
        stages = [_stage_without(stage, leave_out, SMALL_SHARE) for stage in plan.stages]
        plan = replace(plan, fresh_epochs=min(plan.fresh_epochs or SMALL_FRESH_EPOCHS, SMALL_FRESH_EPOCHS))
    return replace(plan, stages=tuple(stages))


def _stage_without(stage: Stage, leave_out: Sequence[str], share: float = 1.0, epochs: int | None = None) -> Stage:
    """The `share` of the stage's posts from the other sources, in at most so many epochs, if they are given."""
    others = {name: n for name, n in stage.posts.items() if name not in leave_out}
    scale = share * sum(stage.posts.values()) / sum(others.values())
    posts = {name: max(1, round(n * scale)) for name, n in others.items()}
    return replace(stage, posts=posts, epochs=min(stage.epochs, epochs or stage.epochs))
