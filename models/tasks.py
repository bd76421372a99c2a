"""What the seeds' recipes learn: each task's posts, divided into those to train on, to choose by and to test on.

From the corpora under `SENTIMENT_DATA`, from a CSV of one's own, or through Hugging Face's `datasets`. Texts that are
equal to a reader are on one side of every division: all of one key, and of those in a published test split none is
trained on.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from models import social_posts
from models.corpora import (
    CLASSES,
    FILES,
    Corpus,
    CorpusError,
    corpus_of,
    find_data,
    load_own,
    load_test,
    read_rows,
)
from models.divisions import fold
from models.hub import PREFIX, Rows, is_on_hub, read_hub
from models.manifest import CLASSES_THREE, CLASSES_TWO, file_sha256
from models.measures import IntArray

N_FOLDS = 5
DEVELOPMENT_PARTS = 10  # one of so many parts of what is not tested on
NOT_AVAILABLE = "Not Available"  # what stands for a deleted tweet in the seed's file
_TAG, _NOT_IN_KEY = re.compile(r"<[^<>]+>"), re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Split:
    """One division. `read_test` is for the final figure and is called once; `test_name` says of what it is.

    `classes` are the task's; labels of the corpora are indices into `CLASSES`: `class_indices` has them as a network
    of the task does. `hashes`: SHA-256 of each file read; `beside`: of what else decides which posts these are.
    """

    test_name: str
    classes: tuple[str, ...]
    train: Corpus
    development: Corpus
    read_test: Callable[[], Corpus]
    hashes: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A task's classes, how many divisions its figure is the mean of, and who reads one: (folder, its number).

    `files` names those that lie in the folder of the corpora; `beside` gives the others that its posts depend on, by
    name. `takes` says in words which posts of the files these are, where not all are taken.
    """

    classes: tuple[str, ...]
    n_splits: int
    files: Callable[[], tuple[str, ...]]
    read: Callable[[Path, int], tuple[Corpus, Callable[[], Corpus]]]
    beside: Callable[[], Mapping[str, Path]] = dict
    takes: str = ""


def class_indices(corpus: Corpus, classes: tuple[str, ...]) -> IntArray:
    """Labels (n,) as indices into `classes`. Raises KeyError for a label that is not among them."""
    places = {CLASSES.index(name): place for place, name in enumerate(classes)}
    return np.array([places[label] for label in corpus.labels], np.int64)


def find_task(name: str) -> Task:
    """The task of that name. Raises CorpusError with the names there are."""
    if name not in TASKS:
        raise CorpusError(f"no task is called {name}; there are {', '.join(sorted(TASKS))}")
    return TASKS[name]


def load_task(name: str, data: Path | str | None = None, split: int = 0) -> Split:
    """Division number `split`, from 0, of a task's posts.

    `data`: the folder of the corpora (default `SENTIMENT_DATA`), a CSV of one's own with text and label columns, or
    `hub:` and the name of a data set. The last two are what is learnt then, whatever the task's own posts are. Raises
    CorpusError for an unknown task, missing or unusable posts, and a number that the task does not have.
    """
    task = find_task(name)
    if not 0 <= split < max(task.n_splits, 1):
        raise CorpusError(f"{name} has {task.n_splits} splits, numbered from 0: there is no number {split}")
    if is_on_hub(data):
        return _of_hub(str(data).removeprefix(PREFIX), split)
    place = find_data(None if data is None else Path(data))
    if place.is_file():
        own = load_own(place)
        rest, test = fold(own, split, N_FOLDS, "test")
        hashes = {place.name: file_sha256(place)}
        return _divided(f"{place.stem} test", _classes_of(own, str(place)), rest, lambda: test, hashes)
    files = task.files()
    missing = [file for file in files if not (place / file).is_file()]
    if missing:
        raise CorpusError(f"{name} needs {', '.join(missing)} in {place}")
    rest, read_test = task.read(place, split)
    hashes = {file: file_sha256(place / file) for file in files}
    beside = {file: file_sha256(path) for file, path in task.beside().items()}
    return replace(_divided(f"{name} test", task.classes, rest, read_test, hashes), beside=beside)


def is_own(data: Path | str | None, task: str) -> bool:
    """Whether `load_task` reads other posts than the task's. Raises CorpusError where there are none."""
    if is_on_hub(data):
        return data != f"{PREFIX}{task}"
    return find_data(None if data is None else Path(data)).is_file()


def _divided(
    test_name: str, classes: tuple[str, ...], rest: Corpus, read_test: Callable[[], Corpus], hashes: Mapping[str, str]
) -> Split:
    train, development = fold(rest, 0, DEVELOPMENT_PARTS, "development")
    return Split(test_name, classes, train, development, read_test, hashes)


def _classes_of(corpus: Corpus, where: str) -> tuple[str, ...]:
    """Two or three classes, by the labels that occur. Raises CorpusError for neutral and one side."""
    found = {CLASSES[label] for label in corpus.labels}
    if not found >= set(CLASSES_TWO):
        missing = ", ".join(sorted(set(CLASSES_TWO) - found))
        raise CorpusError(f"{where} has no {missing} posts: both sides are needed, with or without neutral ones")
    return CLASSES_THREE if "neutral" in found else CLASSES_TWO


