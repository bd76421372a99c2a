"""monitor/health.py: when a daemon is ready, and what it says once."""

import logging

import pytest

from monitor.health import SILENT_S, Health
from monitor.metrics import Metrics


class Clock:
    """Monotonic seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Stands at 0."""
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    """Nothing was heard yet."""
    return Health(Metrics(), clock)


def test_it_is_not_ready_before_every_expected_part_was_heard_of(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    """A start is no outage: nothing is logged about it, but a part that fails at once is."""
    health.expect("store", "source inbox")
    health.up("store")
    assert not health.ready()
    health.down("source inbox", "away")
    assert [record.message for record in caplog.records] == [
        "source inbox is not available, trying again until it is: away"
    ]
    health.up("source inbox")
    assert health.ready()


def test_a_part_that_does_not_matter_for_readiness_is_only_shown(health: Health) -> None:
    """Slack may be away."""
    health.expect("store")
    health.up("store")
    health.down("slack", "away", needed=False)
    assert health.ready()
    assert [(part.name, part.ok) for part in health.parts()] == [("store", True), ("slack", False)]


def test_a_part_that_hangs_is_told_once(health: Health, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A server that neither answers nor closes is as good as away, until it answers."""
    caplog.set_level(logging.INFO)
    health.up("store")
    with health.asking("store"):
        clock.now += SILENT_S
        health.tell_silent()
        assert health.ready()
        clock.now += 0.1
        health.tell_silent()
        health.tell_silent()
        assert not health.ready()
    health.up("store")
    health.tell_silent()
    assert health.ready()
    assert len(caplog.records) == 2


def test_every_change_is_said_once(health: Health, caplog: pytest.LogCaptureFixture) -> None:
    """Retries are counted, not logged."""
    caplog.set_level(logging.INFO)
    health.up("store", "sqlite:///x.db")
    for _ in range(3):
        health.down("store", "away")
    health.up("store")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert [part.detail for part in health.parts()] == ["sqlite:///x.db"]


def test_luck_of_others_ends_no_outage(health: Health, caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk the row of a heartbeat may find room while no batch does: only who waits knows when it is over."""
    caplog.set_level(logging.INFO)
    health.up("store")
    for _ in range(3):
        health.down("store", "full", loop="saver")
        health.up("store")
        assert not health.ready()
    health.up("store", loop="saver")
    assert health.ready()
    said = ["store is not available, trying again until it is: full", "store works again"]
    assert [record.message for record in caplog.records] == said
