"""Evaluation on real databases: one message per episode, however often and by however many."""

import json
import threading
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from alert_histories import FIRST, after, config, save_days
from sqlalchemy import event, insert, select, update

from monitor.episodes import Outline
from monitor.messages import NOT_STORED, as_text
from monitor.store import alerts, evaluation, needed_rows
from monitor.store.alerts import AlertRow, Change
from monitor.store.database import Database
from monitor.store.schema import brands, daily_sentiment, posts

LEASE_S = 60.0


def _states(db: Database) -> dict[str, str]:
    return {row.alert_key: row.state for row in alerts.listing(db)}


def _row(db: Database, alert_key: str) -> AlertRow:
    row = alerts.get(db, alert_key)
    assert row is not None
    return row


def _told(db: Database, brand: str = "acme") -> list[str]:
    rows = alerts.listing(db, brand=brand)
    return sorted(row.alert_key for row in rows if row.state not in {"past", "superseded"})


def test_a_dip_becomes_one_outbox_row_with_its_figures_and_message(database: Database) -> None:
    """The row has brand, day, figures, threshold, channel and the message as JSON; repeating adds nothing."""
    save_days(database, {0: 0.6, 1: 0.3})
    assert evaluation.evaluate_all(database, config(), after(1)) == 0  # mean of 0.6 and 0.3 is 0.45: no dip
    save_days(database, {2: 0.15})
    assert evaluation.evaluate_all(database, config(), after(2)) == 1
    assert evaluation.evaluate_all(database, config(), after(2, 5)) == 0
    assert evaluation.evaluate(database, "acme", config(), after(2, 6)) == []
    (row,) = alerts.listing(database)
    assert (row.alert_key, row.episode, row.kind, row.state) == (
        "acme/2026-11-03/dip",
        "acme/2026-11-03",
        "dip",
        "pending",
    )
    assert (row.brand, row.day, row.total, row.threshold, row.slack_channel) == (
        "acme",
        date(2026, 11, 3),
        4,
        0.45,
        "#brand-alerts",
    )
    assert (row.rule_ma3, row.ma3, row.mean_pos) == pytest.approx((0.35, 0.35, 0.15))
    assert (row.attempts, row.next_attempt_at, row.created_at) == (0, after(2), after(2))
    shown = as_text(row.message or "")
    assert "acme is down" in shown
    assert "0.350, threshold 0.45" in shown
    assert shown.count("(day 2, number") == 3


def test_a_day_that_turns_bad_between_two_reads_is_judged_with_the_days_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL another replica's refresh may be committed after the outlines were read: calm ones, here."""
    save_days(database, {0: 0.7, 1: 0.7, 2: 0.47, 3: 0.2})
    stale = {"acme": Outline(0.47, date(2026, 11, 3), date(2026, 11, 4))}
    monkeypatch.setattr(needed_rows, "_outlines_in", lambda *_: stale)
    assert evaluation.evaluate_all(database, config(), after(4)) == 0  # 0.457, not 0.335


def test_evaluation_asks_one_question_while_nothing_changed(database: Database) -> None:
    """Thirty evaluated brands cost one statement; noon, a new day or another rule evaluates all of them in a few."""

    def add(connection: Any) -> None:
        rows = [{"brand": f"brand {n:03}", "added_at": after(0), "refreshed_at": after(0)} for n in range(30)]
        connection.execute(insert(brands), rows)

    database.run(add)
    moment = after(0, 9)
    evaluation.evaluate_all(database, config(), moment)
    n_statements = _counting(database)
    evaluation.evaluate_all(database, config(), moment + timedelta(hours=2))
    assert n_statements() == 1
    for label, args in {
        "noon": (config(), after(0, 12)),
        "rule": (config(threshold=0.5), after(0, 12)),
        "day": (config(threshold=0.5), after(1)),
    }.items():
        evaluation.evaluate_all(database, *args)
        assert 1 < n_statements() < 10, label


def _counting(db: Database) -> Callable[[], int]:
    """Statements that the database has run since the last call."""
    seen: list[str] = []
    event.listen(db._engine, "before_cursor_execute", lambda *args: seen.append(args[2]))

    def n_since() -> int:
        n = sum(not statement.startswith("BEGIN") for statement in seen)
        seen.clear()
        return n

    return n_since


