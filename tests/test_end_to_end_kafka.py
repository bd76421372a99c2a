"""Kafka through the whole daemon into PostgreSQL: kills, replicas, bad messages, a restored database."""

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from daemon_process import command, wait_until
from fixtures_daemon import RunOnce
from fixtures_kafka import Broker
from fixtures_postgres import PostgresServer
from fixtures_slack import FakeSlack
from forked_daemon import ForkedDaemon
from sites import Site, copied_database, restore_database
from stored import check_totals, count, n_posts, posts, select
from traffic import BAD_MESSAGES, Producing, messages

from monitor.delivery import LEASE_S, LOOK_AFTER_S

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(real_kafka: Broker, postgres_server: PostgresServer, tmp_path: Path, tiny_bundle: str) -> MakeSite:
    """Makes sites on the session's Apache Kafka and PostgreSQL."""
    return lambda n_partitions: Site(real_kafka, postgres_server.create(), tmp_path, tiny_bundle, n_partitions)


def test_nothing_is_lost_or_doubled_by_kills_while_posts_keep_coming(make_site: MakeSite) -> None:
    """SIGKILL three times on the way, producing all the while, with and without ids, some bad, some sent again."""
    site = make_site(n_partitions=3)
    config = site.config()
    with Producing(site.broker.servers, site.topic, messages(3_000, n_partitions=3), per_s=300) as producing:
        for n_killed in range(3):
            with ForkedDaemon(config) as daemon:
                site.wait_for(site.n_records() + 300 + 200 * n_killed)
                daemon.kill()
        with ForkedDaemon(config) as daemon:
            producing.finish()
            site.check(producing.sent)
            assert daemon.stop() == 0


@pytest.mark.timeout(240)
def test_replicas_share_the_partitions_and_take_over_from_a_killed_one(make_site: MakeSite, slack: FakeSlack) -> None:
    """Three replicas, six partitions, one killed: every post counts once, each episode is told once."""
    site = make_site(n_partitions=6)
    rules = {"threshold": 1.0, "certainty": 0, "min_posts": 5, "hold_s": 0, "slack": {"base_url": slack.url}}
    configs = [site.config(alerts=rules) for _ in range(3)]
    env = {"SLACK_BOT_TOKEN": slack.token}
    with (
        Producing(site.broker.servers, site.topic, messages(4_000, 6, seed=2), per_s=300) as producing,
        ExitStack() as replicas,
    ):
        daemons = [replicas.enter_context(ForkedDaemon(config, env=env)) for config in configs]
        wait_until(lambda: all(daemon.is_ready() for daemon in daemons), "three replicas")
        site.wait_for(1_500)
        daemons[0].kill()
        producing.finish()
        site.check(producing.sent)
        wait_until(
            lambda: {"sent", "past", "superseded"} >= states(site) and len(slack.keys()) >= 5,
            "the messages",
            LEASE_S + LOOK_AFTER_S + 30,  # the killed one may have held one: its lease runs out, then it is looked for
        )
        assert [daemon.stop() for daemon in daemons[1:]] == [0, 0]
    sent = select(site.url, "SELECT alert_key, episode FROM alerts WHERE state = 'sent' AND kind = 'dip'")
    assert sent["episode"].is_unique
    keys = slack.keys()
    assert sorted(key for key in keys if key.endswith("/dip")) == sorted(sent["alert_key"])
    assert len(set(keys)) == len(keys)


def states(site: Site) -> set[str]:
    """The states of every alert."""
    return set(select(site.url, "SELECT DISTINCT state FROM alerts")["state"])


