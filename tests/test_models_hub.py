"""Hugging Face data sets that the library itself wrote: `make test-hub` runs these with `datasets` at hand.

It stays out of the other tests' packages: it brings pyarrow, with which pandas keeps texts in another way.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
from test_models_tasks import sided

from models.corpora import CLASSES, CorpusError
from models.hub import read_hub
from models.tasks import load_task


@pytest.fixture
def datasets() -> Any:
    """The library."""
    return pytest.importorskip("datasets", reason="needs the extra hub: make test-hub")


def save_dataset(
    datasets: Any, folder: Path, splits: dict[str, dict[str, list[object]]], names: list[str] | None = None
) -> str:
    """A data set that the library wrote itself; `names` of the classes make the label a ClassLabel."""
    tables = {}
    for name, columns in splits.items():
        tables[name] = datasets.Dataset.from_dict(columns)
        if names:
            tables[name] = tables[name].cast_column("label", datasets.ClassLabel(names=names))
    datasets.DatasetDict(tables).save_to_disk(str(folder))
    return f"hub:{folder}"


def columns_of(rows: list[tuple[str, str]], numbers: dict[str, int], label: str = "label") -> dict[str, list[object]]:
    """Columns of a data set."""
    return {"text": [text for text, _ in rows], label: [numbers[name] for _, name in rows]}


def test_a_data_set_with_a_test_split(datasets: Any, tmp_path: Path) -> None:
    """As imdb is: named classes, a test half, and a split without labels that is not read."""
    numbers = {"negative": 0, "positive": 1}
    train, test = sided(200, 1), [(f"{text} seen", label) for text, label in sided(50, 2)]
    splits = {"train": columns_of([*train, test[0]], numbers), "test": columns_of(test, numbers)}
    splits["unsupervised"] = {"text": ["x"], "label": [-1]}
    split = load_task("imdb", save_dataset(datasets, tmp_path / "imdb", splits, ["neg", "pos"]))
    assert split.classes == ("negative", "positive")
    assert len(split.read_test()) == 50
    assert len(split.train) + len(split.development) == 200
    assert dict(zip(split.train.texts, split.train.labels, strict=True)).items() <= {
        (text, CLASSES.index(label)) for text, label in train
    }


def test_a_data_set_with_numbers_for_labels(datasets: Any, tmp_path: Path) -> None:
    """As sentiment140 is: 0 and 4 in a column of another name, no test split; a fifth tests."""
    columns = columns_of(sided(200, 1), {"negative": 0, "positive": 4}, "sentiment")
    split = load_task("sentiment140", save_dataset(datasets, tmp_path / "tweets", {"train": columns}), 2)
    assert split.classes == ("negative", "positive")
    assert abs(len(split.read_test()) - 40) <= 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", "b"], "label": ["joy", "grief"]}, "has the labels grief, joy, none of"),
        ({"text": ["a", "b"], "label": [0, 7]}, "has the labels 0, 7, none of"),
        ({"body": ["a"], "label": [0]}, "needs the columns text and label; it has body, label"),
    ],
    ids=["names", "numbers", "columns"],
)
def test_other_data_sets_are_refused(
    datasets: Any, tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    """What the recipes cannot learn from is told before any training."""
    name = save_dataset(datasets, tmp_path / "other", {"train": columns})
    with pytest.raises(CorpusError, match=message):
        load_task("imdb", name)


@pytest.mark.usefixtures("datasets")
def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    """The library's own complaint, as one sentence."""
    with pytest.raises(CorpusError, match="cannot be loaded"):
        read_hub(str(tmp_path))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but a data set by name needs `datasets`."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match=r"sentiment-monitor\[hub\]"):
        load_task("imdb", "hub:imdb")
