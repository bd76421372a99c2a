"""The wall clock is set by an hour, forwards or back: nothing stops, nothing is told twice, files keep their order."""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alert_histories import after, config, save_days
from daemon_process import wait_until
from deliveries import NOW, decide_dips, dip_of, drain, key_of_dip
from fixtures_slack import Answer, FakeSlack
from test_source_drop_folder import Inbox, csv, texts_of

from monitor import clocks
from monitor.clocks import JumpWatch
from monitor.config import Config, HttpSection, ScheduleSection, StoreSection
from monitor.daemon import Daemon
from monitor.delivery import LOOK_AFTER_S
from monitor.settings import Secrets
from monitor.signals import Signals
from monitor.store import alerts, evaluation
from monitor.store.database import Database
from monitor.timetable import Timetable

HOUR = timedelta(hours=1)


class TwoClocks:
    """A wall clock that a test sets, and one that nobody sets."""

    def __init__(self) -> None:
        self.set_by_s = 0.0
        self.steady_s = 100.0

    def watch(self) -> JumpWatch:
        return JumpWatch(lambda: 1e9 + self.steady_s + self.set_by_s, lambda: self.steady_s)


def test_a_clock_that_was_set_is_seen_once() -> None:
    """Time that passes is no jump, neither is a second's correction."""
    both = TwoClocks()
    watch = both.watch()
    both.steady_s += 5000
    assert watch.jumped_s() == 0
    for set_by_s, seen in ((-3600, -3600), (0.0, 0.0), (1.5, 0.0), (3600, 3600)):
        both.set_by_s += set_by_s
        both.steady_s += 0.2
        assert watch.jumped_s() == pytest.approx(seen)


def test_a_sleeping_machine_counts_for_leases() -> None:
    """The clock of leases goes on while the machine sleeps: it is never behind the one that stops."""
    assert clocks.awake_or_not_s() >= time.monotonic() - 0.001


# ---- the jobs ----------------------------------------------------------------------------------------------------


class Called:
    """monitor.jobs.Jobs' face to the timetable: counts calls, and says what came of them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.outcome = "ok"

    def guarded(self, name: str) -> Callable[[], str]:
        def run() -> str:
            self.names.append(name)
            return self.outcome

        return run

    def count_missed(self, name: str) -> None:
        raise AssertionError(name)


@pytest.fixture
def called() -> Called:
    """No call so far."""
    return Called()


MakeTimetable = Callable[..., Timetable]


@pytest.fixture
def make_timetable(called: Called) -> Iterator[MakeTimetable]:
    """Starts timetables whose plans are made by a clock that is `ahead`; real time goes on below."""
    made: list[Timetable] = []

    def make(ahead: list[timedelta], **times: Any) -> Timetable:
        section = ScheduleSection(refresh_s=3600, deliver_s=3600, **times)
        clock = lambda: datetime.now(UTC) + sum(ahead, timedelta())  # noqa: E731  of one use
        made.append(Timetable(called, Config(schedule=section), "all", clock))  # type: ignore[arg-type]
        made[-1].start()
        return made[-1]

    yield make
    for timetable in made:
        timetable.shutdown()


def test_a_clock_set_back_keeps_no_job_waiting(called: Called, make_timetable: MakeTimetable) -> None:
    """Plans made an hour ahead of time are what a clock set back leaves; all that is due in short order runs at once,
    and nightly jobs are planned anew."""
    ahead = [HOUR]
    timetable = make_timetable(ahead)
    assert min(timetable.next_runs().values()) > datetime.now(UTC)
    ahead.clear()
    timetable.clock_was_set(-3600)
    wait_until(lambda: {"beat", "refresh", "deliver"} <= set(called.names), "the jobs", 20)
    nights = [timetable.next_runs()[name] for name in ("retain", "recount", "report")]
    assert all(datetime.now(UTC) < night <= datetime.now(UTC) + timedelta(days=1) for night in nights)


def test_a_nightly_job_that_a_jump_forwards_passes_over_still_runs(
    make_timetable: MakeTimetable,
) -> None:
    """Its time stays in the plan, so that it is late instead of left out."""
    timetable = make_timetable([])
    before = timetable.next_runs()["retain"]
    timetable.clock_was_set(3600)
    assert timetable.next_runs()["retain"] == before


def test_a_nightly_job_that_found_something_away_comes_again_soon(
    called: Called, make_timetable: MakeTimetable
) -> None:
    """Not only the next night; once it went well, the night is its time again."""
    called.outcome = "waiting"
    ahead = [timedelta(hours=-23)]  # a retry planned by this clock is due at once
    soon = datetime.now(UTC) + timedelta(seconds=2)
    timetable = make_timetable(ahead, retain_at=soon.time().replace(microsecond=0))
    wait_until(lambda: called.names.count("retain") >= 2, "the job, and its retry", 20)
    called.outcome = "ok"
    wait_until(lambda: "retain again" not in timetable.next_runs(), "an end of the retries", 20)
    assert timetable.next_runs()["retain"] > datetime.now(UTC) + timedelta(hours=23)


def test_the_daemon_sees_its_clock_set(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A job that is due once an hour runs at once after the jump, and the log says why."""
    both = TwoClocks()
    store, times = StoreSection(url=sqlite_url), ScheduleSection(refresh_s=3600)
    config = Config(store=store, schedule=times, http=HttpSection(port=0))
    daemon = Daemon(config, "schedule", Secrets({}), Signals(), lambda _: None, clock=both.watch())
    try:
        daemon.open_store()
        daemon.build()
        assert daemon.jobs is not None
        runs = daemon.jobs.last_runs
        daemon.start()
        wait_until(lambda: "refresh" in runs, "the first refresh", 20)
        first = runs["refresh"]
        both.set_by_s -= 3600
        daemon.main.wait_for("store", lambda: True)  # one turn of the main thread
        wait_until(lambda: runs["refresh"] is not first, "a refresh after the jump", 20)
    finally:
        daemon.stop()
    assert "the clock was set" in caplog.text


