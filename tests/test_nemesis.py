"""A minute of `make soak`: three replicas under kills, freezes, bad networks and restarts of what they stand on."""

import random
from pathlib import Path

import pytest
from fixtures_kafka import REFUSED_SOCKETS
from fixtures_postgres import PostgresServer
from fixtures_slack import FakeSlack
from nemesis import Nemesis
from nemesis_feed import Numbered, check_log
from replicas import check_alerts, drain, ground, stop_all

pytestmark = [*REFUSED_SOCKETS, pytest.mark.kafka, pytest.mark.postgres, pytest.mark.long]


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_doubled_whatever_dies(
    restartable_postgres: PostgresServer, slack: FakeSlack, tmp_path: Path, tiny_bundle: str
) -> None:
    """Every record of the broker's log is one post or one dead letter, totals are a recount, messages come once."""
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201  shown when the test fails
    with (
        ground(tmp_path / "ground", restartable_postgres, slack, tiny_bundle) as site,
        Numbered(site.broker.servers, site.topic, 100_000, per_s=250, per_brand=1000) as feed,
    ):
        Nemesis(site, seed, pace=0.2).each_once()
        feed.finish()
        assert not site.failures, site.failures
        drain(site, feed)
        counted = check_log(feed, site.url)
        assert check_alerts(site) >= counted["records"] // 1000
        stop_all(site.replicas)
