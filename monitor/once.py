"""`run --once`: read everything that is there now, refresh, evaluate, deliver, and end with a code that a script can
use."""

import logging
import sys
import time
from typing import TYPE_CHECKING

from monitor.errors import TooManyRefused, Unavailable
from monitor.lanes import Lane
from monitor.store import alerts as alert_store

if TYPE_CHECKING:
    from monitor.daemon import Daemon  # which imports this file to run it

log = logging.getLogger(__name__)


def run_once(daemon: "Daemon", wait_s: float) -> int:
    """0 done (also with dead letters; counts are printed), 65 too much bad input, 69 a service away or alerts
    undelivered after `wait_s`."""
    try:
        daemon.load_bundle()
        daemon.wait_for("store", daemon.open_store, wait_s)
        daemon.wait_for("store", daemon.build, wait_s)
        if daemon.jobs is None:
            return 0  # a signal came while the store was awaited
        for lane in daemon.lanes:
            _read_all(daemon, lane, wait_s)
        delivered = _finish(daemon, wait_s)
    except Unavailable as error:
        _say(f"a service is away: {error}")
        return Unavailable.exit_code
    finally:
        daemon.stop()
    _say_counts(daemon.lanes)
    if any(lane.was_refused or lane.source.paused() is not None for lane in daemon.lanes):
        return TooManyRefused.exit_code
    return 0 if delivered else Unavailable.exit_code


def _read_all(daemon: "Daemon", lane: Lane, wait_s: float) -> None:
    pipeline = daemon.pipeline
    assert pipeline is not None
    daemon.wait_for(lane.name, lambda: pipeline.open_lane(lane), wait_s)
    daemon.wait_for(lane.name, lane.source.mark_end, wait_s)
    try:
        while not daemon.is_stopping and not (lane.source.reached_end() and lane.is_idle):
            daemon.wait_for(lane.name, lambda: pipeline.run_once(lane), wait_s)
            if lane.source.paused() is not None:
                break
    finally:
        lane.source.close()


def _finish(daemon: "Daemon", wait_s: float) -> bool:
    """Refresh, evaluate, and deliver until nothing waits; False when something still does after `wait_s`."""
    jobs = daemon.jobs
    assert jobs is not None
    daemon.wait_for("store", jobs.refresh_and_evaluate, wait_s)
    deadline = time.monotonic() + wait_s
    while not daemon.is_stopping:
        daemon.wait_for("store", jobs.deliver, wait_s)
        if not alert_store.n_waiting(daemon.db):
            return True
        if time.monotonic() >= deadline:
            _say("alerts wait for Slack: see `alerts list`")
            return False
        time.sleep(0.2)
    return True


def _say_counts(lanes: list[Lane]) -> None:
    for lane in lanes:
        refused = ", ".join(f"{reason.value} {count}" for reason, count in sorted(lane.refused.items()))
        counts = f"{lane.n_inserted} counted, {lane.n_seen_before} seen before, {lane.refused.total()} refused"
        _say(f"{lane.source.name}: {counts}{f' ({refused})' if refused else ''}")
        if lane.source.paused() is not None:
            _say(f"{lane.source.name} is paused: {lane.source.paused()}; see `sources resume {lane.source.name}`")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
