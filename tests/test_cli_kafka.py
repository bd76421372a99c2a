"""Commands that ask Kafka brokers: `check`, `sources list`, `sources seek`."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_runs import Cli, make_cli
from fixtures_kafka import Broker

from monitor.posts import StreamPartition
from monitor.store import positions
from monitor.store.database import Database

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(real_kafka: Broker) -> str:
    """A topic of two partitions with three and one messages."""
    name = real_kafka.create_topic(real_kafka.new_name("commands"), 2)
    real_kafka.produce(name, [b"1", b"2", b"3"])
    real_kafka.produce(name, [b"4"], partition=1)
    return name


@pytest.fixture
def cli(tmp_path: Path, sqlite_url: str, real_kafka: Broker, topic: str) -> Cli:
    """Commands with that topic as their source."""
    source = {"name": "posts", "kind": "kafka", "bootstrap_servers": real_kafka.servers, "topics": [topic]}
    return make_cli(tmp_path, sqlite_url, sources=[source])


@pytest.fixture
def db(open_database: object, sqlite_url: str) -> Database:
    """The database of those commands."""
    opened = open_database(sqlite_url)  # type: ignore[operator]
    assert isinstance(opened, Database)
    return opened


def stored(db: Database, topic: str) -> dict[int, int]:
    """Partition -> next offset, all of one stream that names the topic with its id."""
    found = positions.load(db, "posts")
    assert len({at.stream for at in found}) <= 1
    assert all(at.stream.startswith(f"{topic}@") and len(at.stream) > len(topic) + 8 for at in found)
    return {at.partition: position.next_offset for at, position in found.items()}


def test_check_asks_the_brokers(cli: Cli, topic: str) -> None:
    """`check` says that the brokers answer and how many partitions the topic has."""
    assert f"answers; {topic} (2 partitions)" in cli.run("check").stdout


def test_check_names_a_missing_topic(tmp_path: Path, sqlite_url: str, real_kafka: Broker) -> None:
    """A topic that the brokers do not have is told: 69."""
    source = {"name": "posts", "kind": "kafka", "bootstrap_servers": real_kafka.servers, "topics": ["nowhere"]}
    result = make_cli(tmp_path, sqlite_url, sources=[source]).run("check")
    assert result.exit_code in {69, 78}  # 78 where the shipped bundle is not there
    assert "has no topic nowhere" in result.stdout


def test_list_counts_the_lag(cli: Cli, db: Database, topic: str) -> None:
    """Before anything was read the lag is all there is; from a stored position on it is the rest."""

    def listed() -> list[tuple[int, int | None, int]]:
        lines = [json.loads(line) for line in cli.ok("sources", "list", "--json").splitlines()]
        assert all(line["stream"].startswith(f"{topic}@") for line in lines)
        return [(line["partition"], line["next_offset"], line["lag"]) for line in lines]

    assert listed() == [(0, None, 3), (1, None, 1)]
    cli.ok("sources", "seek", "posts", "--to-offset", "2", "--partition", "0")
    assert listed() == [(0, 2, 1), (1, None, 1)]


def test_seek_to_the_ends_and_to_offsets(cli: Cli, db: Database, topic: str) -> None:
    """All partitions or one move to the beginning, the end or an offset, forwards and backwards."""
    cli.ok("sources", "seek", "posts", "--to-end")
    assert stored(db, topic) == {0: 3, 1: 1}
    cli.ok("sources", "seek", "posts", "--to-beginning", "--partition", "0")
    assert stored(db, topic) == {0: 0, 1: 1}
    cli.ok("sources", "seek", "posts", "--to-offset", "2", "--topic", topic, "--partition", "0")
    assert stored(db, topic) == {0: 2, 1: 1}
    assert "have no topic" in cli.fails(2, "sources", "seek", "posts", "--to-end", "--partition", "9")


def test_seek_to_a_time(cli: Cli, db: Database, topic: str) -> None:
    """A time before all messages is the beginning, one after them is the end."""
    now = datetime.now(UTC)
    cli.ok("sources", "seek", "posts", "--to-time", (now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S%z"))
    assert stored(db, topic) == {0: 0, 1: 0}
    cli.ok("sources", "seek", "posts", "--to-time", (now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S%z"))
    assert stored(db, topic) == {0: 3, 1: 1}


def test_seek_keeps_a_source_paused(cli: Cli, db: Database) -> None:
    """Moving a position does not let a paused source read again."""
    cli.ok("sources", "seek", "posts", "--to-end")
    positions.pause(db, "posts", "too many refused", {})
    cli.ok("sources", "seek", "posts", "--to-beginning")
    (at, position) = next(iter(positions.load(db, "posts").items()))
    assert isinstance(at, StreamPartition)
    assert (position.next_offset, position.paused_reason) == (0, "too many refused")
