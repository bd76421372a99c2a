"""Labelled posts for training and evaluation: the public corpora, or one's own CSV.

`load_sources` keeps the split `2016test` out, also where it hides in another file: whatever has the key of one of its
texts is dropped.
"""

import csv
import gzip
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from models.composed import compose
from models.preparation import prepare_subword

LOG = logging.getLogger(__name__)
CLASSES = ("negative", "neutral", "positive")
DATA_VARIABLE = "SENTIMENT_DATA"
DEFAULT_DATA = "../shared/data"  # beside a checkout, as the README says under "Development"
OWN_LABELS = "labels"  #: what a bundle's recipe calls posts of one's own
TEST_SPLIT = "2016test"
DEVELOPMENT_YEARS = ("2013", "2014", "2015")  #: of the SemEval tweets that are held out for development
MIN_OWN_POSTS = 100
MIN_OWN_POSTS_OF_CLASS = 10  #: of each class that occurs
COMPOSED = "composed"  #: the generated source
COMPOSED_POSTS, COMPOSED_SEED = 100_000, 2013
POSTS_FOLDER = Path(__file__).parent.parent / "tests"  # absent from an installed wheel
CHECK_SETS = ("plain_posts", "hard_posts")
#: rows that no mixed recipe learns from, by the column `source` of each corpus: of crowdflower those whose "positive"
#: says that a team cheated, and those of several subjects that have such rows, too; of uci IMDB's, of its test reviews
SET_ASIDE = {"crowdflower": ("dfe_deflategate", "dfe_other"), "uci": ("uci_imdb",)}
_NOT_IN_KEY = re.compile(r"xx[a-z]+|[\W_]+")


class CorpusError(Exception):
    """Labelled posts that are missing or cannot be read; the message says which and what would help."""


@dataclass(frozen=True)
class Corpus:
    """Texts with their labels as indices into `CLASSES`; `keys` are equal for texts that are equal to a reader."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Iterable[int]) -> "Corpus":
        """The rows at `indices`, in that order."""
        chosen = list(indices)
        texts, labels = tuple(self.texts[i] for i in chosen), tuple(self.labels[i] for i in chosen)
        return Corpus(texts, labels, tuple(self.keys[i] for i in chosen))

    def without(self, keys: set[str]) -> "Corpus":
        """The rows whose key is not among `keys`."""
        return self.select(i for i, key in enumerate(self.keys) if key not in keys)


def text_key(text: str) -> str:
    """Letters and digits of a post, without case, links, mentions and emoji: near-copies have the same key."""
    return _NOT_IN_KEY.sub("", prepare_subword(text).lower())


def corpus_of(rows: Iterable[tuple[str, str]]) -> Corpus:
    """A corpus of (text, label name) rows; rows with another label or the key of an earlier row are left out."""
    kept: dict[str, tuple[str, int]] = {}
    for text, label in rows:
        key = text_key(text) or text
        if label in CLASSES and key not in kept:
            kept[key] = (text, CLASSES.index(label))
    return Corpus(tuple(t for t, _ in kept.values()), tuple(i for _, i in kept.values()), tuple(kept))


def has_sides(corpus: Corpus) -> bool:
    """Whether any post is positive or negative."""
    return bool(set(corpus.labels) - {CLASSES.index("neutral")})


def merge(corpora: Iterable[Corpus]) -> Corpus:
    """All rows, of equal keys the first."""
    rows: dict[str, tuple[str, int]] = {}
    for corpus in corpora:
        for key, text, label in zip(corpus.keys, corpus.texts, corpus.labels, strict=True):
            rows.setdefault(key, (text, label))
    return Corpus(tuple(text for text, _ in rows.values()), tuple(label for _, label in rows.values()), tuple(rows))


def check_set_files() -> dict[str, Path]:
    """The files of the hundred plain and the hundred hard posts, where the project's tests are at hand."""
    paths = {name: POSTS_FOLDER / f"{name}.csv" for name in CHECK_SETS}
    return {name: path for name, path in paths.items() if path.exists()}


def check_sets() -> dict[str, Corpus]:
    """The posts of `check_set_files`."""
    return {name: load_csv(path) for name, path in check_set_files().items()}


