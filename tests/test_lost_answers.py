"""The answer to a COMMIT is lost: it was done, the program cannot know, and does the same again."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import psycopg
import pytest
from alert_histories import config, save_days
from batches import everything, mixed_batch, rules
from deliveries import NOW, decide_dips, dip_of, drain, key_of_dip
from fixtures_slack import FakeSlack
from tcp_proxy import TcpProxy

from monitor.delivery import LEASE_S, LOOK_AFTER_S
from monitor.store import alerts, daily, evaluation
from monitor.store.alerts import Change
from monitor.store.database import Database
from monitor.store.saving import Saver

pytestmark = pytest.mark.postgres

Work = Callable[[], object]


class LossyStore:
    """A database behind a proxy that loses the answer to the next COMMIT on demand."""

    def __init__(self, db: Database, proxy: TcpProxy) -> None:
        self.db = db
        self._proxy = proxy

    def lose_the_commit_of(self, work: Work) -> object:
        """Let `work` commit without learning of it; returns what it returned in the end."""
        self._proxy.answer_to_lose = b"COMMIT\0"  # not READ COMMITTED
        result = work()
        assert self._proxy.answer_to_lose is None, "nothing was committed"
        return result


@pytest.fixture
def store(postgres_url: str, open_database: Callable[[str], Database]) -> Iterator[LossyStore]:
    """An empty PostgreSQL database whose answers may get lost."""
    parts = psycopg.conninfo.conninfo_to_dict(postgres_url)
    with TcpProxy(Path(str(parts["host"])) / f".s.PGSQL.{parts.get('port', 5432)}") as proxy:
        address = f"{parts['user']}@127.0.0.1:{proxy.port}/{parts['dbname']}"
        db = open_database(f"postgresql://{address}?sslmode=disable")
        everything(db)  # connects, which commits too
        yield LossyStore(db, proxy)


def test_a_save_whose_commit_was_not_answered_counts_once(store: LossyStore, database_beside: Database) -> None:
    """The batch is saved again on a new connection, as seen before: every table is as after one undisturbed save."""
    saver, batch = Saver(store.db, rules()), mixed_batch(0, 200)
    saved = store.lose_the_commit_of(lambda: saver.save(batch))
    first = Saver(database_beside, rules()).save(batch)
    assert saved == msgspec.structs.replace(first, n_inserted=0, n_seen_before=first.n_inserted + first.n_seen_before)
    assert everything(store.db) == everything(database_beside)
    store.lose_the_commit_of(lambda: daily.refresh(store.db, NOW))
    assert daily.recount(store.db) == []
    assert saver.save(mixed_batch(200, 40)).n_inserted > 0


@pytest.fixture
def database_beside(sqlite_url: str, open_database: Callable[[str], Database]) -> Database:
    """Another empty database, to compare with."""
    return open_database(sqlite_url)


def test_an_evaluation_whose_commit_was_not_answered_tells_once(store: LossyStore, slack: FakeSlack) -> None:
    """Episode and message came in that transaction: the second attempt finds both and adds nothing."""
    save_days(store.db, {0: 0.2})
    assert store.lose_the_commit_of(lambda: evaluation.evaluate(store.db, "acme", config(), NOW)) == []
    assert [row.alert_key for row in alerts.listing(store.db)] == [key_of_dip("acme")]
    drain(store.db, slack, NOW)
    assert slack.keys() == [key_of_dip("acme")]


def test_a_claim_whose_commit_was_not_answered_is_made_up_for(store: LossyStore, slack: FakeSlack) -> None:
    """The message waits for a lease that nobody knows of, is seen to be missing in the channel, and is sent once."""
    decide_dips(store.db, "acme")
    assert store.lose_the_commit_of(lambda: alerts.claim(store.db, NOW, LEASE_S)) is None
    assert drain(store.db, slack, NOW) == 0
    assert (dip_of(store.db).state, slack.keys()) == ("sending", [])
    for later_s in (LEASE_S, LEASE_S + LOOK_AFTER_S, LEASE_S + LOOK_AFTER_S + 5):
        drain(store.db, slack, NOW + timedelta(seconds=later_s))
    assert (dip_of(store.db).state, slack.keys()) == ("sent", [key_of_dip("acme")])


def test_a_mark_whose_commit_was_not_answered_is_marked_once(store: LossyStore, slack: FakeSlack) -> None:
    """Posted, marked, not heard of: marked again as the same attempt's, and not posted again."""
    decide_dips(store.db, "acme")
    claimed = alerts.claim(store.db, NOW, LEASE_S)
    assert claimed is not None
    change = Change("sent", channel="C0BRANDALRT", ts="1790000000.000100")
    store.lose_the_commit_of(lambda: alerts.mark(store.db, claimed, change, NOW))
    drain(store.db, slack, NOW + timedelta(seconds=LEASE_S + LOOK_AFTER_S))
    assert (dip_of(store.db).state, slack.keys()) == ("sent", [])