# ---- alerts ------------------------------------------------------------------------------------------------------


@pytest.fixture
def db(sqlite_url: str, open_database: Callable[[str], Database]) -> Database:
    """SQLite is enough here: claims and marks are tested on both in test_outbox."""
    return open_database(sqlite_url)


def test_a_message_written_by_a_clock_an_hour_ahead_is_found(db: Database, slack: FakeSlack) -> None:
    """Slack's clock was right: it took the message an hour before our clock says it was written."""
    slack.clock_s = (NOW - HOUR).timestamp()
    slack.script = [Answer(drops=True, posts=True)]
    decide_dips(db, "acme")
    drain(db, slack, NOW)
    for later_s in (LOOK_AFTER_S + 5, LOOK_AFTER_S + 60, 3600):
        drain(db, slack, NOW + timedelta(seconds=later_s))
    assert slack.keys() == [key_of_dip("acme")]
    assert dip_of(db).state == "sent"


@pytest.mark.parametrize("seed", range(4))
def test_each_message_is_posted_once_by_a_clock_that_jumps(db: Database, slack: FakeSlack, seed: int) -> None:
    """An hour forwards and back between any two deliveries, with answers that are lost now and then."""
    rng = random.Random(seed)
    now = NOW
    for step in range(30):
        now += rng.choice([timedelta(seconds=20), HOUR, -HOUR])
        if step % 6 == 0:
            decide_dips(db, f"brand {step}")
        if rng.random() < 0.4:
            slack.script = [rng.choice([Answer(500), Answer(drops=True, posts=True), Answer(429, retry_after="9")])]
        drain(db, slack, now)
    slack.script = []
    for hours in range(1, 40):
        drain(db, slack, now + hours * HOUR)
    assert alerts.counts(db) == {"sent": 5}
    assert sorted(slack.keys()) == sorted(key_of_dip(f"brand {step}") for step in range(0, 30, 6))


def test_an_episode_is_told_once_by_a_clock_that_crosses_midnight_twice(database: Database) -> None:
    """The day closes, is running again, and closes: the message of its closing comes once."""
    save_days(database, {0: 0.2, 1: 0.2})
    midnight = after(0)
    told = [
        evaluation.evaluate_all(database, config(), moment)
        for moment in (midnight, midnight - HOUR, midnight, midnight + HOUR, midnight - HOUR, midnight + 2 * HOUR)
    ]
    assert told == [1, 0, 0, 0, 0, 0]


# ---- files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    """A drop folder with a clock of its own."""
    made = Inbox(tmp_path / "inbox")
    yield made
    made.source.close()


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forwards", "back"])
def test_a_file_settles_although_the_clock_was_set(inbox: Inbox, jump: timedelta) -> None:
    """Seen first by the old clock; two seconds by the new one are enough."""
    inbox.drop("posts.csv", csv("one"), age_s=0)
    assert inbox.read() == []
    inbox.clock.now += jump
    inbox.read()
    inbox.clock.advance(seconds=3)
    inbox.read()
    assert [one.name for one in inbox.positions.files.values()] == ["posts.csv"]
    assert len(inbox.names("done")) == 2


def test_files_taken_around_a_clock_set_back_keep_their_order(inbox: Inbox) -> None:
    """A crash after both were taken: the first one's rows come first again, for the first of two equal ids counts."""
    inbox.drop("z.csv", csv("1", "2"), age_s=90)
    inbox.drop("a.csv", csv("3"), age_s=4000)
    (inbox.path / "a.csv").rename(inbox.path / "a.part")
    inbox.poll()
    inbox.clock.now -= HOUR
    (inbox.path / "a.part").rename(inbox.path / "a.csv")
    inbox.poll()
    assert len(inbox.positions.files) == 2
    inbox.restart()
    assert texts_of(inbox.read()) == ["1", "2", "3"]
