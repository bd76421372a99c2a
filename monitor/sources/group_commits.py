"""Tells the consumer group how far the store is, for lag tools. Nothing depends on it: positions are SQL's."""

import logging
from collections.abc import Mapping
from typing import Any

from monitor import crashpoints
from monitor.errors import SourceUnavailable
from monitor.sources.kafka_client import Client

log = logging.getLogger(__name__)


class GroupCommits:
    """At most one commit is under way; what is saved meanwhile goes with the next."""

    def __init__(self, client: Client, source: str) -> None:
        self.n_refused = 0
        self._client = client
        self._source = source
        self._waiting: dict[Any, int] = {}
        self._sent: dict[Any, int] = {}
        self._has_warned = False

    def send(self, offsets: Mapping[Any, int]) -> None:
        """Commit `offsets` (by TopicPartition, the next to read) and whatever waits; returns at once."""
        self._waiting.update(offsets)
        if not self._waiting or self._sent:
            return
        self._sent, self._waiting = self._waiting, {}
        crashpoints.passing("before kafka commit")
        try:
            self._client.commit(self._sent, self._note)
        except SourceUnavailable as error:
            self._note(error)

    def forget(self) -> None:
        """The client is a new one: answers to older commits will not come."""
        self._waiting, self._sent = {}, {}

    def finish(self) -> None:
        """Before the end: commit what was not answered yet and wait for it, briefly."""
        offsets = {**self._sent, **self._waiting}
        self.forget()
        if offsets:
            try:
                self._client.commit_now(offsets)
            except SourceUnavailable as error:
                self._note(error)

    def _note(self, outcome: object) -> None:
        self._sent = {}
        if not isinstance(outcome, BaseException):
            self._has_warned = False
            crashpoints.passing("after kafka commit")
            return
        self.n_refused += 1
        if not self._has_warned:
            self._has_warned = True
            extra = {"source": self._source, "error": f"{type(outcome).__name__}: {outcome}"}
            log.warning("a Kafka commit was refused; nothing is lost, positions are in the database", extra=extra)
