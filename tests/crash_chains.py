"""Crash after crash on one store: each round feeds posts to a daemon that dies at a named step; then all is counted."""

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from daemon_process import wait_until, write_config
from fixtures_kafka import Broker
from fixtures_slack import FakeSlack
from forked_daemon import ForkedDaemon
from sqlalchemy import text
from stored import check_days, check_totals, count, is_refreshed, posts, select, url_in
from traffic import words

from monitor.store.database import Database

CRASH_S = 25.0  #: a step that was not passed by then is not on the way: the daemon is killed wherever it is
FAST_GROUP = {"session_timeout_ms": 1500, "heartbeat_interval_ms": 300, "metadata_max_age_ms": 1000}
STORE_STEPS = ("fetch", "score", "insert", "database commit")
FOLDER_STEPS = ("file note", "file take", "file report", "file move")
KAFKA_STEPS = ("before kafka commit", "after kafka commit")
ALERT_STEPS = ("claim", "post", "mark")
FIELDS = ("created_at", "text", "user_id", "id", "brand")


class Fed(NamedTuple):
    """One record; `reason`: why it must be refused; `is_repeat`: it was fed before and must not count again."""

    fields: dict[str, str]
    reason: str | None = None
    is_repeat: bool = False


class Feed:
    """Makes records, no two good ones with the same text, and puts them where a source reads them."""

    def __init__(self, choice: random.Random) -> None:
        self.fed: list[Fed] = []
        self._choice = choice

    def put(self, n_records: int, brand: str) -> None:
        """Feed records of one brand, on three closed days; some are bad, some were fed before."""
        made = [self._record(len(self.fed) + number, brand) for number in range(n_records)]
        self.fed += made
        self._write(made)

    def section(self) -> dict[str, Any]:
        """The source's section of config.yaml."""
        raise NotImplementedError

    def _write(self, made: Sequence[Fed]) -> None:
        raise NotImplementedError

    def _record(self, number: int, brand: str) -> Fed:
        choice = self._choice
        at = datetime.now(UTC) - timedelta(days=1 + number % 3)
        fields = dict(
            zip(FIELDS, (at.isoformat(), f"{words(choice)} #{number}", f"user-{number % 7}", "", brand), strict=True)
        )
        if number % 2:
            fields["id"] = f"id-{number}"
        known = [fed.fields for fed in self.fed[-300:] if fed.reason is None and fed.fields["id"]]
        if number % 20 == 6:
            return Fed(fields | {"text": "  "}, "empty_text")
        if number % 20 == 12:
            return Fed(fields | {"created_at": f"someday {number}"}, "bad_created_at")
        if number % 20 == 18 and known:
            return Fed(choice.choice(known) | {"text": f"contradicts #{number}"}, "id_conflict")
        if number % 20 in {4, 14} and known:
            return Fed(choice.choice(known), is_repeat=True)
        return Fed(fields)


class FolderFeed(Feed):
    """CSV files renamed into the inbox of `folder`."""

    def __init__(self, choice: random.Random, folder: Path) -> None:
        super().__init__(choice)
        self._inbox = folder / "inbox"
        self._inbox.mkdir()
        self._n_files = 0

    def section(self) -> dict[str, Any]:
        return {"name": "inbox", "kind": "drop_folder", "path": "inbox", "settle_s": 0.1}

    def _write(self, made: Sequence[Fed]) -> None:
        self._n_files += 1
        content = io.StringIO()
        writer = csv.DictWriter(content, FIELDS)
        writer.writeheader()
        writer.writerows(fed.fields for fed in made)
        part = self._inbox / f"{self._n_files}.csv.part"
        part.write_text(content.getvalue(), encoding="utf-8")
        part.rename(part.with_suffix(""))


class TopicFeed(Feed):
    """Messages in one partition of a topic of its own, so that a conflict follows what it contradicts."""

    def __init__(self, choice: random.Random, broker: Broker) -> None:
        super().__init__(choice)
        self._broker = broker
        self._topic = broker.create_topic(broker.new_name("crashes"), 2)
        self._group = broker.new_name("crashing")

    def section(self) -> dict[str, Any]:
        servers = self._broker.servers
        return {
            "name": "posts",
            "kind": "kafka",
            "bootstrap_servers": servers,
            "topics": [self._topic],
            "group_id": self._group,
            "options": FAST_GROUP,
        }

    def _write(self, made: Sequence[Fed]) -> None:
        values = [json.dumps({key: value for key, value in fed.fields.items() if value}).encode() for fed in made]
        self._broker.produce(self._topic, values, 0)


