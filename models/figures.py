"""Pictures of a bundle: learning curves, confusion matrix, reliability diagram. matplotlib is loaded when drawing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from models.measures import FloatArray, IntArray

INK, PALE, BLUE, RED = "#22303c", "#9db2c4", "#1769aa", "#c62839"
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


def draw_reliability(truth: IntArray, probabilities: FloatArray, path: Path, n_bins: int = 15) -> None:
    """Share of right predictions over the confidence, in equal-width bins; dots are as large as their posts many."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    filled = counts > 0
    means = [np.bincount(bins, values, n_bins)[filled] / counts[filled] for values in (confidence, right)]
    with canvas(path) as axes:
        axes.plot([0, 1], [0, 1], color=PALE, linestyle="--", label="perfectly calibrated")
        axes.plot(*means, color=BLUE)
        axes.scatter(*means, s=20 + 180 * counts[filled] / counts.max(), color=BLUE, label="posts by confidence")
        axes.set(xlabel="confidence", ylabel="share that is right", title="Reliability", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left")
