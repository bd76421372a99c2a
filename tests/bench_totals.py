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


def fill(db: Database, n_posts: int, n_brands: int = N_BRANDS, n_days: int = N_DAYS) -> None:
    """A year of totals of a hundred brands, alike to `n_posts` posts; nothing in `posts`, which nobody here reads."""
    migrate.upgrade(db)
    n = max(1, n_posts // (n_brands * n_days))
    now = datetime.now(UTC)
    rows = [
        _totals(f"brand {b}", now.date() - timedelta(days=back), n) for b in range(n_brands) for back in range(n_days)
    ]
    columns = list(rows[0])
    insert = text(
        f"INSERT INTO daily_totals ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"
    )
    add = text("INSERT INTO brands (brand, added_at, dirty_from) VALUES (:brand, :added_at, :dirty_from)")
    first = now.date() - timedelta(days=n_days)
    known = [
        {"brand": f"brand {b}", "added_at": now.isoformat(), "dirty_from": first.isoformat()} for b in range(n_brands)
    ]
    db.run(lambda connection: (connection.execute(insert, rows), connection.execute(add, known)))
    daily.refresh(db, now)


def touch(db: Database, now: datetime) -> None:
    """A new post of today for every brand."""
    day = {"day": now.date().isoformat()}
    mark = text("UPDATE brands SET dirty_from = :day")
    add = text("UPDATE daily_totals SET n = n + 1, n_neutral = n_neutral + 1 WHERE day = :day")
    db.run(lambda connection: (connection.execute(mark, day), connection.execute(add, day)))


def turn(db: Database, config: Config, now: datetime) -> int:
    """Refresh and evaluate; returns how many brands had changed."""
    refreshed = daily.refresh(db, now)
    evaluation.evaluate_all(db, config, now, dry_run=True)
    return len(refreshed)


def turns(db: Database, config: Config, n_turns: int = 9) -> Iterator[tuple[float, float]]:
    """Seconds of each refresh and evaluation after new posts of today for every brand, and of them of our CPU time."""
    for _ in range(n_turns):
        now = datetime.now(UTC)
        touch(db, now)
        began, cpu = time.perf_counter(), time.process_time()
        assert turn(db, config, now) == N_BRANDS
        yield time.perf_counter() - began, time.process_time() - cpu


def median_turn_s(url: str, n_posts: int) -> tuple[float, float]:
    """The medians of some turns on a fresh database: seconds, and seconds of CPU time without the database server's."""
    db = Database(url)
    try:
        fill(db, n_posts)
        first, *others = turns(db, Config())
        del first  # imports, plans, caches
        wall, cpu = zip(*others, strict=True)
        return statistics.median(wall), statistics.median(cpu)
    finally:
        db.close()


def _totals(brand: str, day: date, n: int) -> dict[str, object]:
    """Every post at 0.6: neither a dip nor its message is what is measured."""
    figures: dict[str, object] = {"n": n, "positives": n, "n_negative": 0, "n_neutral": n, "n_positive": 0}
    key = {"brand": brand, "day": day.isoformat(), "source": "posts", "model": MODEL}
    return key | figures | {"sum_micro": 600_000 * n, "sumsq_micro": 360_000 * n}
