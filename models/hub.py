"""Labelled posts through the Hugging Face library `datasets`: from its hub, or a folder that it saved. Extra `hub`."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.corpora import CLASSES, CorpusError

PREFIX = "hub:"  #: before the name of a data set, where a path to labelled posts could stand
SCRIPT_FREE = "refs/convert/parquet"  # where the hub keeps tables of data sets that would run a script of their own
#: short names of what the recipes know -> (name on the hub, revision)
KNOWN: Mapping[str, tuple[str, str | None]] = {
    "imdb": ("stanfordnlp/imdb", None),
    "sentiment140": ("stanfordnlp/sentiment140", SCRIPT_FREE),
}
LABEL_COLUMNS = ("label", "sentiment")
#: what numbers without names stand for, by the set of those that occur; -1 marks rows without a label
NUMBERS: Mapping[frozenset[int], Mapping[int, str]] = {
    frozenset({0, 1}): {0: "negative", 1: "positive"},
    frozenset({0, 4}): {0: "negative", 4: "positive"},
    frozenset({0, 2, 4}): {0: "negative", 2: "neutral", 4: "positive"},
}
SHORT_NAMES = {"neg": "negative", "neu": "neutral", "pos": "positive"}
Rows = list[tuple[str, str]]  # (text, label name)


def is_on_hub(data: Path | str | None) -> bool:
    """Whether `hub:` and a name stand for the posts, in place of a path."""
    return str(data).startswith(PREFIX)


def path_of(data: Path | str) -> Path:
    """The path of labelled posts. Raises CorpusError for `hub:`, where only a path will do."""
    if is_on_hub(data):
        raise CorpusError(f"{data}: data sets by name are for the recipes of one task, and for bundles made by them")
    return Path(data)


def read_hub(name: str) -> dict[str, Rows]:
    """Rows of the splits `train` and, if it has one, `test` of a data set, whose labels are among `CLASSES`.

    `name`: one of `KNOWN`, another name on the hub, or a folder that `save_to_disk` wrote; a text column called text, a
    label column called label or sentiment. Runs no code of the data set's. Raises CorpusError.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        raise CorpusError(f"{PREFIX}{name} needs the library datasets: pip install 'sentiment-monitor[hub]'") from error
    try:
        found = _load(datasets, name)
        splits = {"train": found} if isinstance(found, datasets.Dataset) else dict(found)
    except (OSError, ValueError, RuntimeError) as error:  # its own errors are kinds of these, a missing network too
        raise CorpusError(f"{PREFIX}{name} cannot be loaded: {_first_line(error)}") from error
    if "train" not in splits:
        raise CorpusError(f"{PREFIX}{name} has no split train; it has {', '.join(map(str, splits))}")
    return {split: _rows(name, splits[split]) for split in ("train", "test") if split in splits}


def _load(datasets: Any, name: str) -> Any:
    if Path(name).is_dir():
        return datasets.load_from_disk(name)
    path, revision = KNOWN.get(name, (name, None))
    return datasets.load_dataset(path, revision=revision)


def _rows(name: str, table: Any) -> Rows:
    columns = table.column_names
    label = next((column for column in LABEL_COLUMNS if column in columns), None)
    if "text" not in columns or label is None:
        raise CorpusError(f"{PREFIX}{name} needs the columns text and label; it has {', '.join(columns)}")
    values = list(table[label])
    names = _label_names(name, table.features[label], set(values))
    return [(text, names[value]) for text, value in zip(table["text"], values, strict=True) if value in names and text]


def _label_names(name: str, feature: Any, values: set[Any]) -> dict[Any, str]:
    """Class names of the labels that occur. Raises CorpusError where one is none of ours; -1 is no label."""
    values = values - {-1, None}
    known: Mapping[Any, str] = NUMBERS.get(frozenset(values), {}) if all(isinstance(v, int) for v in values) else {}
    if hasattr(feature, "names"):
        known = dict(enumerate(feature.names))
    elif not known:
        known = {value: str(value) for value in values}
    names = {value: SHORT_NAMES.get(known[value].lower(), known[value].lower()) for value in values if value in known}
    unknown = sorted(
        {label for label in names.values() if label not in CLASSES} | {str(v) for v in values - set(names)}
    )
    if unknown:
        raise CorpusError(f"{PREFIX}{name} has the labels {', '.join(unknown[:5])}, none of {', '.join(CLASSES)}")
    return names


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
