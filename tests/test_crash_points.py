"""SIGKILL at every named step, one after the other on the same store: nothing is lost, counted twice or told twice."""

import random
import re
from pathlib import Path

import pytest
from crash_chains import ALERT_STEPS, FOLDER_STEPS, KAFKA_STEPS, STORE_STEPS, Chain, FolderFeed, TopicFeed
from fixtures_kafka import Broker
from fixtures_postgres import PostgresServer
from fixtures_slack import FakeSlack

from monitor import crashpoints

pytestmark = pytest.mark.long  # a minute each: `make test-long`

ROOT = Path(__file__).parent.parent
SEED = random.randrange(1_000_000)


def shuffled(steps: tuple[str, ...]) -> list[str]:
    """The steps in an order of this run's seed."""
    print(f"seed {SEED}")  # noqa: T201  shown when the test fails
    return random.Random(SEED).sample(steps, len(steps))


def test_a_crash_anywhere_between_a_file_and_slack(tmp_path: Path, slack: FakeSlack, tiny_bundle: str) -> None:
    """CSV into SQLite: every step kills once, in any order, and the last daemon brings all of it to its end."""
    choice = random.Random(SEED)
    chain = Chain(tmp_path, None, FolderFeed(choice, tmp_path), slack, tiny_bundle, choice)
    steps = shuffled(STORE_STEPS + FOLDER_STEPS + ALERT_STEPS)
    for step in steps:
        chain.crash(step)
    chain.finish()
    chain.check()
    assert chain.n_ordered == len(steps)


@pytest.mark.kafka
@pytest.mark.postgres
def test_a_crash_anywhere_between_a_topic_and_slack(
    tmp_path: Path, real_kafka: Broker, postgres_server: PostgresServer, slack: FakeSlack, tiny_bundle: str
) -> None:
    """Kafka into PostgreSQL: every step kills once, in any order, and the last daemon brings all of it to its end."""
    choice = random.Random(SEED)
    chain = Chain(tmp_path, postgres_server.create(), TopicFeed(choice, real_kafka), slack, tiny_bundle, choice)
    steps = shuffled(STORE_STEPS + KAFKA_STEPS + ALERT_STEPS)
    for step in steps:
        chain.crash(step)
    chain.finish()
    chain.check()
    assert chain.n_ordered == len(steps)


def test_every_step_has_its_place_in_the_program_and_in_these_tests() -> None:
    """No step is named without being passed, and none is left out here."""
    program = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "monitor").rglob("*.py"))
    assert sorted(re.findall(r'crashpoints\.passing\("([^"]+)"\)', program)) == sorted(crashpoints.STEPS)
    assert set(STORE_STEPS + FOLDER_STEPS + KAFKA_STEPS + ALERT_STEPS) == set(crashpoints.STEPS)


def test_an_order_that_names_no_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt step would make a test that cannot fail."""
    monkeypatch.setenv(crashpoints.VARIABLE, "inserting:2")
    with pytest.raises(ValueError, match="the steps are fetch, score"):
        crashpoints.arm()
    monkeypatch.delenv(crashpoints.VARIABLE)
    crashpoints.arm()
