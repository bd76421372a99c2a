"""How long refresh and evaluation take with many or few posts behind the totals, which are filled directly."""

import statistics
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text

from monitor.config import Config
from monitor.store import daily, evaluation, migrate
from monitor.store.database import Database

N_BRANDS = 100
N_DAYS = 365
MODEL = "social-gru@00000000"


def fill(db: Database, n_posts: int) -> None:
    """A year of totals of a hundred brands, alike to `n_posts` posts; nothing in `posts`, which nobody here reads."""
    migrate.upgrade(db)
    n = max(1, n_posts // (N_BRANDS * N_DAYS))
    now = datetime.now(UTC)
    rows = [
        _totals(f"brand {b}", now.date() - timedelta(days=back), n) for b in range(N_BRANDS) for back in range(N_DAYS)
    ]
    columns = list(rows[0])
    insert = text(
        f"INSERT INTO daily_totals ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"
    )
    add = text("INSERT INTO brands (brand, added_at, dirty_from) VALUES (:brand, :added_at, :dirty_from)")
    first = now.date() - timedelta(days=N_DAYS)
    known = [
        {"brand": f"brand {b}", "added_at": now.isoformat(), "dirty_from": first.isoformat()} for b in range(N_BRANDS)
    ]
    db.run(lambda connection: (connection.execute(insert, rows), connection.execute(add, known)))
    daily.refresh(db, now)


def turns(db: Database, config: Config, n_turns: int = 9) -> Iterator[float]:
    """Seconds of each refresh and evaluation after new posts of today for every brand."""
    touch = text("UPDATE brands SET dirty_from = :day")
    add = text("UPDATE daily_totals SET n = n + 1, n_neutral = n_neutral + 1 WHERE day = :day")
    for _ in range(n_turns):
        now = datetime.now(UTC)
        day = {"day": now.date().isoformat()}
        db.run(lambda connection, day=day: (connection.execute(touch, day), connection.execute(add, day)))  # type: ignore[misc]
        began = time.perf_counter()
        assert len(daily.refresh(db, now)) == N_BRANDS
        evaluation.evaluate_all(db, config, now, dry_run=True)
        yield time.perf_counter() - began


def median_turn_s(url: str, n_posts: int) -> float:
    """The median of some turns on a fresh database."""
    db = Database(url)
    try:
        fill(db, n_posts)
        first, *others = turns(db, Config())
        del first  # imports, plans, caches
        return statistics.median(others)
    finally:
        db.close()


def _totals(brand: str, day: date, n: int) -> dict[str, object]:
    """Every post at 0.6: neither a dip nor its message is what is measured."""
    figures: dict[str, object] = {"n": n, "positives": n, "n_negative": 0, "n_neutral": n, "n_positive": 0}
    key = {"brand": brand, "day": day.isoformat(), "source": "posts", "model": MODEL}
    return key | figures | {"sum_micro": 600_000 * n, "sumsq_micro": 360_000 * n}
