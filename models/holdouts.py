"""What a training on the corpora never sees: development tweets, a random hold-out, test splits, near-copies of these.

All of it follows from the recipe and the files that `files_read` names, so that an evaluation finds the same posts
again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

from models.composed import grammar_files
from models.corpora import (
    CLASSES,
    COMPOSED,
    FILES,
    Corpus,
    CorpusError,
    check_set_files,
    check_sets,
    check_sources,
    load_development,
    load_sources,
    load_test,
    merge,
)
from models.near_copies import NearCopies
from models.recipe import Recipe

DEVELOPMENT_SOURCE = "semeval"
DEVELOPMENT = "development"  # beside the sources, none of which is called so
EMPTY = Corpus((), (), ())


@dataclass(frozen=True)
class Split:
    """Posts to train on by source, and the others.

    `development` stops the training early, `calibration` fits the calibration besides, `measuring` measures it, and
    is in `measured_sources` by source; `left_out` are whole sources.
    """

    training: Mapping[str, Corpus]
    development: Corpus
    calibration: Corpus = EMPTY
    measuring: Corpus = EMPTY
    left_out: Mapping[str, Corpus] = field(default_factory=dict)
    measured_sources: Mapping[str, Corpus] = field(default_factory=dict)

    def cleared(self) -> "Split":
        """The same, but nothing of `measuring` is a near-copy of what chose the weights or fits the calibration."""
        near = NearCopies((*self.development.texts, *self.calibration.texts))
        sources = {name: corpus.select(near.without(corpus.texts)) for name, corpus in self.measured_sources.items()}
        kept = self.measuring.select(near.without(self.measuring.texts))
        return replace(self, measuring=kept, measured_sources=sources)


def split(plan: Recipe, data: Path, leave_out: tuple[str, ...] = ()) -> Split:
    """The split of the corpora in `data` that `plan` asks for, whose sources are without those in `leave_out`.

    The random hold-out (`measuring_posts`, then `calibration_posts`) comes from the last stage's sources with all three
    classes, each post alike, by the hash of its key. Where SemEval is left out, so are its development posts: more
    random ones take their place. Raises CorpusError.
    """
    names = sorted({name for stage in plan.stages for name in stage.posts} - set(leave_out))
    left_out = load_sources(data, leave_out)
    has_development = DEVELOPMENT_SOURCE not in leave_out
    development = load_development(data, plan.development_posts) if has_development else EMPTY
    held = set(development.keys)
    sources = {name: corpus.without(held) for name, corpus in load_sources(data, names).items()}
    if left_out:
        cleared = _clear({**sources, DEVELOPMENT: development}, list(left_out.values()))
        development, sources = cleared.pop(DEVELOPMENT), cleared
    last = [name for name in plan.stages[-1].posts if name in sources]
    measured = {name: sources[name] for name in last if _can_be_measured(name, sources[name])}
    numbers = plan.measuring_posts, 0 if has_development else plan.development_posts, plan.calibration_posts
    measuring, more, calibration = _first(merge(measured.values()), numbers)
    development = development if has_development else more
    if not len(development):
        raise CorpusError("no posts of all three classes are left to stop the training early")
    training = _clear(sources, [development, measuring, calibration, load_test(data), *check_sets().values()])
    return Split(training, development, calibration, measuring, left_out, _by_source(measuring, measured))


def files_read(plan: Recipe, data: Path, leave_out: tuple[str, ...] = ()) -> dict[str, Path]:
    """The files that `split` depends on, by name: corpora, check sets, and the grammar of generated posts.

    Raises CorpusError for an unknown source.
    """
    names = {name for stage in plan.stages for name in stage.posts} | {DEVELOPMENT_SOURCE, *leave_out}
    check_sources(names)
    paths = [data / FILES[name] for name in sorted(names - {COMPOSED})] + list(check_set_files().values())
    paths += grammar_files().values() if COMPOSED in names else ()
    return {path.name: path for path in paths}


def _can_be_measured(name: str, corpus: Corpus) -> bool:
    return name != COMPOSED and set(corpus.labels) == set(range(len(CLASSES)))


def _first(pool: Corpus, numbers: Sequence[int]) -> list[Corpus]:
    """So many posts with the smallest hashes, then so many of the next ones, and so on."""
    order = sorted(range(len(pool)), key=lambda i: hashlib.sha256(f"hold-out {pool.keys[i]}".encode()).digest())
    ends = list(accumulate(numbers))
    return [pool.select(order[end - n : end]) for n, end in zip(numbers, ends, strict=True)]


def _by_source(posts: Corpus, sources: Mapping[str, Corpus]) -> dict[str, Corpus]:
    """The `posts` that each source has; one that several have counts in each, with the first one's label."""
    return {
        name: posts.select(i for i, key in enumerate(posts.keys) if key in keys)
        for name, keys in ((name, set(corpus.keys)) for name, corpus in sources.items())
    }


def _clear(sources: Mapping[str, Corpus], guarded: list[Corpus]) -> dict[str, Corpus]:
    """The sources without the posts of `guarded` and near-copies of them."""
    keys = {key for corpus in guarded for key in corpus.keys}
    near = NearCopies(text for corpus in guarded for text in corpus.texts)
    kept = {name: corpus.without(keys) for name, corpus in sources.items()}
    return {name: corpus.select(near.without(corpus.texts)) for name, corpus in kept.items()}
