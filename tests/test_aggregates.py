"""The daily rule, held against plain pandas over single posts."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from monitor.aggregates import daily_frame
from monitor.store.totals import Totals, totals_of

DAY = date(2026, 3, 27)


def totals_row(brand: str, day: date, scores: list[int], model: str = "m") -> dict[str, object]:
    """One row of daily_totals over scores in millionths."""
    totals = totals_of([(score / 1e6, int(score >= 500_000), "positive") for score in scores])
    return {"brand": brand, "day": day, "source": "s", "model": model, **totals._asdict()}


def test_equals_pandas_over_single_posts() -> None:
    """total, positives, mean, interval and ma3 are what pandas makes of the posts, gaps between days included."""
    rng = np.random.default_rng(7)
    posts = pd.DataFrame(
        {
            "brand": rng.choice(["acme", "globex"], 3000),
            "day": [DAY + timedelta(days=int(n)) for n in rng.choice([0, 1, 2, 4, 9, 10, 30], 3000)],
            "micro": rng.integers(0, 1_000_001, 3000),
        }
    )
    grouped = posts.groupby(["brand", "day"])["micro"].agg(list).reset_index()
    totals = [totals_row(brand, day, micros) for brand, day, micros in grouped.itertuples(index=False)]
    shuffled = pd.DataFrame(totals).sample(frac=1, random_state=1)
    found = daily_frame(shuffled)

    posts["pos_prob"] = posts["micro"] / 1e6
    expected = posts.groupby(["brand", "day"])["pos_prob"].agg(["size", "mean", "sem"]).reset_index()
    ma3 = expected.groupby("brand")["mean"].transform(lambda means: means.rolling(3, min_periods=1).mean())
    assert found[["brand", "day"]].equals(expected[["brand", "day"]])
    assert list(found["total"]) == list(expected["size"])
    assert found["mean_pos"].to_numpy() == pytest.approx(expected["mean"].to_numpy(), abs=1e-12)
    assert found["ma3"].to_numpy() == pytest.approx(ma3.to_numpy(), abs=1e-12)
    half = (found["mean_pos_high"] - found["mean_pos_low"]) / 2
    assert half.to_numpy() == pytest.approx(1.96 * expected["sem"].to_numpy(), abs=1e-6)


def test_span_counts_calendar_days_from_first_to_last() -> None:
    """ma3_span_days is 1 for one day, and reaches over days without posts."""
    days = [DAY, DAY + timedelta(days=1), DAY + timedelta(days=5), DAY + timedelta(days=6)]
    found = daily_frame(pd.DataFrame([totals_row("acme", day, [1, 2]) for day in days]))
    assert list(found["ma3_span_days"]) == [1, 2, 6, 6]


def test_one_post_has_no_interval() -> None:
    """Under two posts the interval is missing, the mean is not."""
    [row] = daily_frame(pd.DataFrame([totals_row("acme", DAY, [250_000])])).to_dict("records")
    assert row["mean_pos"] == row["ma3"] == 0.25
    assert np.isnan(row["mean_pos_low"])
    assert np.isnan(row["mean_pos_high"])


def test_equal_scores_have_an_interval_without_width() -> None:
    """Rounded squares must not make a variance negative, which would make the interval missing."""
    [row] = daily_frame(pd.DataFrame([totals_row("acme", DAY, [333_333] * 50)])).to_dict("records")
    assert row["mean_pos_low"] == pytest.approx(row["mean_pos"], abs=5e-4)


def test_model_is_missing_where_several_scored_a_day() -> None:
    """Sources and models of a day are summed; the model is named only where it is one."""
    rows = [
        totals_row("acme", DAY, [100_000], "old"),
        totals_row("acme", DAY, [300_000], "new"),
        totals_row("acme", DAY + timedelta(days=1), [300_000], "new"),
    ]
    found = daily_frame(pd.DataFrame(rows))
    assert list(found["total"]) == [2, 1]
    assert found["mean_pos"][0] == 0.2
    assert pd.isna(found["model"][0])
    assert found["model"][1] == "new"


def test_days_that_count_nothing_are_no_days() -> None:
    """A row of totals with n = 0 neither makes a daily row nor a place in ma3."""
    empty = totals_row("acme", DAY + timedelta(days=1), [1]) | dict.fromkeys(Totals._fields, 0)
    found = daily_frame(pd.DataFrame([totals_row("acme", DAY, [500_000]), empty]))
    assert list(found["day"]) == [DAY]


def test_no_totals_give_no_rows() -> None:
    """An empty frame in, an empty frame with the same columns out."""
    frame = pd.DataFrame([totals_row("acme", DAY, [1])])
    assert list(daily_frame(frame.iloc[:0]).columns) == list(daily_frame(frame).columns)
    assert daily_frame(frame.iloc[:0]).empty
