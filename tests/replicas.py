"""Three replicas on six partitions, every service behind a proxy, and what must be true when all is through."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from daemon_process import wait_until, write_config
from fixtures_kafka import Broker, real_broker
from fixtures_postgres import PostgresServer
from fixtures_slack import FakeSlack
from forked_daemon import ForkedDaemon
from nemesis_feed import N_PARTITIONS, Numbered
from ports import free_port
from tcp_proxy import TcpProxy

N_REPLICAS = 3
SESSION_S = 4.0
DRAIN_S = 420.0


class Replica:
    """One member of the group: its configuration, and the daemon that runs or not."""

    def __init__(self, config: Path, token: str) -> None:
        self._config = config
        self._env = {"SLACK_BOT_TOKEN": token}
        self.daemon = ForkedDaemon(config, env=self._env)
        self.is_expected = False  # that its daemon runs
        self.lock = threading.Lock()  # one fault at a time
        self.logs: list[Path] = []

    def start(self, crash_at: str = "") -> None:
        """Start a daemon that may freeze itself at a step."""
        self.daemon = ForkedDaemon(self._config, env=self._env, crash_at=crash_at)
        self.logs.append(self.daemon.log_path)
        self.daemon.start()
        self.is_expected = True

    def kill(self) -> None:
        """SIGKILL, frozen or not."""
        self.is_expected = False
        self.daemon.kill()

    def end(self) -> None:
        """Whatever state it is in."""
        if self.daemon.process is not None:
            self.kill()

    def stop(self) -> None:
        """SIGTERM: it must leave with 0 in time, whatever is away."""
        wait_until(lambda: self.has_ended or self.daemon.ask("/livez")[0] != 0, "a start to be stopped")
        self.is_expected = False
        code = self.daemon.stop()
        assert code == 0, f"stopped with {code}: {self.daemon.log()[-3000:]}"

    @property
    def has_ended(self) -> bool:
        """The daemon ended although nobody ended it."""
        return self.is_expected and self.daemon.process is not None and self.daemon.process.poll() is not None

    def is_frozen_by(self, deadline: float) -> bool:
        """Wait until the daemon has stopped itself, at most until `deadline` (monotonic)."""
        assert self.daemon.process is not None
        process = psutil.Process(self.daemon.process.pid)
        while process.status() != psutil.STATUS_STOPPED:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    @property
    def rss_mib(self) -> float:
        """Resident memory now; 0 where no daemon runs."""
        process = self.daemon.process
        try:
            return float(psutil.Process(process.pid).memory_info().rss) / 2**20 if process else 0.0
        except psutil.NoSuchProcess:
            return 0.0


@dataclass
class Ground:
    """The services, each behind a proxy, and the replicas on them."""

    broker: Broker
    postgres: PostgresServer
    slack: FakeSlack
    to_broker: TcpProxy
    to_postgres: TcpProxy
    topic: str
    url: str  # of the database, without the proxy
    replicas: list[Replica]
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@contextmanager
def ground(folder: Path, postgres: PostgresServer, slack: FakeSlack, bundle: str) -> Iterator[Ground]:
    """Start broker, proxies and replicas in `folder`; all are gone after the block."""
    with ExitStack() as stack:
        broker, to_broker = _proxied_broker(folder, stack)
        url = postgres.create()
        parts = psycopg.conninfo.conninfo_to_dict(url)
        socket = Path(str(parts["host"])) / f".s.PGSQL.{parts.get('port', 5432)}"
        to_postgres = stack.enter_context(TcpProxy(socket))
        topic = broker.create_topic("posts", N_PARTITIONS)
        through = f"postgresql://{parts['user']}@127.0.0.1:{to_postgres.port}/{parts['dbname']}?sslmode=disable"
        folders = [folder / f"replica-{number}" for number in range(N_REPLICAS)]
        configs = [_config(one, through, to_broker.port, topic, slack, bundle) for one in folders]
        replicas = [Replica(config, slack.token) for config in configs]
        for replica in replicas:
            stack.callback(replica.end)
        made = Ground(broker, postgres, slack, to_broker, to_postgres, topic, url, replicas)
        for replica in replicas:
            replica.start()
        wait_until(lambda: all(replica.daemon.is_ready() for replica in replicas), "three replicas")
        yield made


def _proxied_broker(folder: Path, stack: ExitStack) -> tuple[Broker, TcpProxy]:
    """A broker with two doors: its own port for the producer, and one that is only told of as the proxy's."""
    (folder / "log").mkdir(parents=True)
    controller, behind, before = free_port(), free_port(), free_port()
    (folder / "log" / "controller.port").write_text(f"{controller}\n")
    direct = free_port()
    broker = real_broker(
        folder,
        f"listeners=CLIENT://127.0.0.1:{direct},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}",
        f"advertised.listeners=CLIENT://127.0.0.1:{direct},PROXIED://127.0.0.1:{before}",
        "listener.security.protocol.map=CLIENT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
        port=direct,
    )
    stack.callback(broker.kill)
    return broker, stack.enter_context(TcpProxy(behind, before))


