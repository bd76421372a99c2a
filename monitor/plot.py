"""Draws daily rows: one panel a brand with mean_pos, its interval, ma3, the threshold and the days under it.

Where there are labels, the corrected means with their intervals too.
"""

import logging
import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitor.printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from monitor.store.daily import DailyRow

MAX_PANELS = 24  #: more brands than this do not fit on a page; those in trouble come first, then those with most posts
INK, GREY, PALE, BLUE, RED, GREEN = "#22303c", "#5b6b79", "#9db2c4", "#1769aa", "#c62839", "#2e7d4f"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#c9d3dc",
    "axes.labelcolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e7ecf0",
    "axes.axisbelow": True,
}


def draw(rows: "Sequence[DailyRow]", thresholds: Mapping[str, float], path: Path, max_panels: int = MAX_PANELS) -> None:
    """Write a PNG of `rows` to `path`; `thresholds` has each brand's. Without rows the picture says so.

    Raises OSError, and ImportError where matplotlib is missing.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # that it reads fonts at its first start
    brands = _foremost(rows, thresholds, max_panels)
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing"
        )  # a brand in a script that the font lacks shows boxes
        figure = Figure(figsize=_size(len(brands)), dpi=150, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        _fill(figure, brands, thresholds, n_brands=len({row.brand for row in rows}))
        figure.savefig(path, format="png")


def _foremost(rows: "Sequence[DailyRow]", thresholds: Mapping[str, float], n: int) -> "dict[str, list[DailyRow]]":
    """Rows of `n` brands, in alphabetical order: those with days under the threshold, then those with most posts."""
    by_brand: dict[str, list[DailyRow]] = defaultdict(list)
    for row in rows:
        by_brand[row.brand].append(row)

    def rank(brand: str) -> tuple[int, int]:
        mine = by_brand[brand]
        return -sum(row.ma3 < thresholds[brand] for row in mine), -sum(row.total for row in mine)

    return {brand: by_brand[brand] for brand in sorted(sorted(by_brand, key=rank)[:n])}


def _columns(n_panels: int) -> int:
    return 1 if n_panels <= 1 else 2 if n_panels <= 4 else 3


def _size(n_panels: int) -> tuple[float, float]:
    """Inches: one wide panel, or a grid of smaller ones."""
    if n_panels <= 1:
        return 10.0, 4.6
    n_columns = _columns(n_panels)
    return (11.0 if n_columns == 2 else 13.5), 1.1 + 2.7 * math.ceil(n_panels / n_columns)


def _fill(
    figure: "Figure", brands: "Mapping[str, list[DailyRow]]", thresholds: Mapping[str, float], n_brands: int
) -> None:
    if not brands:
        figure.text(0.5, 0.5, "no posts in these days", ha="center", va="center", fontsize=13, color=GREY)
        return
    n_columns = _columns(len(brands))
    n_rows = math.ceil(len(brands) / n_columns)
    panels = list(figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).flat)
    for panel, (brand, rows) in zip(panels, brands.items(), strict=False):
        _panel(panel, brand, rows, thresholds[brand])
    _limit(panels[0], brands, thresholds)
    drawn = [zip(*panel.get_legend_handles_labels(), strict=True) for panel in panels]
    legend = {label: handle for pairs in drawn for handle, label in pairs}  # labels may not be there for every brand
    place: Any = {"loc": "outside lower center", "ncols": len(legend), "frameon": False}
    figure.legend(list(legend.values()), list(legend), fontsize=9, **place)
    _trim(panels, len(brands), n_columns)
    if n_brands > len(brands):
        figure.suptitle(
            f"{len(brands)} of {n_brands} brands: those with days under the threshold, then those with most posts",
            fontsize=9,
            color=GREY,
        )


def _panel(panel: Any, brand: str, rows: "Sequence[DailyRow]", threshold: float) -> None:
    under = [row for row in rows if row.ma3 < threshold]
    _intervals(panel, rows)
    panel.plot(*_with_gaps(rows), color=PALE, linewidth=1, marker="o", markersize=3.2, label="mean_pos")
    panel.plot(_places(rows), [row.ma3 for row in rows], color=BLUE, linewidth=2.2, label="ma3")
    _corrected(panel, rows)
    panel.axhline(threshold, color=RED, linewidth=1.1, linestyle=(0, (5, 3)), label="threshold")
    marks = {"s": 34, "color": RED, "edgecolor": "white", "linewidth": 0.8, "zorder": 5}
    panel.scatter(_places(under), [row.ma3 for row in under], label="ma3 under threshold", **marks)
    _caption(panel, brand, rows, len(under))
    _date_axis(panel)


def _caption(panel: Any, brand: str, rows: "Sequence[DailyRow]", n_under: int) -> None:
    name = printable(brand if len(brand) <= 40 else brand[:39] + "…")
    panel.set_title(name, loc="left", pad=10, fontsize=11, fontweight="bold", parse_math=False)
    days = "no day" if n_under == 0 else "1 day" if n_under == 1 else f"{n_under} days"
    summary = f"{sum(row.total for row in rows):,} posts · {days} under"
    panel.set_title(summary, loc="right", pad=10, fontsize=8.5, color=RED if n_under else GREY)


def _date_axis(panel: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _places(rows: "Sequence[DailyRow]") -> list[float]:
    """Where the rows' days lie on the x axis, in days."""
    from matplotlib.dates import date2num

    return [float(date2num(row.day)) for row in rows]  # type: ignore[no-untyped-call]