def test_every_kind_of_bad_message_is_refused_with_its_reason(make_site: MakeSite, run_once: RunOnce) -> None:
    """One dead letter each, at its place; the good messages around them count, whatever characters are in them."""
    site = make_site(n_partitions=1)
    odd = ["NUL \\u0000 inside", "half a pair \\ud83d", "bidi \\u202e turned", "bell \\u0007"]
    good = [f'{{"created_at": "2026-11-20T10:00:00Z", "text": "{text}"}}'.encode() for text in odd]
    good += [b'{"created_at": "2026-11-20T10:00:00", "text": "an id as a number", "id": 12345678901234567890123}']
    bad = [(reason, value(number)) for number, (reason, value) in enumerate(BAD_MESSAGES)]
    conflict = b'{"created_at": "2026-11-20T10:00:00", "text": "another text", "id": "12345678901234567890123"}'
    around = [b'{"created_at": "2026-11-20T10:00:00", "text": "good %d"}' % number for number in range(len(bad))]
    values = [*itertools.chain.from_iterable(zip(around, (value for _, value in bad), strict=True)), *good, conflict]
    site.broker.produce(site.topic, values)
    assert run_once(site.config()) == 0
    letters = select(site.url, "SELECT position, reason, raw, raw_truncated FROM dead_letters ORDER BY position")
    expected = [(2 * number + 1, reason) for number, (reason, _) in enumerate(bad)] + [(len(values) - 1, "id_conflict")]
    assert list(zip(letters["position"], letters["reason"], strict=True)) == expected
    raws = dict(zip(letters["position"].astype(int), letters["raw"], strict=True))
    assert raws == {place: (values[place] or b"")[:65_536] for place in raws}
    found = posts(site.url)
    assert len(found) == len(around) + len(good)
    assert found["pos_prob"].notna().all()
    stored = set(found["text"])
    assert {"NUL \ufffd inside", "half a pair \ufffd", "bidi \u202e turned", "bell \u0007"} <= stored
    assert set(found["id"].dropna()) == {"12345678901234567890123"}
    check_totals(site.url)


def test_a_source_with_too_much_bad_input_is_paused_until_it_is_resumed(make_site: MakeSite, run_once: RunOnce) -> None:
    """It shows in /readyz, survives a restart and ends `--once` with 65; the batch that trips it is not stored."""
    site = make_site(n_partitions=1)
    config = site.config()
    site.broker.produce(site.topic, [b'{"created_at": "2026-11-20T10:00:00", "text": "good"}'] * 50)
    with ForkedDaemon(config) as daemon:
        site.wait_for(50)
        site.broker.produce(site.topic, [b"broken"] * 120)
        wait_until(lambda: "WAIT source posts: paused" in daemon.ask("/readyz")[1], "the pause")
        assert daemon.ask("/readyz")[0] == 503
        n_read = site.n_records()
        assert 50 <= n_read < 101  # 51 of 101 is more than half
        daemon.kill()
    assert run_once(config) == 65
    assert site.n_records() == n_read
    site.broker.produce(site.topic, [b'{"created_at": "2026-11-20T10:00:00", "text": "good again"}'] * 300)
    with ForkedDaemon(site.config(max_invalid_share=1.0)) as daemon:
        wait_until(lambda: "WAIT source posts: paused" in daemon.ask("/readyz")[1], "the pause after a restart")
        assert command("sources", "resume", "posts", config=config).returncode == 0
        site.wait_for(470)
        daemon.wait_ready()
        assert daemon.stop() == 0
    assert n_posts(site.url) == 350
    assert count(site.url, "SELECT count(*) FROM dead_letters WHERE reason = 'bad_json'") == 120


def test_a_database_restored_from_an_older_copy_is_filled_again(make_site: MakeSite) -> None:
    """Under a running daemon, as by a failover, and between two runs: positions are as old as the rows."""
    site = make_site(n_partitions=2)
    config = site.config()
    with ForkedDaemon(config) as daemon:
        sent = site.produce(messages(500, 2, seed=5))
        site.wait_for(500)
        copied = copied_database(site.url)
        sent += site.produce(messages(500, 2, seed=6))
        site.wait_for(1_000)
        restore_database(site.url, copied)
        sent += site.produce(messages(500, 2, seed=7))
        site.check(sent)
        assert "reading again" in daemon.log()
        assert daemon.stop() == 0
    restore_database(site.url, copied)
    assert site.n_records() == 500
    with ForkedDaemon(config) as daemon:
        site.check(sent)
        assert daemon.stop() == 0
