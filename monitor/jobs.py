"""The scheduled work, each a plain function that may run any number of times on any replica; timetable.py has the
times."""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from monitor import aggregates, delivery, report
from monitor.config import AlertsSection, Config
from monitor.errors import SourceUnavailable, StoreUnavailable
from monitor.health import Health
from monitor.lanes import Lane
from monitor.metrics import Metrics
from monitor.protocols import Notifier
from monitor.sources.drop_folder import DropFolder
from monitor.store import alerts as alert_store
from monitor.store import daily, evaluation, instances, retention
from monitor.store.database import Database

log = logging.getLogger(__name__)

BEAT_S = 3.0  #: how often a daemon says that it lives
WAITING = "waiting"  #: outcome of a job that found something away
RATE_BEATS = 20  #: beats that a rate is taken over: a minute


class Jobs:
    """What the jobs need, and the jobs. `config.alerts` may be replaced while running (SIGHUP)."""

    def __init__(
        self,
        config: Config,
        db: Database,
        notifier: Notifier,
        lanes: Sequence[Lane],
        health: Health,
        metrics: Metrics,
        *,
        role: str = "all",
        dry_run: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.config = config
        self._db = db
        self._notifier = notifier
        self._lanes = lanes
        self._health = health
        self._metrics = metrics
        self._role = role
        self._dry_run = dry_run
        self._clock = clock
        self.started_at = clock()
        self.instance = f"{socket.gethostname()}:{os.getpid()}:{int(self.started_at.timestamp())}"
        self.last_runs: dict[str, dict[str, Any]] = {}
        self._counted: dict[str, deque[tuple[float, int]]] = {
            lane.source.name: deque(maxlen=RATE_BEATS) for lane in lanes
        }
        self.stopping = threading.Event()  # no further message is begun
        self._held_since: float | None = None
        self._refresh_lock = threading.Lock()

    def reload(self, alerts: AlertsSection) -> None:
        """Use other alert rules from the next evaluation on."""
        self.config = self.config.model_copy(update={"alerts": alerts})

    # ---- the jobs ------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Recompute the daily rows that changed, then evaluate the rules, unless a source is still catching up."""
        with self._refresh_lock:
            aggregates.load()  # at the first refresh, right after the start, when there may be nothing to do yet
            daily.refresh(self._db, self._clock())
            if not self._is_held():
                self.evaluate()

    def refresh_days(self) -> None:
        """Recompute the daily rows that changed, nothing more: the daemon stops, and another may be long in coming."""
        with self._refresh_lock:
            daily.refresh(self._db, self._clock())

    def refresh_and_evaluate(self) -> None:
        """Both at once: everything there was has been read (`run --once`)."""
        with self._refresh_lock:
            daily.refresh(self._db, self._clock())
            self.evaluate()

    def evaluate(self) -> None:
        """Decide every brand's episode and put due messages into the outbox."""
        evaluation.evaluate_all(self._db, self.config, self._clock(), dry_run=self._dry_run)

    def deliver(self) -> None:
        """Send what waits in the outbox, oldest first, until nothing is due."""
        while not self.stopping.is_set() and delivery.deliver(self._db, self._notifier, self.config, self._clock()):
            pass
        counts = alert_store.counts(self._db)
        for state in alert_store.STATES:
            self._metrics.alerts.labels(state).set(counts.get(state, 0))
        n_failing, last_error = alert_store.failing(self._db)
        self._metrics.alerts_failing.set(n_failing)
        if n_failing:
            self._health.down("slack", f"{n_failing} alerts wait: {last_error}", needed=False)
        elif self._health_knows("slack"):
            self._health.up("slack", needed=False)

    def retain(self) -> None:
        """Blank what is older than store.retention_days, in the tables and in done/ and failed/."""
        now = self._clock()
        store = self.config.store
        if self._role != "ingest":
            retention.retain(self._db, now, store.retention_days, keep_text=store.keep_text)
        self._retain_files(now)

    def _retain_files(self, now: datetime) -> None:
        away: list[SourceUnavailable] = []
        for source in [lane.source for lane in self._lanes if isinstance(lane.source, DropFolder)]:
            try:
                source.retain(now, self.config.store.retention_days, keep_text=self.config.store.keep_text)
            except SourceUnavailable as error:  # the other folders must not wait for it
                away.append(error)
        if away:
            raise away[0]

    def recount(self) -> None:
        """Compare the totals with a recount of the posts and say loudly where they differ."""
        differences = daily.recount(self._db)
        self._metrics.recount_differences.set(len(differences))
        if differences:
            log.error(
                "totals differ from a recount of the posts", extra={"n": len(differences), "first": str(differences[0])}
            )

    def report(self) -> None:
        """Write the daily CSV and plot, if a folder is configured."""
        if self.config.report.dir is not None:
            report.write_daily(self.config, self._db, self._clock())

    def beat(self) -> None:
        """Say that this daemon lives and what it is doing."""
        for lane in self._lanes:
            self._counted[lane.source.name].append((time.monotonic(), lane.n_records))
            name = lane.source.name
            self._metrics.source_lag.labels(name).set(sum(lane.source.lag().values()))
            self._metrics.source_paused.labels(name).set(lane.source.paused() is not None)
            self._metrics.source_missed.labels(name).set(getattr(lane.source, "n_missed", 0))  # Kafka's alone
            self._metrics.count_bad_files(name, getattr(lane.source, "n_bad_files", 0))  # drop folders' alone
            self._metrics.refused_commits.labels(name).set(getattr(lane.source, "n_refused_commits", 0))
        with self._health.asking("store"):
            instances.beat(self._db, self.instance, self._role, self.started_at, self._clock(), self.state())

    # ---- around them ---------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What `status` shows of this daemon; JSON-serialisable."""
        return {
            "parts": [{"name": part.name, "ok": part.ok, "detail": part.detail} for part in self._health.parts()],
            "sources": {lane.source.name: self._source_state(lane) for lane in self._lanes},
            "jobs": self.last_runs,
            "caught_up": all(lane.source.caught_up() for lane in self._lanes),
        }

    def _source_state(self, lane: Lane) -> dict[str, Any]:
        return {
            "kind": lane.source.kind,
            "lag": sum(lane.source.lag().values()),
            "records": lane.n_records,
            "inserted": lane.n_inserted,
            "seen_before": lane.n_seen_before,
            "refused": lane.refused.total(),
            "records_per_s": self._rate(lane),
            "paused": lane.source.paused(),
            "caught_up": lane.source.caught_up(),
        }

    def _rate(self, lane: Lane) -> float:
        """Records per second over about the last minute, since the start if that is younger."""
        counted = self._counted[lane.source.name]
        if not counted:
            return 0.0
        at, n_records = counted[0]
        return round((lane.n_records - n_records) / max(BEAT_S, time.monotonic() - at), 1)

    def guarded(self, name: str) -> Callable[[], str]:
        """The job as the scheduler calls it: timed, counted, and never able to end the scheduler. It returns the
        outcome: ok, waiting (for something that is away) or failed."""
        job: Callable[[], None] = getattr(self, name)

        def run() -> str:
            self._health.turn("scheduler")
            began = time.monotonic()
            outcome = self._outcome_of(name, job)
            self._metrics.job_seconds.labels(name).observe(time.monotonic() - began)
            self.last_runs[name] = {"at": self._clock().isoformat(timespec="seconds"), "outcome": outcome}
            return outcome

        return run

    def count_missed(self, name: str) -> None:
        """A run was skipped because the one before still ran."""
        self._metrics.job_missed.labels(name).inc()

    def _outcome_of(self, name: str, job: Callable[[], None]) -> str:
        try:
            job()
        except StoreUnavailable as error:
            self._health.down("store", str(error))
            return WAITING
        except SourceUnavailable as error:  # health hears of it from the source's own thread
            log.warning("job %s waits: %s", name, error)
            return WAITING
        except Exception:
            log.exception("job %s failed; it runs again at its next time", name)
            self._metrics.job_failures.labels(name).inc()
            return "failed"
        if name == "beat":  # a write: reads work on a full disk
            self._health.up("store")
        self._metrics.job_success.labels(name).set(time.time())
        return "ok"

    def _health_knows(self, name: str) -> bool:
        return any(part.name == name for part in self._health.parts())

    def _is_held(self) -> bool:
        """True while any running daemon still reads a backlog, for at most hold_s: half a day must not look like a
        dip."""
        behind = not all(lane.source.caught_up() for lane in self._lanes)
        behind = behind or any(
            not one.state.get("caught_up", True)
            for one in instances.live(self._db, self._clock())
            if one.instance != self.instance
        )
        if not behind:
            self._held_since = None
            return False
        if self._held_since is None:
            self._held_since = time.monotonic()
            log.info("alerts wait while a source catches up")
        return time.monotonic() - self._held_since < self.config.alerts.hold_s
