"""Bootstrap intervals (Efron and Tibshirani 1993) of figures over posts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 1_000
LEVEL = 0.95


def resampled(
    figure: Callable[..., Any],
    *columns: npt.NDArray[Any],
    groups: npt.NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
) -> npt.NDArray[np.float64]:
    """`figure(*columns)` over rows drawn anew, (resamples,). Columns (n, ...) are drawn together.

    With `groups` (n,) whole groups are drawn instead of rows: for rows that are not independent within one.
    """
    generator = np.random.default_rng(1)
    members = None if groups is None else [np.flatnonzero(groups == name) for name in np.unique(groups)]
    n = len(columns[0]) if members is None else len(members)
    found = []
    for _ in range(resamples):
        drawn = generator.integers(0, n, n)
        rows = drawn if members is None else np.concatenate([members[i] for i in drawn])
        found.append(float(figure(*(column[rows] for column in columns))))
    return np.array(found)


def interval_of(
    figure: Callable[..., Any], *columns: npt.NDArray[Any], groups: npt.NDArray[Any] | None = None
) -> list[float]:
    """[low, high]: the 95% percentile interval of `figure(*columns)`."""
    return _ends(resampled(figure, *columns, groups=groups))


def basic_interval_of(
    figure: Callable[..., Any], *columns: npt.NDArray[Any], resamples: int = RESAMPLES
) -> list[float]:
    """[low, high]: the 95% basic interval, at least 0, for a figure that noise can only raise, like an ECE."""
    low, high = _ends(resampled(figure, *columns, resamples=resamples))
    found = float(figure(*columns))
    return [max(0.0, 2 * found - high), max(0.0, 2 * found - low)]


def _ends(found: npt.NDArray[np.float64]) -> list[float]:
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]
