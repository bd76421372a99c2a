"""Cards of long trainings: they reach what their recipes are held to, and README says of them what they say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CARDS = sorted((ROOT / "models" / "recipes" / "reports").iterdir())
README = (ROOT / "README.md").read_text(encoding="utf-8")
Rows = dict[str, dict[str, float]]


def rows_of(card: str, first: str) -> Rows:
    """The figures of a table whose header begins with that cell, by the first cell of each row and by column."""
    lines = [line for line in card.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    starts = [i for i, row in enumerate(cells) if row[0] == first]
    if not starts:
        return {}
    header, found = cells[starts[0]], {}
    for row in cells[starts[0] + 2 :]:
        if len(row) != len(header):
            break
        numbers = {name: re.match(r"0\.\d+", cell) for name, cell in zip(header, row, strict=True)}
        found[row[0]] = {name: float(number[0]) for name, number in numbers.items() if number}
    return found


def main_figures(card: str) -> dict[str, float]:
    """Of the recipe itself: the mean of its runs where there are several, else of its one bundle."""
    return rows_of(card, "run").get("main") or next(iter(rows_of(card, "set").values()))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_kept_card_reaches_its_bar(path: Path) -> None:
    """The figure that the recipe is held to, which is its accuracy where it does not say macro recall."""
    card = path.read_text(encoding="utf-8")
    bar = re.search(r"^The recipe is held to: (.*?(0\.\d+).*)$", card, re.MULTILINE)
    if bar is None:
        is_of_others = path.stem.startswith("social-")  # on posts that are not its recipe's own
        assert is_of_others or path.stem in {"imdb-ablation", "text-cnn"}  # nothing is asked of these
        return
    measure = "macro recall" if "macro recall" in bar[1] else "accuracy"
    assert main_figures(card)[measure] >= float(bar[2])


def test_the_padding_of_the_seed_costs_what_it_has_to() -> None:
    """0.02 at least, as the recipe says."""
    runs = rows_of((ROOT / "models/recipes/reports/tweets3-lstm.md").read_text(encoding="utf-8"), "run")
    assert runs["main"]["accuracy"] - runs["padding is read, as the seed does"]["accuracy"] >= 0.02


def told_differences() -> list[tuple[str, float]]:
    """(card, how much its main row is said to be above another) of README."""
    parts = re.split(r"\]\((models/recipes/reports/[\w-]+\.md)\)", README)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return [(path, float(figure)) for path, text in pairs for figure in re.findall(r"(0\.\d{3}) above", text)]


@pytest.mark.parametrize(("path", "difference"), told_differences(), ids=lambda value: Path(str(value)).stem)
def test_a_difference_that_is_told_is_that_of_two_rows(path: str, difference: float) -> None:
    """Of the same measure, to the third digit."""
    runs = rows_of((ROOT / path).read_text(encoding="utf-8"), "run")
    found = [
        runs["main"][measure] - figures[measure]
        for figures in runs.values()
        for measure in ("accuracy", "macro recall")
    ]
    assert any(abs(difference - one) < 0.0006 for one in found)  # half a digit, and the card's own rounding


def test_differences_are_told() -> None:
    """Of as many recipes as have variants at least."""
    assert len(told_differences()) >= 7
