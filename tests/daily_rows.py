"""Daily rows for tests of the rule and the episode machine."""

from datetime import date, timedelta

from monitor.alerts import DayRow, Rule

FIRST = date(2026, 11, 1)
PLAIN = Rule(certainty=0.0)


def row_of(
    offset: int, mean_pos: float, total: int = 100, half: float | None = 0.02, model: str | None = "m@1"
) -> DayRow:
    """The row of the day that is `offset` days after FIRST; `half` is half its interval."""
    low, high = (None, None) if half is None else (mean_pos - half, mean_pos + half)
    return DayRow("acme", FIRST + timedelta(days=offset), total, mean_pos, low, high, mean_pos, model)


def rows_of(*means: float | None) -> list[DayRow]:
    """Days from FIRST on; None is a day without posts."""
    return [row_of(offset, mean) for offset, mean in enumerate(means) if mean is not None]
