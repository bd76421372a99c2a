"""Driver words against the store: in the message and the simulation, by index, and gone when what users wrote has to
go."""

import json
from collections.abc import Mapping
from datetime import date, timedelta
from itertools import count
from typing import Any

import pytest
from alert_histories import FIRST, after, config
from batches import micro, post, rows, rules, scored
from sqlalchemy import Connection, event, text
from test_drivers import chatter

from monitor.alerts import DayRow, Rule, Window, days_before
from monitor.config import Config, StoreSection
from monitor.drivers import MAX_POSTS
from monitor.messages import WORDS_BLOCK, as_text
from monitor.posts import Post, Score
from monitor.store import alerts, daily, evaluation, forgetting, retention
from monitor.store.alerts import AlertRow
from monitor.store.database import Database
from monitor.store.driving import _most_negative, driver_words_in
from monitor.store.saving import Saver

_offsets = count()
SAID = "Said more often than from 1 Nov to 2 Nov"


def save(db: Database, means: Mapping[int, float], word_from: int = 3, n_posts: int = 40, brand: str = "acme") -> None:
    """Chatter on days by their offset from FIRST; from `word_from` on half of the posts complain of refunds."""
    posts: list[Post] = []
    scores: list[Score | None] = []
    for offset, mean in means.items():
        day = FIRST + timedelta(days=offset)
        for one in chatter(n_posts, offset, "refund", 0.5 if offset >= word_from else 0.0):
            posts.append(post(next(_offsets), brand=brand, day=day, user_id=one.user_id, text=one.text))
            scores.append(micro(round(mean * 1_000_000)))
    Saver(db, rules()).save(scored(posts, scores))
    daily.refresh(db, after(max(means)))


def fall(db: Database) -> None:
    """Three days at 0.6, three at 0.2, of which the episode begins on the second: (0.6 + 0.2 + 0.2) / 3 < 0.45."""
    save(db, {offset: 0.6 if offset < 3 else 0.2 for offset in range(6)})


def told(db: Database, settings: Config, *offsets: int) -> AlertRow:
    """Evaluate after each of those days; the alert that came last."""
    for offset in offsets:
        evaluation.evaluate_all(db, settings, after(offset))
    return max(alerts.listing(db), key=lambda row: row.day)


def blocks_of(row: AlertRow) -> list[str | None]:
    """The ids of its blocks."""
    return [block.get("block_id") for block in json.loads(row.message or "{}")["blocks"]]


def test_the_message_says_what_is_said_now(database: Database) -> None:
    """The word of the dip, before the quotes; the days it is compared with are named."""
    fall(database)
    row = told(database, config(), 5)
    shown = as_text(row.message or "")
    assert f"│ {SAID}\n│ refund\n│\n│ Most negative posts" in shown
    assert blocks_of(row).count(WORDS_BLOCK) == 1


def test_reminders_compare_with_the_days_before_the_episode(database: Database) -> None:
    """After days of refunds the days before are still those without; a recovery says no words."""
    fall(database)
    save(database, {6: 0.2, 7: 0.2})
    first = told(database, config(), 4)
    assert (first.kind, first.day) == ("dip", FIRST + timedelta(days=4))
    reminder = told(database, config(), 5, 6, 7)
    assert (reminder.kind, reminder.day) == ("still_down", FIRST + timedelta(days=7))
    assert WORDS_BLOCK in blocks_of(reminder)
    save(database, {8: 0.9, 9: 0.9})
    recovered = told(database, config(), 8, 9)
    assert recovered.kind == "recovered"
    assert WORDS_BLOCK not in blocks_of(recovered)


def test_without_texts_there_are_no_words(database: Database) -> None:
    """Neither in the message nor in the simulation, though the posts are there."""
    fall(database)
    settings = config().model_copy(update={"store": StoreSection(keep_text=False)})
    assert WORDS_BLOCK not in blocks_of(told(database, settings, 5))
    assert {one.words for one in evaluation.simulate(database, settings, FIRST, after(6))} == {""}


