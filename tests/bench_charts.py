"""The two charts of a benchmark's JSON: posts per second beside peers, and cost against posts in the store."""

from pathlib import Path
from typing import Any

SCORING = "Scoring, posts/s"
BY_SIZE = ("Posts/s into PostgreSQL by posts in the store", "Posts/s into SQLite by posts in the store")
TURNS = ("Refresh and evaluation of 100 brands",)
OURS, ACCENT, OTHERS, INK = "#2563a8", "#c2571a", "#b9c0c8", "#22303c"


def draw(figures: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Write the charts whose figures are there; returns their paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    drawn = []
    scoring = [figure for figure in figures if figure["section"] == SCORING]
    if any(figure["ratio"] is not None for figure in scoring):
        drawn.append(_peers(scoring, folder / "peers.png"))
    growth = [figure for figure in figures if figure["section"] in {*BY_SIZE, *TURNS}]
    if growth:
        drawn.append(_growth(growth, folder / "growth.png"))
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
    _tidy(axes, "Posts scored per second, text to score (logarithmic)")
    _save(figure, path)
    return path


PANELS = (
    (BY_SIZE, "Posts stored per second", "million posts in the store"),
    (TURNS, "Refresh and evaluation, ms", "million posts behind the totals"),
)


def _growth(figures: list[dict[str, Any]], path: Path) -> Path:
    """A panel for each group of sections of which one is there: `N posts, STORE` by store."""
    from matplotlib import pyplot as plt

    panels = [panel for panel in PANELS if any(figure["section"] in panel[0] for figure in figures)]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.0), squeeze=False)
    for panel, (sections, title, label) in zip(axes[0], panels, strict=True):
        shown = [each for each in figures if each["section"] in sections]
        for store, colour in (("PostgreSQL", OURS), ("SQLite", ACCENT)):
            points = [_point(each) for each in shown if each["what"].endswith(store)]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", color=colour, label=store)
        panel.set_ylim(0, 1.25 * max(each["value"] for each in shown))
        panel.set_xlabel(label)
        panel.legend(frameon=False, loc="upper center", ncols=2)
        _tidy(panel, title)
    _save(figure, path)
    return path


def _point(figure: dict[str, Any]) -> tuple[float, float]:
    return int(figure["what"].partition(" ")[0].replace(",", "")) / 1e6, figure["value"]


def _tidy(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
