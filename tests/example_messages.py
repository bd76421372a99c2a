"""One message of every kind, from made-up histories: for the golden file, the picture and the property tests."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from monitor.alerts import DayRow, Kind, Rule, windows_of
from monitor.episodes import PlannedAlert
from monitor.messages import Words, render
from monitor.quotes import Candidate, pick

DAY = date(2026, 11, 21)
RULE = Rule()
FALLING = (0.58, 0.6, 0.57, 0.55, 0.59, None, 0.61, 0.6, 0.57, 0.55, 0.52, 0.44, 0.36, 0.31)
RISING = (0.58, 0.57, 0.44, 0.4, 0.31, 0.33, 0.3, 0.35, 0.38, 0.36, 0.42, 0.5, 0.52, 0.55)
WORDS = Words(("parcel", "lost", "<!here>", "refund"), DAY - timedelta(days=5), DAY - timedelta(days=3))
POSTS = (
    Candidate("Third time my parcel is lost & nobody answers. Never again! https://example.com/rant", "u1"),
    Candidate("third time my parcel is lost & nobody answers, never again!!", "u2"),
    Candidate("Paid for the big one, got the small one, support says <that's *life*> 🤷", "u3"),
    Candidate("Hey <!channel> click <http://evil.example|here> @everyone \u202egnp.exe", "u4"),
)


def rows_of(means: Sequence[float | None], brand: str = "Acme Outdoor") -> list[DayRow]:
    """Daily rows that end on DAY; None is a day without posts."""
    first = DAY - timedelta(days=len(means) - 1)
    days = [(first + timedelta(days=n), n, mean) for n, mean in enumerate(means) if mean is not None]
    return [DayRow(brand, day, 1200 + 49 * n, mean, mean - 0.02, mean + 0.02, mean, "m@1") for day, n, mean in days]


def alert_of(
    kind: Kind, rows: Sequence[DayRow], n_days: int | None = None, *, is_running: bool = False
) -> PlannedAlert:
    """An alert about DAY, `n_days` after the episode began."""
    began_on = None if n_days is None else DAY - timedelta(days=n_days)
    window = None if kind is Kind.NO_DATA else windows_of(rows, RULE)[-1]
    return PlannedAlert(rows[-1].brand, kind, DAY, "pending", window, began_on, is_running)


def examples() -> dict[str, dict[str, Any]]:
    """Title -> message."""
    down, up, gone = rows_of(FALLING), rows_of(RISING), rows_of((*FALLING[:-3], None, None, None))
    quotes, url = pick(POSTS), "https://monitor.example/"
    first = [row for row in down if row.day == DAY]
    silence = Rule(no_data_days=3)
    return {
        "dip": render(alert_of(Kind.DIP, down, 0), RULE, down, quotes, url, WORDS),
        "dip, so far today, of a new brand": render(
            alert_of(Kind.DIP, first, 0, is_running=True), RULE, first, quotes[:1]
        ),
        "dip, since an earlier day, texts not stored": render(alert_of(Kind.DIP, down, 2), RULE, down, None, url),
        "still down": render(
            alert_of(Kind.STILL_DOWN, down, 3), RULE, down, quotes, url, Words(["parcel"], WORDS.last, WORDS.last)
        ),
        "recovered": render(alert_of(Kind.RECOVERED, up, 9), RULE, up, quotes, url),
        "no data": render(alert_of(Kind.NO_DATA, gone), silence, gone, [], url),
    }