def test_the_simulation_has_them_too(database: Database) -> None:
    """The words of each message that would have been sent."""
    fall(database)
    simulated = evaluation.simulate(database, config(), FIRST, after(5))
    assert [(one.kind, one.words) for one in simulated] == [("dip", "refund"), ("still_down", "refund")]


def test_posts_are_read_by_index_and_within_the_limit(database: Database) -> None:
    """A day's share comes straight from ix_posts_day_brand_pos_prob, on both databases."""
    for brand in ("acme", "globex", "initech"):
        save(database, {offset: 0.6 if offset < 3 else 0.2 for offset in range(6)}, n_posts=1_000, brand=brand)
    if database.dialect == "postgresql":
        database.run(lambda connection: connection.execute(text("ANALYZE posts")))
    days = [DayRow("acme", FIRST + timedelta(days=n), 1_000, 0.5, 0.4, 0.6, 0.5, "m@1") for n in range(6)]
    plan = database.read(lambda connection: plan_of(connection, days[4]))
    assert "ix_posts_day_brand_pos_prob" in plan
    assert "SCAN posts" not in plan
    assert "Seq Scan" not in plan
    words = database.read(lambda connection: driver_words_in(connection, days[3:], days[:3]))
    assert [one.word for one in words] == ["refund"]
    assert n_read(database, days) == 6 * 833 <= MAX_POSTS


def plan_of(connection: Connection, day: DayRow) -> str:
    """How the database finds a day's posts."""
    query = _most_negative(day, 833).compile(connection, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    return "\n".join(str(row[-1]) for row in connection.execute(text(f"{explain} {query}")))


def n_read(db: Database, days: list[DayRow]) -> int:
    """Rows that the queries of one message ask for, as the database is told."""
    limits: list[int] = []

    def listen(_: object, statement: Any, *__: object) -> None:
        limits.append(statement._limit)

    def work(connection: Connection) -> None:
        event.listen(connection, "before_execute", listen)
        driver_words_in(connection, days[3:], days[:3])

    db.read(work)
    return sum(limits)


def window_of(*offsets: int) -> Window:
    """A window of those days, without days before."""
    rows = tuple(DayRow("acme", FIRST + timedelta(days=n), 40, 0.2, 0.1, 0.3, 0.2, "m@1") for n in offsets)
    return Window(rows, ())


def test_days_before_an_episode_that_is_no_longer_known() -> None:
    """Then the window's own days before it."""
    assert days_before(window_of(5, 6), date(2020, 1, 1), [], Rule()) == ()


def test_forgetting_reaches_the_words_of_later_messages(database: Database) -> None:
    """A post of the first dip day goes: words go from every message since then, quotes from those of its day."""
    fall(database)
    save(database, {6: 0.2})
    told(database, config(), 4, 5, 6)
    before = {row.day: row for row in alerts.listing(database) if row.message}
    assert len(before) >= 2
    assert all(WORDS_BLOCK in blocks_of(row) for row in before.values())
    [(id_, day)] = rows(database, "SELECT id, day FROM posts WHERE day = '2026-11-05' ORDER BY id LIMIT 1")
    forgetting.forget(database, forgetting.Which(id=str(id_)), b"k" * 32)
    for row in alerts.listing(database):
        if row.message:
            assert WORDS_BLOCK not in row.message
            assert ("rich_text_quote" in row.message) == (str(row.day) != str(day))


@pytest.mark.parametrize(("keep_text", "days_later"), [(False, 1), (True, 400)])
def test_retention_takes_the_words(database: Database, days_later: int, *, keep_text: bool) -> None:
    """With `keep_text: false` at once, else with the messages that are too old; one that waits can still be sent."""
    fall(database)
    assert WORDS_BLOCK in blocks_of(told(database, config(), 5))
    retention.retain(database, after(5 + days_later), 365, keep_text=keep_text)
    (row,) = [row for row in alerts.listing(database) if row.state == "pending"]
    assert row.message is not None
    assert "acme is down" in as_text(row.message)
    assert "refund" not in row.message
