"""The rule as a pure function: which days count, what is a dip, how certain it is."""

import numpy as np
import pytest
from daily_rows import PLAIN, row_of, rows_of

from monitor.alerts import Rule, is_dip, is_recovered, rule_for, windows_of
from monitor.config import AlertsSection, BrandRule


def test_rule_ma3_is_the_mean_of_three_counting_days_within_the_span() -> None:
    """Days under min_posts are left out, and so are counting days more than max_span_days back."""
    rows = [row_of(0, 0.9), row_of(1, 0.1, total=29), row_of(5, 0.6), row_of(6, 0.3), row_of(20, 0.2)]
    windows = windows_of(rows, PLAIN)
    assert [window.day for window in windows] == [row.day for row in rows if row.total >= 30]
    assert [window.rule_ma3 for window in windows] == pytest.approx([0.9, 0.75, 0.6, 0.2])
    assert [len(window.days) for window in windows] == [1, 2, 3, 1]


def test_certainty_asks_for_more_than_its_sampling_error() -> None:
    """0.44 under 0.45 is a dip by the plain rule; with 95% certainty only where 1.645 standard errors fit between."""
    (narrow,) = windows_of([row_of(0, 0.44, total=10_000, half=0.0059)], PLAIN)
    (wide,) = windows_of([row_of(0, 0.44, total=200, half=0.04)], PLAIN)
    assert [is_dip(window, PLAIN) for window in (narrow, wide)] == [True, True]
    assert [is_dip(window, Rule(certainty=0.95)) for window in (narrow, wide)] == [True, False]
    assert Rule(certainty=0.95).z == pytest.approx(1.6449, abs=1e-4)
    assert narrow.standard_error == pytest.approx(0.0059 / 1.96)


def test_false_alarms_are_as_rare_as_the_certainty_says() -> None:
    """Brands whose true mean is the threshold, 2,000 windows of three days with 60 posts: about 5% look like a dip."""
    scores = np.random.default_rng(7).beta(0.9, 1.1, size=(2000, 3, 60))
    means, halves = scores.mean(axis=2).tolist(), (1.96 * scores.std(axis=2, ddof=1) / 60**0.5).tolist()
    n_dips = 0
    for days in zip(means, halves, strict=True):
        rows = [row_of(offset, mean, 60, half) for offset, (mean, half) in enumerate(zip(*days, strict=True))]
        n_dips += is_dip(windows_of(rows, PLAIN)[-1], Rule(certainty=0.95))
    assert 0.04 < n_dips / 2000 < 0.06


def test_the_standard_error_of_three_days_adds_their_variances() -> None:
    """sqrt(se1^2 + se2^2 + se3^2) / 3."""
    rows = [row_of(0, 0.5, half=1.96 * 0.03), row_of(1, 0.5, half=1.96 * 0.04), row_of(2, 0.5, half=1.96 * 0.12)]
    assert windows_of(rows, PLAIN)[-1].standard_error == pytest.approx(0.13 / 3)


def test_few_or_equal_posts_are_not_certain() -> None:
    """One post has the largest standard error there is; thirty equal ones that of half a post, not zero."""
    assert row_of(0, 0.1, total=1, half=None).standard_error == 0.5
    assert row_of(0, 0.1, total=30, half=0.0).standard_error == pytest.approx(0.5 / 30)


@pytest.mark.parametrize(("mean", "dips"), [(0.45, False), (0.4499, True), (0.15 * 3, False)])
def test_the_threshold_itself_is_no_dip(mean: float, *, dips: bool) -> None:
    """rule_ma3 must be below it; rounding of floats plays no part."""
    assert [is_dip(window, PLAIN) for window in windows_of(rows_of(mean, mean, mean), PLAIN)] == [dips] * 3


def test_recovery_is_threshold_plus_margin_itself() -> None:
    """0.47 recovers with threshold 0.45 and margin 0.02; 0.4699 does not."""
    means = (0.47, 0.4699)
    assert [is_recovered(windows_of(rows_of(mean), PLAIN)[0], PLAIN) for mean in means] == [True, False]


def test_a_brand_has_its_own_rule_and_the_rest_of_the_general_one() -> None:
    """threshold, min_posts and certainty of the brand; a threshold of 0 is a value, not a gap."""
    section = AlertsSection(threshold=0.5, brands={"acme": BrandRule(threshold=0.0, min_posts=5)}, no_data_days=3)
    assert rule_for(section, "acme") == Rule(threshold=0.0, min_posts=5, certainty=0.95, no_data_days=3)
    assert rule_for(section, "other") == Rule(threshold=0.5, no_data_days=3)