def test_later_messages_of_an_episode_replace_those_that_wait(database: Database) -> None:
    """With Slack away a reminder supersedes the dip, the recovery the reminder; the next episode has its own."""
    save_days(database, {0: 0.2})
    evaluation.evaluate_all(database, config(), after(0))
    save_days(database, {1: 0.2})
    evaluation.evaluate_all(database, config(), after(1))
    assert _states(database) == {"acme/2026-11-01/dip": "superseded", "acme/2026-11-02/still_down": "pending"}
    save_days(database, {2: 0.9, 3: 0.9})
    evaluation.evaluate_all(database, config(), after(3))
    save_days(database, dict.fromkeys((4, 5, 6), 0.1))
    evaluation.evaluate_all(database, config(), after(6))
    waiting = [key for key, state in _states(database).items() if state == "pending"]
    assert sorted(waiting) == ["acme/2026-11-04/recovered", "acme/2026-11-07/dip"]
    assert alerts.n_waiting(database) == 2


def test_the_order_of_posts_does_not_change_what_is_told(database: Database) -> None:
    """Two brands with the same posts, oldest or newest first, evaluated once at the end: the same rows."""
    days = {0: 0.6, 1: 0.6, 2: 0.2, 3: 0.1, 4: 0.2, 5: 0.3}
    for offset, mean in days.items():
        save_days(database, {offset: mean}, brand="forwards")
    for offset, mean in reversed(days.items()):
        save_days(database, {offset: mean}, brand="backwards")
    evaluation.evaluate_all(database, config(), after(5))
    told = [
        [(row.day, row.kind, row.state, row.rule_ma3) for row in alerts.listing(database, brand=brand)]
        for brand in ("forwards", "backwards")
    ]
    assert told[0] == told[1]
    assert [entry[2] for entry in told[0]].count("pending") == 1


def test_late_posts_still_announce_and_take_nothing_back(database: Database) -> None:
    """A day that closed fine and dips with its late posts is told; posts that turn it round again add a recovery."""
    save_days(database, {0: 0.6, 1: 0.5})
    evaluation.evaluate_all(database, config(), after(1))
    save_days(database, {1: 0.1}, n_posts=40)
    evaluation.evaluate_all(database, config(), after(1, 6))
    assert _told(database) == ["acme/2026-11-02/dip"]
    save_days(database, {1: 1.0}, n_posts=400)
    evaluation.evaluate_all(database, config(), after(1, 9))
    assert _row(database, "acme/2026-11-02/dip").state == "superseded"
    assert _told(database) == ["acme/2026-11-02/recovered"]


def test_any_number_of_replicas_announce_an_episode_once(
    store_url: str, open_database: Callable[[str], Database]
) -> None:
    """Six replicas with connections of their own evaluate ten brands at the same moment: one message per brand."""
    replicas = [open_database(store_url) for _ in range(6)]
    for number in range(10):
        save_days(replicas[0], {0: 0.2}, brand=f"brand {number}")
    start = threading.Barrier(len(replicas))
    counted: list[int] = []

    def evaluate(db: Database) -> None:
        start.wait()
        counted.append(evaluation.evaluate_all(db, config(), after(0)))

    threads = [threading.Thread(target=evaluate, args=(db,)) for db in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counted) == 10
    assert alerts.counts(replicas[0]) == {"pending": 10}


def test_evaluation_and_simulation_agree(database: Database) -> None:
    """Stored history replayed day by day tells what evaluating after every day told; nothing is written."""
    days = {0: 0.6, **dict.fromkeys(range(1, 9), 0.2), 9: 0.9, 10: 0.9, 11: 0.9, 14: 0.1}
    save_days(database, days)
    told: list[str] = []
    simulated = evaluation.simulate(database, config(), FIRST, after(15))
    assert alerts.listing(database) == []
    for offset in range(16):
        told += evaluation.evaluate(database, "acme", config(), after(offset))
    assert [alert.alert_key for alert in simulated] == told
    assert [alert.kind for alert in simulated] == ["dip", *["still_down"] * 4, "recovered"]
    assert simulated[0].rule_ma3 == pytest.approx(0.4)
    since = evaluation.simulate(database, config(), FIRST + timedelta(days=9), after(15), brand="acme")
    assert [alert.kind for alert in since] == ["recovered"]