def find_data(path: Path | None = None) -> Path:
    """The folder of the corpora: `path`, else `SENTIMENT_DATA`, else `../shared/data`. Raises CorpusError."""
    named = path or os.environ.get(DATA_VARIABLE)
    folder = Path(named or DEFAULT_DATA)
    if not folder.exists():
        where = f" at {folder}" if named else ""
        raise CorpusError(
            f"there are no labelled posts{where}: set {DATA_VARIABLE} to the folder of the corpora,"
            " or name it, or a CSV with the columns text and label, with --data"
        )
    return folder


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV, plain or gzipped. Raises CorpusError where it is missing, truncated or not UTF-8."""
    if not path.exists():
        raise CorpusError(f"labelled data: {path} is missing")
    try:
        with _open_text(path) as lines:
            reader = csv.DictReader(lines)
            try:
                yield from reader
            except csv.Error as error:
                raise CorpusError(f"labelled data: {path} line {reader.line_num + 1}: {error}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"labelled data: {path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except (OSError, EOFError) as error:
        raise CorpusError(f"labelled data: {path} cannot be read: {error}") from error


def read_own_rows(path: Path) -> Iterator[dict[str, str]]:
    """`read_rows` of a CSV of one's own: names of columns in any case, with blanks around them, or the exact ones."""
    for row in read_rows(path):
        named = {name.strip().lower() if name else name: value for name, value in row.items()}
        yield named | {name: row[name] for name in named if name in row}


def named_columns(columns: Iterable[str | None]) -> str:
    """What a CSV has instead of the columns that are needed, in words."""
    found = [name for name in columns if name]
    other = next((name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if any(mark in f for f in found)), None)
    told = ", ".join(" ".join(name.split()) for name in found) or "none"
    return f"it has {told}" + (f"; commas must part them, not {other}" if other else "")


def load_csv(path: Path) -> Corpus:
    """One's own labelled posts: a CSV with the columns text and label (negative, neutral, positive).

    Posts that are equal to a reader (`text_key`) count once. Raises CorpusError for a missing column, a row that is cut
    off, an empty text or a label with another name (the first with its line), or fewer than two classes.
    """
    rows, problems = [], []
    for line, row in enumerate(read_own_rows(path), start=2):
        if not {"text", "label"} <= set(row):
            raise CorpusError(f"{path} needs the columns text and label; {named_columns(row)}")
        problem = _problem_of(row)
        if problem:
            problems.append(f"line {line}: {problem}")
        else:
            rows.append((row["text"], row["label"]))
    if problems:
        more = f"; {len(problems) - 1} more of its rows cannot be used" if len(problems) > 1 else ""
        raise CorpusError(f"{path} {problems[0]}{more}")
    if not rows:
        raise CorpusError(f"{path} has no posts")
    if len({label for _, label in rows}) < 2:
        raise CorpusError(f"{path} has posts of fewer than two classes")
    corpus = corpus_of(rows)
    if len(corpus) < len(rows):
        _tell_of_copies(path, len(rows) - len(corpus), len(rows))
    return corpus


@cache
def _tell_of_copies(path: Path, n_copies: int, n_rows: int) -> None:
    """Once, however often a file is read."""
    told = "of %d posts in %s %d have the letters and digits of an earlier one, whose label counts; they are left out"
    LOG.warning(told, n_rows, path.name, n_copies)


def _problem_of(row: Mapping[str, str | None]) -> str:
    """Why a row with the columns text and label cannot be used; empty where it can."""
    text, label = row["text"], row["label"]
    if text is None or label is None:
        return "it is cut off: it has fewer fields than the header"
    if label not in CLASSES:
        more = "; a text with a comma needs quotes around it" if None in row else ""
        return f"label {label!r} is none of {', '.join(CLASSES)}{more}"
    return "" if text.strip() else "the text is empty"


def load_own(path: Path) -> Corpus:
    """One's own labelled posts. Raises CorpusError where they are too few to learn from and to hold some out."""
    corpus = load_csv(path)
    counts = {name: corpus.labels.count(i) for i, name in enumerate(CLASSES)}
    if len(corpus) < MIN_OWN_POSTS or any(0 < n < MIN_OWN_POSTS_OF_CLASS for n in counts.values()):
        found = ", ".join(f"{n} {name}" for name, n in counts.items())
        raise CorpusError(
            f"{path} has {len(corpus)} different posts ({found}); training needs at least {MIN_OWN_POSTS},"
            f" and {MIN_OWN_POSTS_OF_CLASS} of each label that occurs"
        )
    return corpus


