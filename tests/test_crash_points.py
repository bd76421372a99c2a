"""SIGKILL at every named step, one after the other on the same store: nothing is lost, counted twice or told twice."""

import os
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from crash_chains import ALERT_STEPS, FOLDER_STEPS, KAFKA_STEPS, STORE_STEPS, Chain, FolderFeed, TopicFeed
from fixtures_kafka import Broker
from fixtures_postgres import PostgresServer
from fixtures_slack import FakeSlack

from monitor import crashpoints

# a minute for all of it: `make test-long`; starting broker and database counts, too
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent
SEED = int(os.environ.get("CRASH_SEED") or random.randrange(1_000_000))
PAIRS = [(source, store) for source in ("csv", "kafka") for store in ("sqlite", "postgresql")]
STORES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


def deal(seed: int) -> dict[tuple[str, str], list[str]]:
    """Every step once, each at one of the pairs that have it, three or four to a pair; `make soak` has all at each."""
    choice = random.Random(seed)
    hands: dict[tuple[str, str], list[str]] = {pair: [] for pair in PAIRS}
    for source, steps in (("csv", FOLDER_STEPS), ("kafka", KAFKA_STEPS), ("", STORE_STEPS + ALERT_STEPS)):
        for step in choice.sample(steps, len(steps)):
            able = [pair for pair in PAIRS if source in {pair[0], ""}]
            hands[min(choice.sample(able, len(able)), key=lambda pair: len(hands[pair]))].append(step)
    return {pair: choice.sample(steps, len(steps)) for pair, steps in hands.items()}


def crash_at_each(chain: Chain, steps: Sequence[str]) -> None:
    """Every step kills once, and the last daemon brings all of it to its end."""
    print(f"CRASH_SEED={SEED}, steps {', '.join(steps)}")  # noqa: T201  shown when the test fails
    for step in steps:
        chain.crash(step)
    chain.finish()
    chain.check()
    assert chain.n_ordered == len(steps)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str | None:
    """An empty PostgreSQL database; None stands for a SQLite file."""
    if request.param == "sqlite":
        return None
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create()


def store_of(url: str | None) -> str:
    """The name of its kind."""
    return "sqlite" if url is None else "postgresql"


@pytest.mark.parametrize("url", STORES, indirect=True)
def test_a_crash_anywhere_between_a_file_and_slack(
    tmp_path: Path, url: str | None, slack: FakeSlack, tiny_bundle: str
) -> None:
    """CSV into either store: nothing is lost, counted twice or told twice."""
    choice = random.Random(f"{SEED} csv {store_of(url)}")
    chain = Chain(tmp_path, url, FolderFeed(choice, tmp_path), slack, tiny_bundle, choice)
    crash_at_each(chain, deal(SEED)["csv", store_of(url)])


@pytest.mark.kafka
@pytest.mark.parametrize("url", STORES, indirect=True)
def test_a_crash_anywhere_between_a_topic_and_slack(
    tmp_path: Path, real_kafka: Broker, url: str | None, slack: FakeSlack, tiny_bundle: str
) -> None:
    """Kafka into either store: nothing is lost, counted twice or told twice."""
    choice = random.Random(f"{SEED} kafka {store_of(url)}")
    chain = Chain(tmp_path, url, TopicFeed(choice, real_kafka), slack, tiny_bundle, choice)
    crash_at_each(chain, deal(SEED)["kafka", store_of(url)])


@pytest.mark.parametrize("seed", range(20))
def test_every_step_kills_at_one_pair_whatever_the_seed(seed: int) -> None:
    """None is left out, none is where it does not occur, and no pair is spared."""
    hands = deal(seed)
    assert sorted(step for steps in hands.values() for step in steps) == sorted(crashpoints.STEPS)
    assert {len(steps) for steps in hands.values()} <= {3, 4}
    for (source, _), steps in hands.items():
        assert not set(steps) & set(KAFKA_STEPS if source == "csv" else FOLDER_STEPS)


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
