"""Stored histories for alert tests: posts of chosen positivity through the real saver and refresh."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import count

from batches import micro, post, rules, scored

from monitor.config import AlertsSection, Config, HttpSection, StoreSection
from monitor.store import daily
from monitor.store.database import Database
from monitor.store.saving import Saver

FIRST = date(2026, 11, 1)
GRIPES = (
    "Nothing but trouble since I bought it",
    "The parcel came open and half empty",
    "Support kept me waiting for an hour",
    "Would not recommend this to a friend",
)
_offsets = count()


def config(**alerts: object) -> Config:
    """Defaults, but three posts make a counting day and the rule is plain."""
    section = AlertsSection.model_validate({"min_posts": 3, "certainty": 0.0, **alerts})
    return Config(alerts=section, store=StoreSection(), http=HttpSection(public_url="https://monitor.example/"))


def after(offset: int, hour: int = 0, minute: int = 1) -> datetime:
    """A minute after the end of the day of that offset, or later."""
    return datetime.combine(FIRST + timedelta(days=offset + 1), time(hour, minute), tzinfo=UTC)


def save_days(
    db: Database, means: Mapping[int, float], brand: str = "acme", n_posts: int = 4, now: datetime | None = None
) -> None:
    """Posts of one positivity per day (by offset from FIRST), saved and refreshed."""
    posts, scores = [], []
    for offset, mean in means.items():
        for number in range(n_posts):
            text = f"{GRIPES[number % len(GRIPES)]} (day {offset}, number {number})"
            day = FIRST + timedelta(days=offset)
            posts.append(post(next(_offsets), brand=brand, day=day, user_id=f"user-{number}", text=text))
            scores.append(micro(round(mean * 1_000_000)))
    Saver(db, rules()).save(scored(posts, scores))
    daily.refresh(db, now or datetime.now(UTC))
