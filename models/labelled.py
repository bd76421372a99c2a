"""Labelled posts that bundles are looked at with where nobody names any: none that they say they learnt from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.corpora import Corpus, CorpusError, find_data, load_csv, load_development
from models.manifest import Manifest
from models.tasks import TASKS, Split, load_task

TWEETS = "development tweets"
DEVELOPMENT_POSTS = 3_000  # as the shipped recipe holds them out
LEARNT_TWEETS = "semeval"  # the task that learns from the tweets out of which these come


@dataclass(frozen=True)
class LabelledPosts:
    """Posts and what they are called; `task`: the one whose bundles held them out, if that is what they are."""

    name: str
    corpus: Corpus
    task: str | None = None


def load_labelled(data: Path | None, bundles: Sequence[Manifest]) -> LabelledPosts:
    """A CSV of one's own, or what all the bundles held out; never `2016test`, nor another test split.

    `data` is the CSV, or the folder of the corpora (default `SENTIMENT_DATA`). Bundles of one task and split, made of
    the files that lie there, held out its development posts: for early stopping where they are networks, and for the
    calibration. Others are asked about the development tweets of the shipped recipe, which recipes of several corpora
    hold out as long as they hold out as many. Raises CorpusError, also where one of them learnt from these.
    """
    place = find_data(data)
    if place.is_file():
        return LabelledPosts(place.stem, load_csv(place))
    tasks = {_task_of(bundle) for bundle in bundles}
    if len(tasks) == 1 and (only := tasks.pop()) is not None:
        task, number = only
        split = load_task(task, place, number)
        if all(_is_made_of(bundle, split) for bundle in bundles):
            return LabelledPosts(f"{task} held out", split.development, task)
    learnt = [bundle.name for bundle in bundles if LEARNT_TWEETS in tasks_of(bundle) or _is_fitted_to_tweets(bundle)]
    if learnt:
        raise CorpusError(
            f"{learnt[0]} learnt from the tweets that others are compared on, or was calibrated on them:"
            " name labelled posts with --data"
        )
    return LabelledPosts(TWEETS, load_development(place, DEVELOPMENT_POSTS))


def tasks_of(bundle: Manifest) -> list[str]:
    """The tasks whose posts a bundle learnt, its own and those of the bundles that it started from."""
    start, task = bundle.trained.get("start"), _recipe_of(bundle).get("task")
    earlier = start.get("tasks", []) if isinstance(start, Mapping) else []
    return [*([task] if isinstance(task, str) and not bundle.trained.get("own_posts") else []), *earlier]


def _is_fitted_to_tweets(bundle: Manifest) -> bool:
    fitted = bundle.trained.get("calibrated")
    return isinstance(fitted, Mapping) and fitted.get("data") == TWEETS


def _task_of(bundle: Manifest) -> tuple[str, int] | None:
    """Task and split of a bundle that learnt from nothing but a task's own files, not from a CSV or another bundle."""
    task, number = _recipe_of(bundle).get("task"), bundle.trained.get("split")
    is_own = bundle.trained.get("own_posts") or bundle.trained.get("start")
    if not isinstance(task, str) or task not in TASKS or not isinstance(number, int) or is_own:
        return None
    return (task, number) if number in range(TASKS[task].n_splits) else None


def _recipe_of(bundle: Manifest) -> Mapping[str, Any]:
    recipe = bundle.trained.get("recipe")
    return recipe if isinstance(recipe, Mapping) else {}


def _is_made_of(bundle: Manifest, split: Split) -> bool:
    """Whether its posts were divided as these: the same files, and whatever else decides."""
    told = bundle.trained.get("data_sha256"), bundle.trained.get("beside_sha256", {})
    return told == (dict(split.hashes), dict(split.beside))
