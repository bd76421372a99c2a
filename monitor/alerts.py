"""The alert rule: which days count, which window judges a day, what is a dip. Pure: no clock, no SQL, no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from enum import StrEnum
from math import sqrt
from statistics import NormalDist, fmean

import msgspec

from monitor.config import AlertsSection, BrandRule

N_WINDOW_DAYS = 3  #: counting days in rule_ma3
_DIGITS = 9  #: comparisons ignore what floating point adds behind this decimal


class Kind(StrEnum):
    """What a message says."""

    DIP = "dip"
    STILL_DOWN = "still_down"
    RECOVERED = "recovered"
    NO_DATA = "no_data"


class DayRow(msgspec.Struct, frozen=True, gc=False):
    """What the rule needs of one row of daily_sentiment."""

    brand: str
    day: date
    total: int
    mean_pos: float
    mean_pos_low: float | None  # 95% interval of the mean; None under two posts
    mean_pos_high: float | None
    ma3: float
    model: str | None  # None where several bundles scored the day

    @property
    def standard_error(self) -> float:
        """Standard error of mean_pos: (high - low) / (2 * 1.96), but at least 0.5 / n, half a post.

        For a single post that is the largest standard deviation there is on [0, 1]; for more it keeps a few equal posts
        from passing for certainty. It binds only where the day's standard deviation is under 0.5 / sqrt(n).
        """
        half_a_post = 0.5 / max(1, self.total)
        if self.mean_pos_low is None or self.mean_pos_high is None:
            return half_a_post
        return max(half_a_post, (self.mean_pos_high - self.mean_pos_low) / (2 * 1.96))


@dataclass(frozen=True)
class Rule:
    """The rule of one brand, in the units of the configuration."""

    threshold: float = 0.45
    min_posts: int = 30
    certainty: float = 0.95
    max_span_days: int = 7
    recover_margin: float = 0.02
    running_day_from: time = time(12, 0)
    max_age_days: int = 7
    no_data_days: int = 0

    @property
    def z(self) -> float:
        """One-sided normal quantile of `certainty`: 1.645 for 0.95; 0, the plain rule, up to 0.5."""
        return NormalDist().inv_cdf(self.certainty) if self.certainty > 0.5 else 0.0


def rule_for(alerts: AlertsSection, brand: str) -> Rule:
    """The configured rule with what `brand` has of its own."""
    own = alerts.brands.get(brand, BrandRule())
    return Rule(
        threshold=alerts.threshold if own.threshold is None else own.threshold,
        min_posts=alerts.min_posts if own.min_posts is None else own.min_posts,
        certainty=alerts.certainty if own.certainty is None else own.certainty,
        max_span_days=alerts.max_span_days,
        recover_margin=alerts.recover_margin,
        running_day_from=alerts.running_day_from,
        max_age_days=alerts.max_age_days,
        no_data_days=alerts.no_data_days,
    )


@dataclass(frozen=True)
class Window:
    """The counting days that one day is judged by, oldest first, that day last; and the counting days before them."""

    days: tuple[DayRow, ...]  # 1 to 3, within max_span_days
    before: tuple[DayRow, ...]  # 0 to 3, the latest ones before `days`

    @property
    def day(self) -> date:
        """The day that is judged."""
        return self.days[-1].day

    @property
    def rule_ma3(self) -> float:
        """Mean of the days' means."""
        return fmean(row.mean_pos for row in self.days)

    @property
    def standard_error(self) -> float:
        """Of rule_ma3: sqrt(sum of se_i squared) / k.

        The days are independent samples, so their variances add (Cochran, Sampling Techniques, 3rd ed., theorem 5.3,
        with equal weights).
        """
        return sqrt(sum(row.standard_error**2 for row in self.days)) / len(self.days)

    @property
    def change(self) -> float | None:
        """rule_ma3 minus the mean of the (up to) three counting days before; None where there are none."""
        return self.rule_ma3 - fmean(row.mean_pos for row in self.before) if self.before else None

    @property
    def spans_models(self) -> bool:
        """Whether more than one bundle scored these days: a step between bundles is no dip."""
        models = {row.model for row in self.days}
        return len(models) > 1 or None in models


def days_before(window: Window, began_on: date | None, rows: Sequence[DayRow], rule: Rule) -> tuple[DayRow, ...]:
    """The counting days before the dip: those before the window that the episode began with, else before `window`."""
    first = next((one for one in windows_of(rows, rule) if one.day == began_on), window)
    return first.before


def is_dip(window: Window, rule: Rule) -> bool:
    """rule_ma3 + z(certainty) * se(rule_ma3) < threshold: a one-sided z test of the mean behind the posts.

    With certainty 0 that is rule_ma3 < threshold.
    """
    mean = window.rule_ma3
    if mean >= rule.threshold:  # most days; the error is never negative
        return False
    return round(mean + rule.z * window.standard_error, _DIGITS) < round(rule.threshold, _DIGITS)


def is_recovered(window: Window, rule: Rule) -> bool:
    """rule_ma3 at or above threshold + recover_margin."""
    return round(window.rule_ma3, _DIGITS) >= round(rule.threshold + rule.recover_margin, _DIGITS)


def windows_of(rows: Sequence[DayRow], rule: Rule) -> list[Window]:
    """One window per counting day, oldest first. `rows` are of one brand, sorted by day."""
    counting = [row for row in rows if row.total >= rule.min_posts]
    windows = []
    for i, row in enumerate(counting):
        first_day = row.day - timedelta(days=rule.max_span_days - 1)
        start = max(0, i - N_WINDOW_DAYS + 1)
        while counting[start].day < first_day:
            start += 1
        windows.append(Window(tuple(counting[start : i + 1]), tuple(counting[max(0, start - 3) : start])))
    return windows
