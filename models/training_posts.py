"""The posts of a training: those of the corpora that a recipe names, or one's own."""

import logging
from dataclasses import replace
from pathlib import Path

from models.corpora import OWN_LABELS, Corpus, CorpusError, load_own
from models.divisions import fold
from models.holdouts import Split, files_read, split
from models.manifest import file_sha256
from models.near_copies import NearCopies
from models.recipe import Recipe, Stage

LOG = logging.getLogger(__name__)
OWN_PARTS = 7  #: of posts of one's own one in so many of each class is held out
OWN_PATIENCE = 6  #: epochs, where the recipe has none: one's own are few, and soon learnt by heart


def load_posts(plan: Recipe, data: Path, leave_out: tuple[str, ...] = ()) -> tuple[Recipe, Split, dict[str, str]]:
    """(recipe as it will run, posts to train on and those held out, SHA-256 of each file read). Raises CorpusError."""
    if data.is_file():
        corpus = load_own(data)
        rest, development = _divide(corpus)
        last = plan.stages[-1]
        own = Stage(
            last.name, last.epochs, last.learning_rate, {OWN_LABELS: len(rest)}, {}, last.patience or OWN_PATIENCE
        )
        plan = replace(plan, stages=(own,), calibration_posts=0, measuring_posts=0)
        return plan, Split({OWN_LABELS: rest}, development), {data.name: file_sha256(data)}
    posts = split(plan, data, leave_out)
    empty = [name for name, corpus in posts.training.items() if not len(corpus)]
    if empty:
        raise CorpusError(f"of {', '.join(empty)} all posts are held out, or near-copies of some that are")
    return plan, posts, data_hashes(plan, data, leave_out)


def _divide(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """(posts of one's own to train on, those held out), of which the former are no near-copies, such as retweets."""
    rest, development = fold(corpus, 0, OWN_PARTS, "development")
    kept = rest.select(NearCopies(development.texts).without(rest.texts))
    if set(kept.labels) != set(rest.labels):
        LOG.warning("nearly all posts of a label are copies of each other: figures of posts held out will flatter")
        return rest, development
    if len(kept) < len(rest):
        LOG.info("leaving out %d near-copies of posts held out", len(rest) - len(kept))
    return kept, development


def data_hashes(plan: Recipe, data: Path, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """SHA-256 of each file that a training of `plan` on the corpora in `data` depends on, by name.

    Raises CorpusError for an unknown source and a missing file.
    """
    paths = files_read(plan, data, leave_out)
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        raise CorpusError(f"labelled data: {', '.join(missing)} missing in {data}")
    return {name: file_sha256(path) for name, path in paths.items()}
