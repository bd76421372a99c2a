"""The daily rule: from additive totals to one row per brand and day.

Pure: no clock, no SQL; pandas is loaded on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MILLION = 1_000_000
Z95 = 1.96  #: two-sided 95% quantile of the normal distribution, to the digits that the README and the tables promise
MA_DAYS = 3  #: days with posts that ma3 averages

COUNTS = ["positives", "n_negative", "n_neutral", "n_positive"]
SUMS = ["n", *COUNTS, "sum_micro", "sumsq_micro"]


def load() -> None:
    """Load pandas now. It takes a third of a second, in which little else runs: better before posts come than later."""
    import pandas as pd  # noqa: F401


def daily_frame(totals: "pd.DataFrame") -> "pd.DataFrame":
    """Daily rows of one or many brands, by brand and day.

    totals: rows of daily_totals with columns brand, day, model and the integers n, positives, n_negative, n_neutral,
    n_positive, sum_micro, sumsq_micro; any order, any index, several rows per day (sources, models). Days with n = 0
    count as days without posts.

    Returns brand, day, total, positives, n_negative, n_neutral, n_positive, mean_pos, mean_pos_low, mean_pos_high
    (null under two posts), ma3, ma3_span_days, model (null if several). With n posts x_i of a day:

        mean_pos = sum x / n
        low, high = mean_pos -+ 1.96 sd / sqrt(n),  sd^2 = (sum x^2 - n mean_pos^2) / (n - 1)

    (normal interval of a mean; e.g. Wasserman, All of Statistics, 2004, section 6.3.2). ma3 is the mean of the latest
    three rows of the brand, this one included: `rolling(3, min_periods=1).mean()`. It is summed from the three days
    themselves, because pandas' running sum carries rounding over from days before the window, and a row computed alone
    must have the digits of a row computed with its whole history.
    """
    days = _summed(totals)
    mean = days["sum_micro"] / days["n"] / MILLION
    half = _half_width(days, mean)
    days["mean_pos"], days["mean_pos_low"], days["mean_pos_high"] = mean, mean - half, mean + half
    _add_moving_average(days)
    columns = ["mean_pos", "mean_pos_low", "mean_pos_high", "ma3", "ma3_span_days", "model"]
    return days.rename(columns={"n": "total"})[["brand", "day", "total", *COUNTS, *columns]]


def _summed(totals: "pd.DataFrame") -> "pd.DataFrame":
    by_day = totals[totals["n"] > 0].groupby(["brand", "day"], sort=True)
    days = by_day[SUMS].sum()
    days["model"] = by_day["model"].first().where(by_day["model"].nunique() == 1, None)
    return days.reset_index()


def _half_width(days: "pd.DataFrame", mean: "pd.Series[float]") -> "pd.Series[float]":
    n = days["n"]
    squares = (days["sumsq_micro"] / MILLION - n * mean**2).clip(lower=0.0)  # rounding may leave a little under zero
    variance = squares / (n - 1).where(n > 1)  # missing under two posts
    return Z95 * (variance / n) ** 0.5


def _add_moving_average(days: "pd.DataFrame") -> None:
    import pandas as pd

    by_brand = days.groupby("brand", sort=False)
    window = pd.concat([by_brand["mean_pos"].shift(back) for back in range(MA_DAYS)], axis=1)
    days["ma3"] = window.mean(axis=1)
    day = pd.to_datetime(days["day"])
    first = day
    for back in range(1, MA_DAYS):
        earlier = day.groupby(days["brand"], sort=False).shift(back)
        first = earlier.where(earlier.notna(), first)
    days["ma3_span_days"] = (day - first).dt.days + 1
