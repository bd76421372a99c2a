"""Labelled posts that bundles are looked at with where nobody names any: none that they learnt from."""

from collections.abc import Sequence
from pathlib import Path

from models.corpora import Corpus, find_data, load_csv, load_development
from models.manifest import Manifest
from models.task_report import is_task_bundle
from models.tasks import TASKS, load_task

TWEETS = "development tweets"
DEVELOPMENT_POSTS = 3_000  # as the shipped recipe holds them out


def load_labelled(data: Path | None, bundles: Sequence[Manifest]) -> tuple[str, Corpus]:
    """A CSV of one's own, or what all the bundles held out, and its name; never `2016test`, nor another test split.

    `data` is the CSV, or the folder of the corpora (default `SENTIMENT_DATA`). Bundles of one task and split held out
    its development posts: for early stopping where they are networks, and for the calibration. Others are asked about
    the development tweets of the shipped recipe. Raises CorpusError.
    """
    place = find_data(data)
    if place.is_file():
        return place.stem, load_csv(place)
    tasks = {_task_of(bundle) for bundle in bundles}
    if len(tasks) == 1 and (only := tasks.pop()) is not None:
        task, number = only
        return f"{task} held out", load_task(task, place, number).development
    return TWEETS, load_development(place, DEVELOPMENT_POSTS)


def _task_of(bundle: Manifest) -> tuple[str, int] | None:
    """Task and split of a bundle that learnt from a task's own files, not from a CSV or a hub's data set."""
    if not is_task_bundle(bundle):
        return None
    task = bundle.trained["recipe"]["task"]
    if task not in TASKS or set(bundle.trained["data_sha256"]) != set(TASKS[task].files()):
        return None
    return task, int(bundle.trained["split"])