def test_quotes_are_the_most_negative_posts_one_per_author(database: Database) -> None:
    """From the day that the message is about, without copies; not at all where texts are not stored."""
    save_days(database, {0: 0.2, 1: 0.3}, n_posts=8)
    save_days(database, {1: 0.05}, brand="other")
    no_text = config().model_copy(update={"store": config().store.model_copy(update={"keep_text": False})})
    evaluation.evaluate(database, "acme", config(), after(1))
    evaluation.evaluate(database, "other", no_text, after(1))
    shown = as_text(_row(database, "acme/2026-11-02/dip").message or "")
    assert (shown.count("▌ “"), shown.count("(day 1,")) == (3, 3)
    assert NOT_STORED in as_text(_row(database, "other/2026-11-02/dip").message or "")


def test_a_dry_run_waits_for_nobody(database: Database) -> None:
    """Without a token a message is `dry_run` at once, and taken once to be shown."""
    save_days(database, {0: 0.2})
    assert evaluation.evaluate_all(database, config(), after(0), dry_run=True) == 1
    assert _states(database) == {"acme/2026-11-01/dip": "dry_run"}
    assert alerts.n_waiting(database) == 0
    assert alerts.claim(database, after(0), LEASE_S) is None
    taken = [alerts.claim_dry_run(database, after(0)) for _ in range(2)]
    assert [one.alert_key if one else None for one in taken] == ["acme/2026-11-01/dip", None]


def test_silence_is_told_after_the_message_that_went_first(database: Database) -> None:
    """The dip in one evaluation, no_data in the next, which comes although nothing changed in between."""
    rule = config(no_data_days=2)
    save_days(database, {0: 0.2})
    told = [evaluation.evaluate_all(database, rule, after(3, hour)) for hour in (1, 2, 3)]
    assert told == [1, 1, 0]
    assert _told(database) == ["acme/2026-11-01/dip", "acme/2026-11-03/no_data"]
    assert _row(database, "acme/2026-11-03/no_data").episode is None


def test_silences_of_several_brands_are_all_told(database: Database) -> None:
    """Each is about a brand of its own: none supersedes another, neither when it is decided nor when it comes back."""
    rule = config(no_data_days=2)
    for brand in ("acme", "globex", "initech"):
        save_days(database, {0: 0.6}, brand=brand)
    assert evaluation.evaluate_all(database, rule, after(2)) == 3
    keys = [f"{brand}/2026-11-03/no_data" for brand in ("acme", "globex", "initech")]
    assert _states(database) == dict.fromkeys(keys, "pending")
    claimed = alerts.claim(database, after(2), LEASE_S)
    assert claimed is not None
    save_days(database, {0: 0.6}, brand="umbrella")
    assert evaluation.evaluate_all(database, rule, after(2, 1)) == 1
    assert alerts.mark(database, claimed, Change("pending", after(2), "HTTP 429"), after(2, 1))
    assert _states(database) == dict.fromkeys([*keys, "umbrella/2026-11-03/no_data"], "pending")


def test_a_brand_that_cannot_be_evaluated_does_not_silence_the_others(database: Database) -> None:
    """A row that nothing can draw is an error of its own; brands before and after it are told."""
    for brand in ("a", "m", "z"):
        save_days(database, {0: 0.2}, brand=brand)
    database.run(
        lambda connection: connection.execute(
            update(daily_sentiment).where(daily_sentiment.c.brand == "m").values(mean_pos=float("-inf"))
        )
    )
    with pytest.raises(ValueError, match="NaN"):
        evaluation.evaluate_all(database, config(), after(0))
    assert sorted(_states(database)) == ["a/2026-11-01/dip", "z/2026-11-01/dip"]


def test_hostile_posts_and_brands_go_through_the_store_unharmed(database: Database) -> None:
    """Markup, escape sequences and bidi controls in brand and text: the message is valid JSON and shows none."""
    brand = "acme/<!channel> \x1b[31m*bold* \u202e"
    save_days(database, {0: 0.2}, brand=brand)

    def spoil(connection: Any) -> None:
        connection.execute(update(posts).values(text="<!here> \x1b]0;x\x07 <http://evil.example|click> \u202egnp"))

    database.run(spoil)
    (key,) = evaluation.evaluate(database, brand, config(), after(0))
    message = _row(database, key).message
    assert message is not None
    assert "<" not in json.dumps(json.loads(message)["blocks"])
    assert not {"\x1b", "\u202e", "\x07"} & set(as_text(message))
    assert database.read(lambda connection: connection.execute(select(posts.c.brand)).scalars().first()) == brand
