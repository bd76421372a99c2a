"""Answers to a consumer's joins that come while nobody polls: kafka-python 3.0.12 drops them and joins anew.

Each such join costs the whole group a rebalance, and a member that polls briefly now and then, as one does whose
batches are busy, may never get in.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from kafka.coordinator.base import MemberState

log = logging.getLogger(__name__)


def keep_join_answers(coordinator: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Let the next join of a consumer's `coordinator` be answered by what the one before got and nobody fetched.

    What is older than half the session timeout is forgotten, for the broker hears nothing of a member that joins. Its
    own IO loop alone calls what is put into the coordinator here.
    """
    join: Callable[[], Awaitable[bytes]] = coordinator._do_join_and_sync_async
    kept: list[tuple[float, Any, bytes]] = []  # when it came, the generation it is of, the assignment

    def is_of_now(at: float, generation: Any) -> bool:
        """The state is another once an answer was fetched, or the member fell out of the group."""
        fresh = monotonic() - at < coordinator.config["session_timeout_ms"] / 2000
        return fresh and coordinator.state is MemberState.REBALANCING and coordinator._generation == generation

    async def join_or_answer() -> bytes:
        if kept:
            at, generation, assignment = kept.pop()
            if is_of_now(at, generation):
                log.debug("an answer to a join came between two polls", extra={"group": coordinator.group_id})
                return assignment
        assignment = await join()
        kept[:] = [(monotonic(), coordinator._generation, assignment)]
        return assignment

    coordinator._do_join_and_sync_async = join_or_answer
