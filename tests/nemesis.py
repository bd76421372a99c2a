"""A nemesis that kills, freezes, cuts and restarts replicas and what they stand on; every fault comes from a seed."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fixtures_slack import Answer
from replicas import SESSION_S, Ground, Replica
from tcp_proxy import TcpProxy, Weather

LONGEST_FREEZE_S = 18.0  #: longer than the session and than PostgreSQL waits for a transaction's next statement
TWICE = 0.35  #: share of faults that come with a second one
LONGEST_CALM_S = 8.0

Fault = Callable[[random.Random], None]

#: what Slack may do with a message besides taking it; a lost answer may hide that it was posted
SLACK_TROUBLE = (
    Answer(status=429, retry_after="3"),
    Answer(status=500, error="internal", posts=False),
    Answer(status=502, page="<html>bad gateway</html>", posts=False),
    Answer(silent=True, posts=True),
    Answer(silent=True, posts=False),
    Answer(drops=True, posts=True),
    Answer(drops=True, posts=False),
)


class Nemesis:
    """Draws faults, each on what is not at fault already, until told to stop."""

    def __init__(self, ground: Ground, seed: int, tell: Callable[[str], None] = print, *, pace: float = 1.0) -> None:
        """A smaller `pace` shortens what may be short: nothing gets shorter than a session or a restart."""
        self._ground = ground
        self._pace = pace
        self._choice = random.Random(seed)
        self._tell = tell
        self._broker_lock = threading.Lock()
        self._postgres_lock = threading.Lock()
        self._faults: tuple[tuple[int, Fault], ...] = (
            (4, self.kill_a_replica),
            (3, self.freeze_a_replica),
            (2, self.freeze_in_a_transaction),
            (2, self.stop_a_replica),
            (2, self.restart_the_database),
            (1, self.freeze_the_database),
            (2, self.kill_the_broker),
            (1, self.freeze_the_broker),
            (3, self.bad_way_to_the_broker),
            (3, self.bad_way_to_the_database),
        )

    def rage(self, seconds: float) -> None:
        """Faults for so long, one or two at a time, calm in between, and Slack in trouble; then all is well again."""
        weights = [weight for weight, _ in self._faults]
        faults = [fault for _, fault in self._faults]
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._ground.failures:
            self._begin(self._choice.choices(faults, weights, k=2 if self._choice.random() < TWICE else 1))
        self._ground.slack.script.clear()

    def each_once(self) -> None:
        """Every fault once, in any order, two at a time, and Slack in trouble; then all is well again."""
        faults = self._choice.sample([fault for _, fault in self._faults], len(self._faults))
        for first in range(0, len(faults), 2):
            self._begin(faults[first : first + 2])
        self._ground.slack.script.clear()

    def _begin(self, faults: Sequence[Fault]) -> None:
        """These at once; returns when they and a moment of calm are over."""
        self._trouble_slack()
        seeded = [(fault, random.Random(self._choice.random())) for fault in faults]
        threads = [threading.Thread(target=self._run, args=pair, name=pair[0].__name__) for pair in seeded]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        self._rest(self._choice, 0.5, LONGEST_CALM_S)

    def _rest(self, choice: random.Random, shortest_s: float, longest_s: float) -> None:
        time.sleep(shortest_s + (choice.uniform(shortest_s, longest_s) - shortest_s) * self._pace)

    def _run(self, fault: Fault, choice: random.Random) -> None:
        try:
            fault(choice)
        except BaseException as error:  # noqa: BLE001  told by the check at the end
            self._ground.failures.append(f"{fault.__name__}: {type(error).__name__}: {error}")
        self._look_for_ended()

    def _note(self, what: str) -> None:
        self._ground.faults[what] += 1
        self._tell(f"{time.strftime('%H:%M:%S')} {what}")

    def _look_for_ended(self) -> None:
        for number, replica in enumerate(self._ground.replicas):
            if replica.lock.acquire(blocking=False):
                try:
                    if replica.has_ended:
                        replica.is_expected = False
                        log = replica.daemon.log()[-3000:]
                        self._ground.failures.append(f"replica {number} ended by itself: {log}")
                finally:
                    replica.lock.release()

    @contextmanager
    def _one_replica(self, choice: random.Random) -> Iterator[tuple[int, Replica]]:
        numbered = list(enumerate(self._ground.replicas))
        choice.shuffle(numbered)
        for number, replica in numbered:
            if replica.lock.acquire(blocking=False):
                try:
                    yield number, replica
                finally:
                    replica.lock.release()
                return
        raise AssertionError("two faults at once leave a third replica")

    def _trouble_slack(self) -> None:
        slack = self._ground.slack
        if len(slack.script) < 2 and self._choice.random() < 0.5:
            slack.script.append(self._choice.choice(SLACK_TROUBLE))

    # ---- faults --------------------------------------------------------------------------------------------------

    def kill_a_replica(self, choice: random.Random) -> None:
        """SIGKILL; another daemon takes its place after a while."""
        with self._one_replica(choice) as (number, replica):
            self._note(f"kill replica {number}")
            replica.kill()
            self._rest(choice, 0, 8)
            replica.start()

    def freeze_a_replica(self, choice: random.Random) -> None:
        """SIGSTOP for longer than its session, so that it wakes up as a zombie with batches in hand."""
        with self._one_replica(choice) as (number, replica):
            self._note(f"freeze replica {number}")
            replica.daemon.send(signal.SIGSTOP)
            self._rest(choice, SESSION_S + 2, LONGEST_FREEZE_S)
            replica.daemon.send(signal.SIGCONT)

    def freeze_in_a_transaction(self, choice: random.Random) -> None:
        """A replica stops with posts in an open transaction, and wakes up when others have read them again."""
        with self._one_replica(choice) as (number, replica):
            self._note(f"freeze replica {number} in a transaction")
            replica.kill()
            replica.start(f"insert:{choice.randint(1, 20)}:STOP")
            if replica.is_frozen_by(time.monotonic() + 30):
                self._ground.faults["frozen in an open transaction"] += 1
                self._rest(choice, SESSION_S + 2, LONGEST_FREEZE_S)
                replica.daemon.send(signal.SIGCONT)
            else:  # it would stop itself later, and nobody would wake it
                replica.kill()
                replica.start()

    def stop_a_replica(self, choice: random.Random) -> None:
        """SIGTERM and a new one: two rebalances, and the promise to leave in time even where something is away."""
        with self._one_replica(choice) as (number, replica):
            self._note(f"restart replica {number}")
            replica.stop()
            self._rest(choice, 0, 3)
            replica.start()

    def restart_the_database(self, choice: random.Random) -> None:
        """As after a crash of the server."""
        with self._postgres_lock:
            self._note("restart the database")
            self._ground.postgres.stop()
            self._rest(choice, 0, 6)
            patiently(self._ground.postgres.start)

    def freeze_the_database(self, choice: random.Random) -> None:
        """Connections stay open and nobody answers."""
        with self._postgres_lock:
            self._note("freeze the database")
            self._ground.postgres.freeze()
            self._rest(choice, 3, 15)
            self._ground.postgres.thaw()

    def kill_the_broker(self, choice: random.Random) -> None:
        """kill -9, and a start on the same log."""
        with self._broker_lock:
            self._note("kill the broker")
            self._ground.broker.kill()
            self._rest(choice, 0, 4)
            patiently(self._ground.broker.start)

    def freeze_the_broker(self, choice: random.Random) -> None:
        """Longer than the group's sessions."""
        with self._broker_lock:
            self._note("freeze the broker")
            self._ground.broker.freeze()
            self._rest(choice, 3, 12)
            self._ground.broker.thaw()

    def bad_way_to_the_broker(self, choice: random.Random) -> None:
        """Connections cut, delayed, swallowed, or their answers lost: commits among them."""
        self._bad_way(self._ground.to_broker, self._broker_lock, "broker", choice)

    def bad_way_to_the_database(self, choice: random.Random) -> None:
        """The same to PostgreSQL: whether a transaction was committed is not known then."""
        self._bad_way(self._ground.to_postgres, self._postgres_lock, "database", choice)

    def _bad_way(self, proxy: TcpProxy, lock: threading.Lock, where: str, choice: random.Random) -> None:
        weather = choice.choice([Weather.DELAYED, Weather.SWALLOWED, Weather.MUTE, Weather.CUT])
        with lock:
            self._note(f"{weather} way to the {where}")
            with proxy.weather(weather):
                self._rest(choice, 1, 12)


def patiently(start: Callable[[], None]) -> None:
    """Start a service; on a busy machine its recovery may take longer than one call waits."""
    for _ in range(6):
        try:
            start()
        except Exception:  # noqa: BLE001  whatever a slow start raises
            time.sleep(2.0)
        else:
            return
    start()
