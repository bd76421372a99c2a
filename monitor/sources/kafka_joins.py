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
    """Answer the next join of a consumer's `coordinator` with what its last one got but nobody fetched.

    It replaces a private method, which is called on the client's IO thread only; a client without that method is left
    as it is. Heartbeats stop during a join, so the brokers may have given the member's partitions away meanwhile:
    answers older than half of the shorter of session and poll interval are forgotten. A machine that was suspended may
    still take an older one, and learns better from its first heartbeat.
    """
    join: Callable[[], Awaitable[bytes]] | None = getattr(coordinator, "_do_join_and_sync_async", None)
    if join is None:
        log.warning("this kafka-python is not the one that was tested: joins may take several rebalances")
        return
    kept: list[tuple[float, Any, bytes]] = []  # when it came, the generation it is of, the assignment
    lasts_s = min(coordinator.config["session_timeout_ms"], coordinator.config["max_poll_interval_ms"]) / 2000

    def is_of_now(at: float, generation: Any) -> bool:
        """The state is another once an answer was fetched, or the member fell out of the group."""
        is_waiting = coordinator.state is MemberState.REBALANCING and coordinator._generation == generation
        return is_waiting and monotonic() - at < lasts_s

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
