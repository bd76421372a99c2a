"""The scheduled work, each a plain function that may run any number of times on any replica; APScheduler only calls
them."""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Any
from zoneinfo import ZoneInfo

from monitor import delivery, report
from monitor.config import AlertsSection, Config
from monitor.errors import Unavailable
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
RATE_BEATS = 20  #: beats that a rate is taken over: a minute
_MISFIRE_GRACE_S = 24 * 3600  #: a job that comes late (machine asleep, long job before it) still runs, once


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
            daily.refresh(self._db, self._clock())
            if not self._is_held():
                self.evaluate()

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
        for lane in self._lanes:
            if isinstance(lane.source, DropFolder):
                lane.source.retain(now, store.retention_days, keep_text=store.keep_text)

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

    def guarded(self, name: str) -> Callable[[], None]:
        """The job as APScheduler calls it: timed, counted, and never able to end the scheduler."""
        job: Callable[[], None] = getattr(self, name)

        def run() -> None:
            self._health.turn("scheduler")
            began = time.monotonic()
            try:
                job()
            except Unavailable as error:
                self._health.down("store", str(error))
                self._note(name, "waiting")
            except Exception:
                log.exception("job %s failed; it runs again at its next time", name)
                self._metrics.job_failures.labels(name).inc()
                self._note(name, "failed")
            else:
                if name == "beat":  # a write: reads may work on a full disk
                    self._health.up("store")
                self._metrics.job_success.labels(name).set(time.time())
                self._note(name, "ok")
            self._metrics.job_seconds.labels(name).observe(time.monotonic() - began)

        return run

    def _note(self, name: str, outcome: str) -> None:
        self.last_runs[name] = {"at": self._clock().isoformat(timespec="seconds"), "outcome": outcome}

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


def schedule(jobs: Jobs, config: Config, role: str) -> Any:
    """An APScheduler scheduler, not yet started, with every job of the role. Returns apscheduler's
    BackgroundScheduler."""
    from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler = BackgroundScheduler(
        timezone=ZoneInfo("UTC"),
        executors={name: ThreadPoolExecutor(1) for name in ("default", "beat", "deliver", "nightly")},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": _MISFIRE_GRACE_S},
    )
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    for name, options in _timetable(config, role).items():
        scheduler.add_job(
            jobs.guarded(name),
            id=name,
            name=name,
            **({"next_run_time": soon} if options["trigger"] == "interval" else {}),
            **options,
        )
    scheduler.add_listener(
        lambda event: jobs._metrics.job_missed.labels(event.job_id).inc(), EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES
    )
    return scheduler


def _timetable(config: Config, role: str) -> Mapping[str, dict[str, Any]]:
    """When each job of the role runs; times of day are in the configured zone. Beats, delivery and nightly work have
    threads of their own."""

    def daily_at(moment: time_of_day) -> dict[str, Any]:
        return {
            "trigger": "cron",
            "hour": moment.hour,
            "minute": moment.minute,
            "second": moment.second,
            "timezone": config.zone,
            "executor": "nightly",
        }

    jobs = {
        "beat": {"trigger": "interval", "seconds": BEAT_S, "executor": "beat"},
        "retain": daily_at(config.schedule.retain_at),
    }
    if role != "ingest":
        jobs["refresh"] = {"trigger": "interval", "seconds": config.schedule.refresh_s}
        jobs["deliver"] = {"trigger": "interval", "seconds": config.schedule.deliver_s, "executor": "deliver"}
        jobs["recount"] = daily_at(config.schedule.recount_at)
        jobs["report"] = daily_at(config.report.at)
    return jobs