def _intervals(panel: Any, rows: "Sequence[DailyRow]") -> None:
    """A pale bar for each mean's 95% interval, cut to [0, 1]; days of one post have none."""
    spans = [(row, row.mean_pos_low, row.mean_pos_high) for row in rows]
    known = [(row, max(0.0, low), min(1.0, high)) for row, low, high in spans if low is not None and high is not None]
    places = _places([row for row, _, _ in known])
    lows, highs = [low for _, low, _ in known], [high for _, _, high in known]
    panel.vlines(places, lows, highs, color=PALE, linewidth=3, alpha=0.35, label="95% interval")


def _corrected(panel: Any, rows: "Sequence[DailyRow]") -> None:
    """A small square for each corrected mean, on a thin bar for its interval; beside the mean, not under it."""
    known = [row for row in rows if row.mean_pos_corrected is not None]
    if not known:
        return
    places = [place + 0.18 for place in _places(known)]
    ends = [row.corrected_low for row in known], [row.corrected_high for row in known]
    panel.vlines(places, *ends, color=GREEN, linewidth=1, alpha=0.5)
    means = [row.mean_pos_corrected for row in known]
    panel.plot(places, means, color=GREEN, linewidth=0, marker="s", markersize=3, label="corrected, 95% interval")


def _with_gaps(rows: "Sequence[DailyRow]") -> tuple[list[float], list[float]]:
    """Places and means with a NaN in each run of days without posts, so that the line breaks there."""
    places: list[float] = []
    means: list[float] = []
    for place, row in zip(_places(rows), rows, strict=True):
        if places and place - places[-1] > 1:
            places.append(places[-1] + 1)
            means.append(math.nan)
        places.append(place)
        means.append(row.mean_pos)
    return places, means


def _limit(panel: Any, brands: "Mapping[str, list[DailyRow]]", thresholds: Mapping[str, float]) -> None:
    """The same scale for all: from the data and the thresholds, within [0, 1]; whole days at both ends."""
    values = [value for rows in brands.values() for row in rows for value in (row.mean_pos, row.ma3)]
    ends = [end for rows in brands.values() for row in rows for end in (row.corrected_low, row.corrected_high)]
    values += [*(end for end in ends if end is not None), *(thresholds[brand] for brand in brands)]
    margin = max(0.05, 0.15 * (max(values) - min(values)))
    panel.set_ylim(max(-0.01, min(values) - margin), min(1.01, max(values) + margin))
    places = [place for rows in brands.values() for place in _places(rows)]
    panel.set_xlim(min(places) - 0.75, max(places) + 0.75)


def _trim(panels: Sequence[Any], n_used: int, n_columns: int) -> None:
    """Take the empty places of the grid out and give the panels above them their dates back."""
    for place, panel in enumerate(panels):
        if place >= n_used:
            panel.remove()
        elif place + n_columns >= n_used:
            panel.xaxis.set_tick_params(labelbottom=True)
