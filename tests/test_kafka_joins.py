"""Which answer to a join counts: that nobody fetched, of this generation, and not too old. With a broker:
test_kafka_members.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.coordinator.base import MemberState

from monitor.sources.kafka_joins import keep_join_answers


class Coordinator:
    """What is used of kafka-python's; every join that is sent gets another assignment."""

    def __init__(self) -> None:
        self.config = {"session_timeout_ms": 10_000, "max_poll_interval_ms": 8_000}
        self.group_id = "g"
        self.state = MemberState.UNJOINED
        self._generation = 0
        self.fails = False

    async def _do_join_and_sync_async(self) -> bytes:
        self.state = MemberState.REBALANCING
        if self.fails:
            raise OSError("away")
        self._generation += 1
        return b"%d" % self._generation


class Member:
    """A coordinator and its clock, as its IO loop sees them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.coordinator = Coordinator()
        keep_join_answers(self.coordinator, lambda: self.now)

    def join(self) -> bytes:
        return asyncio.run(self.coordinator._do_join_and_sync_async())


def test_an_answer_that_nobody_fetched_is_given_once() -> None:
    """The join after that is a real one again."""
    member = Member()
    assert [member.join() for _ in range(4)] == [b"1", b"1", b"2", b"2"]


def _is_old(member: Member) -> None:
    member.now = 4.0


def _is_fetched(member: Member) -> None:
    member.coordinator.state = MemberState.STABLE


def _is_out(member: Member) -> None:
    member.coordinator.state = MemberState.UNJOINED


def _is_of_another_generation(member: Member) -> None:
    member.coordinator._generation = 7


@pytest.mark.parametrize("happens", [_is_old, _is_fetched, _is_out, _is_of_another_generation])
def test_what_is_over_is_asked_for_anew(happens: Any) -> None:
    """An answer of half a poll interval ago, one that was fetched, one of a member that is out or of a later group."""
    member = Member()
    first = member.join()
    happens(member)
    assert member.join() != first


def test_a_join_that_failed_leaves_nothing_behind() -> None:
    """Its error is raised, and the next join is sent: what an earlier one brought was fetched long ago."""
    member = Member()
    member.join()
    member.coordinator.state = MemberState.STABLE
    member.coordinator.fails = True
    with pytest.raises(OSError, match="away"):
        member.join()
    member.coordinator.fails = False
    assert member.join() == b"2"


def test_a_client_that_joins_in_another_way_is_left_as_it_is() -> None:
    """A later kafka-python may not have the method."""
    coordinator = SimpleNamespace(config={})
    keep_join_answers(coordinator)
    assert vars(coordinator) == {"config": {}}