def _config(folder: Path, url: str, broker_port: int, topic: str, slack: FakeSlack, bundle: str) -> Path:
    folder.mkdir(parents=True)
    source = {
        "name": "posts",
        "kind": "kafka",
        "bootstrap_servers": [f"127.0.0.1:{broker_port}"],
        "topics": [topic],
        "group_id": "monitors",
        "options": {"session_timeout_ms": int(SESSION_S * 1000), "heartbeat_interval_ms": 1000},
    }
    rule = {"threshold": 1.0, "certainty": 0, "min_posts": 20, "hold_s": 5, "slack": {"base_url": slack.url}}
    return write_config(
        folder,
        sources=[source],
        scoring={"bundle": bundle, "max_wait_ms": 300, "max_batch_posts": 1000},
        store={"url": url},
        schedule={"refresh_s": 2, "deliver_s": 1},
        alerts=rule,
        max_invalid_share=1.0,
        http={"port": free_port()},
    )


def drain(ground: Ground, feed: Numbered, deadline_s: float = DRAIN_S) -> None:
    """Wait until every record is through, the days are refreshed and no message waits."""
    wanted = feed.n_records
    _wait(ground, lambda: n_taken(ground) >= wanted, f"{wanted} records", deadline_s)
    dirty = "SELECT count(*) FROM brands WHERE dirty_from IS NOT NULL"
    _wait(ground, lambda: _number(ground.url, dirty) == 0, "days", 60)
    waiting = "SELECT count(*) FROM alerts WHERE state IN ('pending', 'sending', 'unknown')"
    untold = "SELECT count(*) FROM brands WHERE brand NOT IN (SELECT brand FROM alerts)"
    _wait(ground, lambda: _number(ground.url, untold) == 0, "episodes", 120)
    _wait(ground, lambda: _number(ground.url, waiting) == 0, "messages", deadline_s)


def _wait(ground: Ground, condition: Callable[[], bool], what: str, deadline_s: float) -> None:
    def is_so() -> bool:
        assert not ground.failures, ground.failures
        for number, replica in enumerate(ground.replicas):
            assert not replica.has_ended, f"replica {number} ended by itself: {replica.daemon.log()[-3000:]}"
        try:
            return condition()
        except psycopg.OperationalError:  # on a busy machine a database may still be recovering from the last fault
            return False

    wait_until(is_so, what, deadline_s)


def n_taken(ground: Ground) -> int:
    """Records of the topic that are stored or refused, by the positions."""
    return _number(ground.url, "SELECT coalesce(sum(next_offset), 0) FROM positions")


def _number(url: str, query: str) -> int:
    with psycopg.connect(url, connect_timeout=10) as connection:
        row: Any = connection.execute(query.encode()).fetchone()
    return int(row[0])


def check_alerts(ground: Ground) -> int:
    """The channel shows what the outbox calls sent, each message once, and every episode was told; returns how many."""
    with psycopg.connect(ground.url) as connection:
        sent = [row[0] for row in connection.execute("SELECT alert_key FROM alerts WHERE state = 'sent'")]
        untold = connection.execute(
            "SELECT brand FROM episodes WHERE began_on IS NOT NULL "
            "AND episode NOT IN (SELECT episode FROM alerts WHERE state = 'sent')"
        ).fetchall()
    shown = Counter(ground.slack.keys())
    doubled = [key for key, n in shown.items() if n > 1]
    assert not doubled, f"told twice: {doubled}"
    assert set(shown) == set(sent), f"shown and sent differ: {sorted(set(shown) ^ set(sent))[:5]}"
    assert not untold, f"episodes nobody was told of: {untold[:5]}"
    return len(sent)


def stop_all(replicas: Sequence[Replica]) -> None:
    """Every daemon leaves with 0 in time."""
    for replica in replicas:
        replica.stop()
