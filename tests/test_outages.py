"""Broker, database and Slack go away under load and come back: nothing lost, nothing doubled, no restart."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemon_process import wait_until, write_config
from fixtures_kafka import Broker
from fixtures_postgres import PostgresServer
from fixtures_slack import Answer, FakeSlack
from forked_daemon import ForkedDaemon
from stored import check_days, check_stream, check_totals, count, is_refreshed, n_posts, posts, select, url_in
from traffic import Producing, csv_bytes, drop, messages, rows

AWAY_S = 6.0


@contextmanager
def away(go: Callable[[], None], come_back: Callable[[], None]) -> Iterator[None]:
    """The outage, AWAY_S long, and what is to be seen during it."""
    go()
    began = time.monotonic()
    try:
        yield
        time.sleep(max(0.0, began + AWAY_S - time.monotonic()))
    finally:
        come_back()


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.timeout(240)
def test_broker_and_database_may_go_away_under_load(
    real_kafka: Broker, restartable_postgres: PostgresServer, tmp_path: Path, tiny_bundle: str
) -> None:
    """Frozen broker, frozen database, stopped database, one after the other, while posts keep coming."""
    url = restartable_postgres.create()
    topic = real_kafka.create_topic(real_kafka.new_name("posts"), 2)
    source = {"name": "posts", "kind": "kafka", "bootstrap_servers": real_kafka.servers, "topics": [topic]}
    source |= {"group_id": real_kafka.new_name("group")}
    config = write_config(tmp_path, sources=[source], scoring={"bundle": tiny_bundle}, store={"url": url})
    with (
        Producing(real_kafka.servers, topic, messages(20_000, 2), per_s=150) as producing,
        ForkedDaemon(config) as daemon,
    ):

        def goes_on() -> None:
            target = n_posts(url) + 300
            wait_until(lambda: n_posts(url) > target and daemon.is_ready(), "posts after the outage")

        goes_on()
        with away(real_kafka.freeze, real_kafka.thaw):
            pass
        goes_on()
        with away(restartable_postgres.freeze, restartable_postgres.thaw):
            assert daemon.ask("/livez")[0] == 200
        goes_on()
        with away(restartable_postgres.stop, restartable_postgres.start):
            wait_until(lambda: daemon.ask("/readyz")[0] == 503, "the store to be missed")
            assert "WAIT store: The database" in daemon.ask("/readyz")[1]
        goes_on()
        producing.stop()
        wait_until(lambda: count(url, "SELECT sum(next_offset) FROM positions") == producing.n_sent, "the rest")
        wait_until(lambda: is_refreshed(url), "the daily rows")
        check_stream(url, producing.sent)
        check_totals(url)
        check_days(url, posts(url))
        assert daemon.stop() == 0
    assert daemon.log().count("store is not available") <= 2  # frozen and stopped


def test_slack_may_go_away_under_load(tmp_path: Path, tiny_bundle: str, slack: FakeSlack) -> None:
    """Errors, a lost answer: posts go on counting, /readyz stays 200, each message is there once in the end."""
    slack.script.extend([Answer(status=503, posts=False), Answer(drops=True, posts=True)])
    alerts = {"threshold": 1.0, "certainty": 0, "min_posts": 1, "hold_s": 0, "slack": {"base_url": slack.url}}
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle}, alerts=alerts)
    drop(tmp_path, "a.csv", csv_bytes(rows(100)))
    with ForkedDaemon(config, env={"SLACK_BOT_TOKEN": slack.token}) as daemon:
        wait_until(lambda: "warn slack" in daemon.ask("/readyz")[1], "Slack to be missed")
        assert daemon.ask("/readyz")[0] == 200
        drop(tmp_path, "b.csv", csv_bytes(rows(100, seed=2)))
        wait_until(lambda: n_posts(url_in(tmp_path)) == 200, "posts during the outage")
        waiting = "SELECT count(*) FROM alerts WHERE state IN ('pending', 'sending', 'unknown')"
        wait_until(lambda: count(url_in(tmp_path), waiting) == 0, "every message")
        wait_until(lambda: "ok   slack" in daemon.ask("/readyz")[1], "Slack to be well again")
        assert daemon.stop() == 0
    sent = select(url_in(tmp_path), "SELECT alert_key FROM alerts WHERE state = 'sent'")
    assert sorted(slack.keys()) == sorted(sent["alert_key"])
    assert len(sent) >= 5
