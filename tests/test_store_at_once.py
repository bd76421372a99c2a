"""Replicas that save and refresh at the same time on PostgreSQL: nobody waits for good, nothing is lost or doubled."""

import random
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest
from batches import DAY, NOW, mixed_batch, post, rows, rules, scored
from sqlalchemy import text

from monitor.posts import ScoredBatch
from monitor.store import daily
from monitor.store.database import Database
from monitor.store.saving import Saver

pytestmark = pytest.mark.postgres


@pytest.fixture
def replica(open_database: Callable[[str], Database], postgres_url: str) -> Callable[[], Database]:
    """Opens the same database again and again, as replicas do."""
    return lambda: open_database(postgres_url)


def start(action: Callable[[], None], failures: list[BaseException]) -> threading.Thread:
    """Run `action` on a thread of its own; what it raises goes into `failures`."""

    def work() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001  reported by the test
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def save_all(db: Database, batches: Iterable[ScoredBatch]) -> None:
    """Save batches one after the other."""
    saver = Saver(db, rules())
    for batch in batches:
        saver.save(batch)


def mixed_brands(first: int) -> ScoredBatch:
    """100 posts of 50 brands, in an order that differs from batch to batch."""
    offsets = list(range(first, first + 100))
    random.Random(first).shuffle(offsets)
    return scored([post(n, brand=f"brand {n % 50}", day=DAY - timedelta(days=n % 3)) for n in offsets])


def test_savers_at_once_neither_block_nor_double(replica: Callable[[], Database]) -> None:
    """Three replicas save the same posts of many brands in different orders; every post counts once."""
    batches = [mixed_brands(first) for first in range(0, 2000, 100)]
    failures: list[BaseException] = []
    orders = (batches, batches[::-1], batches)
    threads = [start(lambda order=order: save_all(replica(), order), failures) for order in orders]  # type: ignore[misc]
    for thread in threads:
        thread.join(60)
    db = replica()
    assert failures == []
    assert rows(db, "SELECT count(*) FROM posts") == [(2000,)]
    assert rows(db, "SELECT sum(n) FROM daily_totals") == [(2000,)]
    assert daily.recount(db) == []


def test_refreshes_between_saves_miss_nothing(replica: Callable[[], Database]) -> None:
    """Two savers and two refreshers at once: one more refresh at the end brings what a full recomputation brings."""
    done = threading.Event()
    failures: list[BaseException] = []

    def refresh_on() -> None:
        db = replica()
        while not done.is_set():
            daily.refresh(db, NOW)

    halves = ([mixed_batch(first, 100) for first in range(begin, begin + 3000, 100)] for begin in (0, 1500))
    savers = [start(lambda half=half: save_all(replica(), half), failures) for half in halves]  # type: ignore[misc]
    refreshers = [start(refresh_on, failures) for _ in range(2)]
    for thread in savers:
        thread.join(60)
    done.set()
    for thread in refreshers:
        thread.join(60)
    db = replica()
    assert failures == []
    assert refreshed(db) == recomputed(db)
    assert daily.recount(db) == []


def refreshed(db: Database) -> list[daily.DailyRow]:
    """The daily rows after one more refresh."""
    daily.refresh(db, NOW)
    return daily.daily_rows(db)


def recomputed(db: Database) -> list[daily.DailyRow]:
    """The daily rows made from nothing."""
    db.run(lambda connection: connection.execute(text("DELETE FROM daily_sentiment")))
    db.run(lambda connection: connection.execute(text("UPDATE brands SET dirty_from = '2000-01-01'")))
    return refreshed(db)
