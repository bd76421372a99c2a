"""When each job runs. APScheduler calls them on threads of its own; what they do is in jobs.py."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Any
from zoneinfo import ZoneInfo

from monitor.config import Config
from monitor.jobs import BEAT_S, WAITING, Jobs

log = logging.getLogger(__name__)

NIGHTLY_RETRY_S = 300.0  #: a nightly job that found something away does not wait for the next night
_AGAIN = " again"
_MISFIRE_GRACE_S = 24 * 3600  #: a job that comes late (machine asleep, long job before it) still runs, once


class Timetable:
    """The jobs of a role at their times, from `start` to `shutdown`."""

    def __init__(
        self, jobs: Jobs, config: Config, role: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._clock = clock
        self._jobs = jobs
        self._scheduler = _scheduler()
        soon = clock() + timedelta(seconds=0.2)
        for name, options in _options(config, role).items():
            first = {} if _is_nightly(options["trigger"]) else {"next_run_time": soon}
            self._scheduler.add_job(jobs.guarded(name), id=name, name=name, **first, **options)
        self._listen()

    def start(self) -> None:
        """Begin to call the jobs."""
        self._scheduler.start()

    def pause(self) -> None:
        """Begin no further job."""
        self._scheduler.pause()

    def shutdown(self) -> None:
        """Wait for the jobs in hand and end."""
        self._scheduler.shutdown()

    def clock_was_set(self, jumped_s: float) -> None:
        """Plan anew after the wall clock jumped by `jumped_s` (forwards positive): APScheduler keeps times of day, so
        that a clock set back by an hour would keep every job waiting for an hour.

        Nightly jobs that a jump forwards has passed over are late and still run.
        """
        now = self._clock()
        for job in self._scheduler.get_jobs():
            if not _is_nightly(job.trigger):
                job.modify(next_run_time=now)
            elif jumped_s < 0:
                job.modify(next_run_time=job.trigger.get_next_fire_time(None, now))

    def next_runs(self) -> Mapping[str, datetime]:
        """When each job runs next, by its name."""
        return {job.id: job.next_run_time for job in self._scheduler.get_jobs()}

    def _listen(self) -> None:
        from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED

        missed = EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES
        self._scheduler.add_listener(lambda event: self._jobs.count_missed(_name_of(event.job_id)), missed)
        self._scheduler.add_listener(
            lambda event: self._retry(_name_of(event.job_id), event.retval), EVENT_JOB_EXECUTED
        )

    def _retry(self, name: str, outcome: str) -> None:
        """Not by another time in the job's own plan: APScheduler may still be about to write that."""
        if outcome == WAITING and _is_nightly(self._scheduler.get_job(name).trigger):
            at = self._clock() + timedelta(seconds=NIGHTLY_RETRY_S)
            again = {"id": f"{name}{_AGAIN}", "replace_existing": True, "executor": "nightly"}
            self._scheduler.add_job(self._jobs.guarded(name), "date", run_date=at, name=name, **again)


def _scheduler() -> Any:
    """An APScheduler scheduler, not yet started; beats, delivery and nightly work have threads of their own."""
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    return BackgroundScheduler(
        timezone=ZoneInfo("UTC"),
        executors={name: ThreadPoolExecutor(1) for name in ("default", "beat", "deliver", "nightly")},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": _MISFIRE_GRACE_S},
    )


def _options(config: Config, role: str) -> Mapping[str, dict[str, Any]]:
    """Trigger and executor of each job of the role; times of day are in the configured zone."""
    jobs = {
        "beat": _every(BEAT_S, "beat"),
        "retain": _daily_at(config.schedule.retain_at, config.zone),
    }
    if role != "ingest":
        jobs["refresh"] = _every(config.schedule.refresh_s, "default")
        jobs["deliver"] = _every(config.schedule.deliver_s, "deliver")
        jobs["recount"] = _daily_at(config.schedule.recount_at, config.zone)
        jobs["report"] = _daily_at(config.report.at, config.zone)
    return jobs


def _every(seconds: float, executor: str) -> dict[str, Any]:
    return {"trigger": "interval", "seconds": seconds, "executor": executor}


def _daily_at(moment: time_of_day, zone: ZoneInfo) -> dict[str, Any]:
    from apscheduler.triggers.cron import CronTrigger

    trigger = CronTrigger(hour=moment.hour, minute=moment.minute, second=moment.second, timezone=zone)
    return {"trigger": trigger, "executor": "nightly"}


def _is_nightly(trigger: Any) -> bool:
    from apscheduler.triggers.cron import CronTrigger

    return isinstance(trigger, CronTrigger)


def _name_of(job_id: str) -> str:
    return job_id.removesuffix(_AGAIN)
