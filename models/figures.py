"""Pictures of a bundle: learning curves, confusion matrix, reliability diagram. matplotlib is loaded when drawing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

INK, PALE, BLUE = "#22303c", "#9db2c4", "#1769aa"
CURVES, CONFUSION, RELIABILITY = "learning_curves.png", "confusion_matrix.png", "reliability.png"


@contextmanager
def canvas(path: Path) -> Iterator[Any]:
    """Axes of one picture, which is written to `path` as a PNG at the end. Raises ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    figure.savefig(path, format="png", metadata={"Software": None})  # the same picture gives the same bytes


def draw_curves(history: Sequence[Mapping[str, Any]], measures: Mapping[str, str], path: Path) -> None:
    """Lines of `measures` (key in an epoch of `history` -> name shown) over the epochs, in their order."""
    epochs = np.arange(1, len(history) + 1)
    with canvas(path) as axes:
        for key, name in measures.items():
            axes.plot(epochs, [epoch.get(key, np.nan) for epoch in history], marker="o", label=name)
        axes.set(xlabel="epoch", ylabel="value", title="Learning curves", xticks=epochs)
        axes.legend()


def draw_confusion(table: Sequence[Sequence[int]], names: Sequence[str], path: Path) -> None:
    """A confusion table (C, C), rows the truth; colour and percent are shares of a row."""
    counts = np.array(table)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with canvas(path) as axes:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else INK
            text = f"{count:,}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=colour)
        ticks = range(len(names))
        axes.set(xticks=ticks, yticks=ticks, xticklabels=names, yticklabels=names)
        axes.set(xlabel="predicted", ylabel="label", title="Confusion matrix")


def draw_reliability(bins: Sequence[Sequence[float]], path: Path) -> None:
    """Share of right predictions over the confidence; `bins` as `measures.reliability` gives them.

    A dot's area grows with its posts.
    """
    confidence, right, counts = np.array(bins, float).T
    with canvas(path) as axes:
        axes.plot([0, 1], [0, 1], color=PALE, linestyle="--", label="perfectly calibrated")
        axes.plot(confidence, right, color=BLUE)
        axes.scatter(confidence, right, s=20 + 180 * counts / counts.max(), color=BLUE, label="posts by confidence")
        axes.set(xlabel="confidence", ylabel="share that is right", title="Reliability", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left")


def draw_all(folder: Path, history: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> None:
    """Draw into a bundle's folder what there is: `history` of its training, `figures` of its headline set."""
    if history:
        measures = {
            key: key.replace("_", " ") for key in ("loss", "development_loss", "macro_recall") if key in history[0]
        }
        draw_curves(history, measures, folder / CURVES)
    draw_confusion(figures["confusion"], list(figures["classes"]), folder / CONFUSION)
    if "reliability" in figures:
        draw_reliability(figures["reliability"], folder / RELIABILITY)