def _of_hub(name: str, split: int) -> Split:
    splits = read_hub(name)
    rest = _long_texts(splits["train"])
    if "test" in splits:
        test = _long_texts(splits["test"], repeats=True)
        rest = rest.without(set(test.keys))
    else:
        rest, test = fold(rest, split, N_FOLDS, "test")
    digest = hashlib.sha256(repr(sorted(splits.items())).encode("utf-8", "replace")).hexdigest()
    named = f"{PREFIX}{name}"
    return _divided(f"{named} test", _classes_of(rest, named), rest, lambda: test, {named: digest})


def _key_of_long_text(text: str) -> str:
    """Letters and digits without case and tags, hashed: as `corpora.text_key` for reviews, in a fraction of its time.

    It tells apart what differs in links or mentions only, of which reviews have hardly any.
    """
    letters = _NOT_IN_KEY.sub("", _TAG.sub(" ", text.lower()))
    return hashlib.blake2b(letters.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _long_texts(rows: Iterable[tuple[str, str]], *, repeats: bool = False) -> Corpus:
    """A corpus of (text, label name) rows; those with the key of an earlier row are left out unless `repeats`."""
    kept: dict[str, tuple[str, int, str]] = {}
    for number, (text, label) in enumerate(rows):
        key = _key_of_long_text(text)
        kept.setdefault(f"{key}{number}" if repeats else key, (text, CLASSES.index(label), key))
    texts, labels, keys = zip(*kept.values(), strict=True) if kept else ((), (), ())
    return Corpus(texts, labels, keys)


def _imdb(folder: Path, _split: int) -> tuple[Corpus, Callable[[], Corpus]]:
    """The published halves: all 25,000 test reviews count, and none of them is in the training half."""

    def read(half: str) -> Rows:
        return [(row["text"], row["label"]) for row in read_rows(folder / f"imdb_{half}.csv.gz")]

    tested = {_key_of_long_text(text) for text, _ in read("test")}
    return _long_texts(read("train")).without(tested), lambda: _long_texts(read("test"), repeats=True)


def _sentiment140(folder: Path, split: int) -> tuple[Corpus, Callable[[], Corpus]]:
    """A stratified fifth of the part that is a random sample in time."""
    rows = read_rows(folder / FILES["sentiment140"])
    return _fifth(((row["text"], row["label"]) for row in rows if row["part"] == "random"), split)


def _tweets3(folder: Path, split: int) -> tuple[Corpus, Callable[[], Corpus]]:
    """The seed's own file; `Not Available`, empty and stray header rows go."""
    rows = read_rows(folder / "idcattweet_train.csv.gz")
    return _fifth(
        (
            (row["Tweet"], row["Category"])
            for row in rows
            if row["Category"] in CLASSES and (row["Tweet"] or "").strip() not in {"", NOT_AVAILABLE}
        ),
        split,
    )


def _uci(folder: Path, split: int) -> tuple[Corpus, Callable[[], Corpus]]:
    rows = read_rows(folder / FILES["uci"])
    return _fifth(((row["text"], row["label"]) for row in rows), split)


def _fifth(rows: Iterable[tuple[str, str]], split: int) -> tuple[Corpus, Callable[[], Corpus]]:
    rest, test = fold(corpus_of(rows), split, N_FOLDS, "test")
    return rest, lambda: test


def _semeval(folder: Path, _split: int) -> tuple[Corpus, Callable[[], Corpus]]:
    """Tweets of 2013 to 2015; `2016test` is the test, and nothing with the key of one of its texts is trained on."""
    rows = read_rows(folder / FILES["semeval"])
    years = ("2013", "2014", "2015")
    rest = corpus_of(
        (r["text"], r["label"]) for r in rows if r["split"].startswith(years) and r["in_tweeteval_val"] != "1"
    )
    return rest.without(set(load_test(folder).keys)), lambda: load_test(folder)


def _named(*files: str) -> Callable[[], tuple[str, ...]]:
    """The files of a task that are always these."""
    return lambda: files


TASKS: Mapping[str, Task] = {
    "imdb": Task(CLASSES_TWO, 1, _named("imdb_train.csv.gz", "imdb_test.csv.gz"), _imdb),
    "sentiment140": Task(CLASSES_TWO, N_FOLDS, _named(FILES["sentiment140"]), _sentiment140),
    "tweets3": Task(CLASSES_THREE, N_FOLDS, _named("idcattweet_train.csv.gz"), _tweets3),
    "semeval": Task(CLASSES_THREE, 1, _named(FILES["semeval"]), _semeval),
    "social": Task(
        CLASSES_THREE,
        1,
        social_posts.corpora,
        social_posts.read_social,
        social_posts.files_beside,
        social_posts.TAKES,
    ),
    "uci": Task(CLASSES_TWO, N_FOLDS, _named(FILES["uci"]), _uci),
}