class Chain:
    """One store, one feed, one Slack, and daemons that die one after the other."""

    def __init__(
        self, folder: Path, url: str | None, feed: Feed, slack: FakeSlack, bundle: str, choice: random.Random
    ) -> None:
        """Without `url` the store is a SQLite file in `folder`."""
        self.feed = feed
        self.n_ordered = 0  # crashes at the step that was asked for
        self._choice = choice
        self._slack = slack
        self._url = url or url_in(folder)
        alerts = {"threshold": 1.0, "certainty": 0, "min_posts": 5, "hold_s": 0, "slack": {"base_url": slack.url}}
        sections: dict[str, Any] = {
            "sources": [feed.section()],
            "scoring": {"bundle": bundle, "max_batch_posts": 25},
            "alerts": alerts,
            "max_invalid_share": 1.0,
        }
        if url is not None:
            sections["store"] = {"url": url}
        self._config = write_config(folder, **sections)
        self._n_rounds = 0

    def crash(self, step: str) -> None:
        """Feed a new brand, start a daemon and let it die at the step, or anywhere where it does not pass there."""
        self._n_rounds += 1
        self.feed.put(60, f"brand {self._n_rounds}")
        nth = self._choice.randint(1, 3) if step in STORE_STEPS else 1
        with self._daemon(f"{step}:{nth}") as daemon:
            self.n_ordered += daemon.crashed(CRASH_S)
        self._let_leases_run_out(("sending", "unknown", "pending"))

    def finish(self) -> None:
        """One more daemon, which lives; it must stop when asked."""
        with self._daemon("") as daemon:
            daemon.wait_ready()  # there may be nothing left to do, and the signal ends a process that is being loaded
            wait_until(self._is_through, f"the rest after {self._n_rounds} crashes")
            assert daemon.stop() == 0

    def check(self) -> None:
        """Rows are the unique inputs, totals a recount, dead letters there once, messages too."""
        url = self._url
        found = Counter(posts(url)["text"])
        expected = {fed.fields["text"] for fed in self.feed.fed if fed.reason is None}
        assert set(found) == expected, f"lost {expected - set(found)}, not ours {set(found) - expected}"
        assert max(found.values()) == 1, "posts counted twice"
        letters = Counter(select(url, "SELECT reason FROM dead_letters")["reason"])
        assert letters == Counter(fed.reason for fed in self.feed.fed if fed.reason is not None)
        check_totals(url)
        check_days(url, posts(url))
        keys = self._slack.keys()
        sent = select(url, "SELECT alert_key, brand FROM alerts WHERE state = 'sent'")
        assert sorted(keys) == sorted(sent["alert_key"])
        assert set(sent["brand"]) == {fed.fields["brand"] for fed in self.feed.fed}

    def _daemon(self, crash_at: str) -> ForkedDaemon:
        return ForkedDaemon(self._config, env={"SLACK_BOT_TOKEN": self._slack.token}, crash_at=crash_at)

    def _is_through(self) -> bool:
        self._let_leases_run_out(("unknown", "pending"))
        waiting = "SELECT count(*) FROM alerts WHERE state IN ('pending', 'sending', 'unknown')"
        seen = "SELECT count(*) FROM posts UNION ALL SELECT count(*) FROM dead_letters"
        n_repeats = sum(fed.is_repeat for fed in self.feed.fed)
        n_stored = int(select(self._url, seen).iloc[:, 0].sum())
        is_stored = n_stored >= len(self.feed.fed) - n_repeats
        return is_stored and is_refreshed(self._url) and self._all_told() and not count(self._url, waiting)

    def _all_told(self) -> bool:
        told = set(select(self._url, "SELECT DISTINCT brand FROM alerts")["brand"])
        return told >= {fed.fields["brand"] for fed in self.feed.fed}

    def _let_leases_run_out(self, states: Sequence[str]) -> None:
        """Move waiting alerts' times back, which saves waiting for the minute that a dead sender's lease lasts."""
        names = ", ".join(f"'{state}'" for state in states)
        earlier = (
            "strftime('%Y-%m-%d %H:%M:%f', next_attempt_at, '-90 seconds') || '000'"
            if self._url.startswith("sqlite")
            else "next_attempt_at - interval '90 seconds'"
        )
        due = f"next_attempt_at IS NOT NULL AND state IN ({names})"
        self._write(f"UPDATE alerts SET next_attempt_at = {earlier} WHERE {due}")

    def _write(self, statement: str) -> None:
        db = Database(self._url)
        try:
            db.run(lambda connection: connection.execute(text(statement)))
        finally:
            db.close()
