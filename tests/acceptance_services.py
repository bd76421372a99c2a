"""Acceptance checks with Kafka, PostgreSQL and Slack: kills, replicas, outages, a restored database, stops."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from acceptance_ground import BUNDLE, RULES, WAITING, Ground, counts
from daemon_process import DaemonProcess, wait_until, write_config
from fixtures_slack import Answer, FakeSlack, running_slack
from ports import free_port
from sites import Site, copied_database, restore_database
from stored import count, select
from traffic import Producing, csv_bytes, drop, messages, rows

AWAY_S = 30.0
STOP_S = 25.0


def kafka_kills(ground: Ground) -> Iterator[str]:
    """50,000 posts by Kafka into PostgreSQL, killed three times, producing all the while."""
    site = ground.site(4)
    config = site.config()
    n_messages = 50_000
    with Producing(site.broker.servers, site.topic, messages(n_messages, 4), per_s=600) as producing:
        for share in (0.15, 0.4, 0.65):
            with DaemonProcess(config) as daemon:
                site.wait_for(int(n_messages * share), 300)
                daemon.kill()
                yield f"killed at {site.n_records()} of {producing.n_sent} records"
        with DaemonProcess(config) as daemon:
            producing.finish()
            site.check(producing.sent, 300)
            assert daemon.stop() == 0
    yield counts(site)


def replicas(ground: Ground) -> Iterator[str]:
    """Three replicas, six partitions; one killed, one stopped for a while; one message per episode."""
    site = ground.site(6)
    with running_slack() as slack, ExitStack() as stack:
        rules = RULES | {"hold_s": 5, "slack": {"base_url": slack.url}}
        env = {"SLACK_BOT_TOKEN": slack.token}
        producing = stack.enter_context(
            Producing(site.broker.servers, site.topic, messages(40_000, 6, seed=2), per_s=500)
        )
        daemons = [stack.enter_context(DaemonProcess(site.config(alerts=rules), env=env)) for _ in range(3)]
        wait_until(lambda: all(daemon.is_ready() for daemon in daemons), "three replicas", 120)
        site.wait_for(10_000, 300)
        daemons[0].kill()
        yield f"one of three killed at {site.n_records()} of {producing.n_sent} records"
        daemons[1].send(signal.SIGSTOP)
        time.sleep(20)  # longer than the group's patience of 15 s
        daemons[1].send(signal.SIGCONT)
        yield f"another stopped for 20 s and gone on at {site.n_records()} of {producing.n_sent} records"
        producing.finish()
        site.check(producing.sent, 300)
        wait_until(lambda: len(slack.keys()) >= 5 and not count(site.url, WAITING), "the messages", 120)
        assert [daemon.stop() for daemon in daemons[1:]] == [0, 0]
        keys = slack.keys()
    assert len(set(keys)) == len(keys), keys
    dips = select(site.url, "SELECT episode FROM alerts WHERE state = 'sent' AND kind = 'dip'")["episode"]
    assert dips.is_unique
    yield counts(site)
    yield f"{len(keys)} messages, none twice; {len(dips)} episodes, each announced once"


def outages(ground: Ground) -> Iterator[str]:
    """Broker, database and Slack each away for 30 s under load, one daemon all the while."""
    site = ground.site(3)
    slack_port = free_port()
    rules = RULES | {"hold_s": 5, "slack": {"base_url": f"http://127.0.0.1:{slack_port}/api/"}}
    config = site.config(alerts=rules)
    with ExitStack() as stack:
        producing = stack.enter_context(Producing(site.broker.servers, site.topic, messages(200_000, 3), per_s=200))
        daemon = stack.enter_context(DaemonProcess(config, env={"SLACK_BOT_TOKEN": "xoxb-good"}))

        def comes_back(what: str, go: Callable[[], None], come_back: Callable[[], None]) -> str:
            _gain(site, daemon, 1_000)
            go()
            try:
                time.sleep(AWAY_S)
                seen = daemon.ask("/readyz")
            finally:
                come_back()
            assert seen[0] == 503, seen
            began = time.monotonic()
            _gain(site, daemon, 1_000)
            wait_until(lambda: site.n_records() >= producing.n_sent - 1_000, "catching up", 120)
            down = [line for line in seen[1].splitlines() if line.startswith("WAIT")]
            return f"{what}: /readyz {down[0][:60]}..., caught up {time.monotonic() - began:.1f} s after"

        yield comes_back("broker stopped with SIGSTOP", site.broker.freeze, site.broker.thaw)
        yield comes_back("database stopped with SIGSTOP", ground.postgres.freeze, ground.postgres.thaw)
        yield comes_back("database shut down", ground.postgres.stop, ground.postgres.start)
        wait_until(lambda: "warn slack" in daemon.ask("/readyz")[1], "Slack to be missed")
        assert daemon.ask("/readyz")[0] == 200
        slack = stack.enter_context(running_slack(slack_port))
        slack.script.extend([Answer(status=503, posts=False)] * 2)
        wait_until(lambda: len(slack.keys()) >= 5 and not count(site.url, WAITING), "the messages", 420)
        yield f"Slack refused connections all that time, then answered 503 twice: {len(slack.keys())} messages after"
        producing.stop()
        site.check(producing.sent, 120)
        assert daemon.stop() == 0
        sent = select(site.url, "SELECT alert_key FROM alerts WHERE state = 'sent'")["alert_key"]
        assert sorted(slack.keys()) == sorted(sent)
    yield counts(site)


def restored(ground: Ground) -> Iterator[str]:
    """A database restored from an older copy, while the daemon is stopped and while it runs."""
    site = ground.site(3)
    config = site.config()
    with DaemonProcess(config) as daemon:
        sent = site.produce(messages(5_000, 3, seed=3))
        site.wait_for(5_000, 120)
        assert daemon.stop() == 0
    copied = copied_database(site.url)
    with DaemonProcess(config) as daemon:
        sent += site.produce(messages(5_000, 3, seed=4))
        site.wait_for(10_000, 120)
        assert daemon.stop() == 0
    restore_database(site.url, copied)
    with DaemonProcess(config) as daemon:
        site.check(sent, 120)
        yield f"while stopped: {counts(site)}"
        restore_database(site.url, copied)
        sent += site.produce(messages(1_000, 3, seed=5))
        site.check(sent, 120)
        yield f"while running: {counts(site)}"
        assert daemon.stop() == 0


def stops(ground: Ground) -> Iterator[str]:
    """SIGTERM and SIGINT in every state: exit 0 within 25 s."""
    site = ground.site(1)
    with running_slack() as slack:
        rules = RULES | {"min_posts": 1, "hold_s": 0, "slack": {"base_url": slack.url}}
        config = site.config(alerts=rules)

        def stop(number: signal.Signals = signal.SIGTERM) -> float:
            began = time.monotonic()
            assert daemon.stop(number, STOP_S) == 0
            return time.monotonic() - began

        def started() -> DaemonProcess:
            return stack.enter_context(DaemonProcess(config, env={"SLACK_BOT_TOKEN": slack.token}))

        with ExitStack() as stack:
            daemon = started().wait_ready()
            yield f"idle: {stop(signal.SIGINT):.1f} s"
            daemon = started().wait_ready()
            with Producing(site.broker.servers, site.topic, messages(6_000), per_s=2_000):
                site.wait_for(1_000)
                yield f"busy: {stop():.1f} s"
            daemon = started()
            with _frozen(daemon, site.broker.freeze, site.broker.thaw):
                yield f"broker frozen: {stop():.1f} s"
            daemon = started()
            with (
                Producing(site.broker.servers, site.topic, messages(20_000, seed=2), per_s=1_000) as producing,
                _frozen(daemon, ground.postgres.freeze, ground.postgres.thaw),
            ):
                yield f"database frozen: {stop():.1f} s"
                producing.stop()
            daemon = started()
            with _frozen(daemon, ground.postgres.stop, ground.postgres.start):
                yield f"database down: {stop():.1f} s"
            yield _slack_hangs(slack, ground, stack)


@contextmanager
def _frozen(daemon: DaemonProcess, go: Callable[[], None], come_back: Callable[[], None]) -> Iterator[None]:
    daemon.wait_ready()
    go()
    try:
        time.sleep(3)  # for the daemon to run into it
        yield
    finally:
        come_back()


def _slack_hangs(slack: FakeSlack, ground: Ground, stack: ExitStack) -> str:
    slack.script.append(Answer(silent=True))
    n_before = slack.n_requests
    folder = ground.folder()
    rules = RULES | {"min_posts": 1, "hold_s": 0, "slack": {"base_url": slack.url}}
    config = write_config(folder, scoring={"bundle": BUNDLE}, alerts=rules)
    drop(folder, "posts.csv", csv_bytes(rows(50)))
    daemon = stack.enter_context(DaemonProcess(config, env={"SLACK_BOT_TOKEN": slack.token}))
    wait_until(lambda: slack.n_requests > n_before, "a message on its way")
    began = time.monotonic()
    assert daemon.stop() == 0
    return f"Slack hanging: {time.monotonic() - began:.1f} s"


def _gain(site: Site, daemon: DaemonProcess, n_records: int) -> None:
    target = site.n_records() + n_records
    wait_until(lambda: site.n_records() > target and daemon.is_ready(), f"{n_records} more records", 120)
