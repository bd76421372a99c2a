"""The two charts of a benchmark's JSON: posts per second beside peers, and cost against posts in the store."""

from pathlib import Path
from typing import Any

SCORING = "Scoring, posts/s"
BY_SIZE = "Posts/s by posts in the store"
OURS, OTHERS, INK = "#2563a8", "#b9c0c8", "#22303c"


def draw(figures: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Write the charts whose figures are there; returns their paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    drawn = []
    if scoring := [figure for figure in figures if figure["section"] == SCORING]:
        drawn.append(_peers(scoring, folder / "peers.png"))
    if by_size := [figure for figure in figures if figure["section"] == BY_SIZE]:
        drawn.append(_by_size(by_size, folder / "growth.png"))
    return drawn


def _peers(figures: list[dict[str, Any]], path: Path) -> Path:
    from matplotlib import pyplot as plt

    peers = {figure["what"]: figure["value"] for figure in figures if figure["ratio"] is None}
    ours = sorted(figure["value"] for figure in figures if figure["ratio"] is not None)
    bars = sorted([*peers.items(), ("social-gru, this program", ours[len(ours) // 2])], key=lambda bar: bar[1])
    figure, axes = plt.subplots(figsize=(7.5, 0.5 * len(bars) + 1.1))
    values = [value for _, value in bars]
    colours = [OURS if "this program" in name else OTHERS for name, _ in bars]
    drawn = axes.barh([name for name, _ in bars], values, color=colours)
    axes.bar_label(drawn, labels=[f" {value:,.0f}" for value in values], color=INK)
    axes.set_xscale("log")
    axes.set_xlim(right=max(values) * 3)
    _finish(figure, axes, "Posts scored per second, text to score (logarithmic)", path)
    return path


def _by_size(figures: list[dict[str, Any]], path: Path) -> Path:
    from matplotlib import pyplot as plt

    sizes = [int(figure["what"].replace(",", "")) / 1e6 for figure in figures]
    rates = [figure["value"] for figure in figures]
    figure, axes = plt.subplots(figsize=(7.5, 3.0))
    axes.plot(sizes, rates, marker="o", color=OURS)
    for size, value in zip(sizes, rates, strict=True):
        axes.annotate(f"{value:,.0f}", (size, value), textcoords="offset points", xytext=(0, 8), ha="center", color=INK)
    axes.set_ylim(0, max(rates) * 1.25)
    axes.set_xlabel("million posts in the store")
    _finish(figure, axes, "Posts stored per second, Kafka to PostgreSQL", path)
    return path


def _finish(figure: Any, axes: Any, title: str, path: Path) -> None:
    from matplotlib import pyplot as plt

    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
