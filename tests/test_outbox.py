"""The outbox on real databases: claims that only their holder can mark, leases, drops, counts."""

import threading
from collections.abc import Callable
from datetime import timedelta

from alert_histories import after, config, save_days

from monitor.store import alerts, evaluation
from monitor.store.alerts import AlertRow, Change
from monitor.store.database import Database

LEASE_S = 60.0


def _states(db: Database) -> dict[str, str]:
    return {row.alert_key: row.state for row in alerts.listing(db)}


def _row(db: Database, alert_key: str) -> AlertRow:
    row = alerts.get(db, alert_key)
    assert row is not None
    return row


def _with_pending(db: Database, *offsets: int) -> None:
    for offset in offsets:
        save_days(db, {offset: 0.2}, brand=f"brand {offset}")
        evaluation.evaluate_all(db, config(), after(offset))


def test_a_claim_is_for_one_and_the_oldest_goes_first(database: Database) -> None:
    """Two claims take two messages in the order of their decisions; a third finds nothing."""
    _with_pending(database, 0, 1)
    claimed = [alerts.claim(database, after(2), LEASE_S) for _ in range(3)]
    assert [one and (one.brand, one.state, one.attempts) for one in claimed] == [
        ("brand 0", "sending", 1),
        ("brand 1", "sending", 1),
        None,
    ]
    assert all(one.next_attempt_at == after(2) + timedelta(seconds=LEASE_S) for one in claimed if one)


def test_claims_by_many_replicas_never_meet(store_url: str, open_database: Callable[[str], Database]) -> None:
    """Four replicas drain twelve messages at once: each is taken once."""
    replicas = [open_database(store_url) for _ in range(4)]
    for number in range(12):
        save_days(replicas[0], {0: 0.2}, brand=f"brand {number}")
    evaluation.evaluate_all(replicas[0], config(), after(0))
    taken: list[str] = []

    def drain(db: Database) -> None:
        while claimed := alerts.claim(db, after(1), LEASE_S):
            taken.append(claimed.alert_key)

    threads = [threading.Thread(target=drain, args=(db,)) for db in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(set(taken))) == (12, 12)


def test_a_lease_that_ran_out_is_unknown_and_its_late_holder_is_still_heard(database: Database) -> None:
    """Never `pending` again by itself; who holds the attempt may say that it was sent, until another attempt began."""
    _with_pending(database, 0)
    late = alerts.claim(database, after(1), LEASE_S)
    assert late is not None
    expired = after(1) + timedelta(seconds=LEASE_S)
    assert alerts.claim(database, expired, LEASE_S, after_lease_s=15) is None
    assert _row(database, late.alert_key).state == "unknown"
    look = alerts.claim(database, expired + timedelta(seconds=15), LEASE_S)
    assert look is not None
    assert (look.state, look.attempts) == ("unknown", 1)
    assert alerts.mark(database, late, Change("sent", channel="C1", ts="1.1"), expired)
    assert not alerts.mark(database, look, Change("pending", expired), expired)
    row = _row(database, late.alert_key)
    assert (row.state, row.slack_channel, row.slack_ts, row.sent_at) == ("sent", "C1", "1.1", expired)
    assert alerts.last_sent_at(database) == expired


def test_the_holder_of_an_earlier_attempt_cannot_mark_a_later_one(database: Database) -> None:
    """A zombie wakes up after its message went back and was taken again: its word no longer counts."""
    _with_pending(database, 0)
    zombie = alerts.claim(database, after(1), LEASE_S)
    assert zombie is not None
    alerts.mark(database, zombie, Change("pending", after(1), "HTTP 429"), after(1))
    second = alerts.claim(database, after(1), LEASE_S)
    assert second is not None
    assert second.attempts == 2
    assert not alerts.mark(database, zombie, Change("pending", after(1), "late"), after(1))
    assert _row(database, zombie.alert_key).state == "sending"


def test_a_message_that_comes_back_after_a_later_one_is_superseded(database: Database) -> None:
    """A dip whose sending failed while its reminder was decided does not follow the reminder."""
    save_days(database, {0: 0.2})
    evaluation.evaluate_all(database, config(), after(0))
    claimed = alerts.claim(database, after(0), LEASE_S)
    assert claimed is not None
    save_days(database, {1: 0.2})
    evaluation.evaluate_all(database, config(), after(1))
    assert alerts.mark(database, claimed, Change("pending", after(1), "HTTP 429"), after(1))
    assert _states(database) == {"acme/2026-11-01/dip": "superseded", "acme/2026-11-02/still_down": "pending"}


def test_waiting_messages_can_be_dropped_counted_and_explained(database: Database) -> None:
    """`drop` takes what waits and nothing else; `failing` has the last error of what waits."""
    _with_pending(database, 0, 1)
    assert alerts.failing(database) == (0, None)
    claimed = alerts.claim(database, after(2), LEASE_S)
    assert claimed is not None
    alerts.mark(database, claimed, Change("pending", after(3), "not_in_channel"), after(2))
    assert alerts.failing(database) == (1, "not_in_channel")
    assert alerts.drop(database, claimed.alert_key)
    assert not alerts.drop(database, claimed.alert_key)
    assert not alerts.drop(database, "nobody/2026-01-01/dip")
    assert alerts.counts(database) == {"dropped": 1, "pending": 1}
    assert [row.brand for row in alerts.listing(database, state="pending", limit=5)] == ["brand 1"]
    assert alerts.get(database, "nobody/2026-01-01/dip") is None