#: of each source but the generated one
FILES: Mapping[str, str] = {
    "semeval": "semeval_2013_2016.csv.gz",
    "crowdflower": "crowdflower_dfe.csv.gz",
    "emoticon2011": "emoticon2011.csv.gz",
    "goemotions": "goemotions.csv.gz",
    "sanders": "sanders.csv.gz",
    "sentiment140": "sentiment140_sample.csv.gz",
    "sst_phrases": "sst5_train_phrases.csv.gz",
    "sst_sentences": "sst5_sentences.csv.gz",
    "tweet_extraction": "tweet_sentiment_extraction.csv.gz",
    "twitter_entity": "twitter_entity.csv.gz",
    "uci": "uci_sentences.csv.gz",
}


def _semeval(folder: Path, is_wanted: Callable[[Mapping[str, str]], bool]) -> Corpus:
    rows = read_rows(folder / FILES["semeval"])
    return corpus_of((row["text"], row["label"]) for row in rows if is_wanted(row))


def _is_for_training(row: Mapping[str, str]) -> bool:
    return row["split"] != TEST_SPLIT and row["in_tweeteval_val"] != "1"


def _one_of_each_group(folder: Path) -> Corpus:
    """Near-copies in this file share `source`: the first three of each group are kept."""
    seen: dict[str, int] = {}
    rows = []
    for row in read_rows(folder / FILES["twitter_entity"]):
        seen[row["source"]] = seen.get(row["source"], 0) + 1
        if seen[row["source"]] <= 3:
            rows.append((row["text"], row["label"]))
    return corpus_of(rows)


def _plain(name: str) -> Callable[[Path], Corpus]:
    """A loader of text and label columns, leaving out rows that are `SET_ASIDE`."""

    def load(folder: Path) -> Corpus:
        rows = read_rows(folder / FILES[name])
        return corpus_of((r["text"], r["label"]) for r in rows if not _is_set_aside(name, r))

    return load


def _is_set_aside(name: str, row: Mapping[str, str]) -> bool:
    return row.get("source") in SET_ASIDE.get(name, ())


LOADERS: Mapping[str, Callable[[Path], Corpus]] = {
    **{name: _plain(name) for name in FILES},
    "semeval": lambda folder: _semeval(folder, _is_for_training),
    "twitter_entity": _one_of_each_group,
    COMPOSED: lambda _: corpus_of(compose(COMPOSED_POSTS, COMPOSED_SEED)),
}


def load_test(folder: Path) -> Corpus:
    """SemEval `2016test`: left out of training and calibration, and of every choice but `class_shares.PRIOR_POSTS`."""
    return _semeval(folder, lambda row: row["split"] == TEST_SPLIT)


def check_sources(names: Iterable[str]) -> None:
    """Raise CorpusError, with the names there are, where no corpus has one of `names`."""
    unknown = sorted(set(names) - set(LOADERS))
    if unknown:
        raise CorpusError(f"no corpus is called {', '.join(unknown)}; there are {', '.join(sorted(LOADERS))}")


def load_sources(folder: Path, names: Iterable[str]) -> dict[str, Corpus]:
    """The corpora called `names`, without the texts of `2016test`. Raises CorpusError for an unknown name."""
    names = list(names)
    check_sources(names)
    kept_out = set(load_test(folder).keys)
    return {name: LOADERS[name](folder).without(kept_out) for name in names}


def load_set_aside(folder: Path, name: str) -> Corpus:
    """Posts of a corpus that are `SET_ASIDE`, without the texts of `2016test` and of the rest of it; mostly none."""
    if name not in SET_ASIDE:
        return corpus_of(())
    aside = corpus_of((r["text"], r["label"]) for r in read_rows(folder / FILES[name]) if _is_set_aside(name, r))
    return aside.without({*load_test(folder).keys, *LOADERS[name](folder).keys})


def hold_out(corpus: Corpus, n_posts: int) -> tuple[Corpus, Corpus]:
    """(rest, held out): the `n_posts` posts whose keys have the smallest SHA-256, whatever their order in the file."""
    order = sorted(range(len(corpus)), key=lambda i: hashlib.sha256(corpus.keys[i].encode("utf-8", "replace")).digest())
    return corpus.select(sorted(order[n_posts:])), corpus.select(sorted(order[:n_posts]))


def load_development(folder: Path, n_posts: int) -> Corpus:
    """The SemEval tweets of 2013 to 2015 that stop a training early and choose its settings. Raises CorpusError."""
    early = _semeval(folder, lambda row: _is_for_training(row) and row["split"].startswith(DEVELOPMENT_YEARS))
    return hold_out(early.without(set(load_test(folder).keys)), n_posts)[1]
