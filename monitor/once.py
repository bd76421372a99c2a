"""`run --once`: read everything that is there now, refresh, evaluate, deliver, and end with a code that a script can
use."""

import logging
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from monitor.errors import AlreadyRunning, TooManyRefused, Unavailable
from monitor.lanes import Lane
from monitor.sources.drop_folder import DropFolder
from monitor.store import alerts as alert_store

if TYPE_CHECKING:
    from monitor.daemon import Daemon  # which imports this file to run it

log = logging.getLogger(__name__)


def run_once(daemon: "Daemon", wait_s: float) -> int:
    """0 done (also with dead letters; counts are printed), 65 too much bad input, 69 a service away, a file that
    cannot be read, or alerts undelivered after `wait_s`."""
    try:
        daemon.load_bundle()
        daemon.main.wait_for("store", daemon.open_store, wait_s)
        daemon.main.wait_for("store", daemon.build, wait_s)
        if daemon.jobs is None:
            _say_stopped()  # while the store was awaited
            return 0
        for lane in daemon.lanes:
            _read_all(daemon, lane, wait_s)
        delivered = _finish(daemon, wait_s)
    except AlreadyRunning:
        raise  # no outage: `cli` says it
    except Unavailable as error:
        _say(f"a service is away: {error}")
        return Unavailable.exit_code
    finally:
        daemon.stop()
    say_counts(daemon.lanes)
    if daemon.main.is_stopping:
        _say_stopped()
    return exit_code_of(daemon.lanes, delivered=delivered)


def exit_code_of(lanes: Sequence[Lane], *, delivered: bool) -> int:
    """What a run ends with whose sources were read: 65, 69 or 0, as for `run_once`."""
    if any(lane.was_refused or lane.source.paused() is not None for lane in lanes):
        return TooManyRefused.exit_code
    is_left_behind = any(isinstance(lane.source, DropFolder) and lane.source.left_behind for lane in lanes)
    return Unavailable.exit_code if is_left_behind or not delivered else 0


def _read_all(daemon: "Daemon", lane: Lane, wait_s: float) -> None:
    pipeline = daemon.pipeline
    assert pipeline is not None
    daemon.main.wait_for(lane.name, lambda: pipeline.open_lane(lane), wait_s)
    daemon.main.wait_for(lane.name, lane.source.mark_end, wait_s)
    try:
        while not daemon.main.is_stopping and not (lane.source.reached_end() and lane.is_idle):
            daemon.main.wait_for(lane.name, lambda: pipeline.run_once(lane), wait_s)
            if lane.source.paused() is not None:
                break
    finally:
        lane.source.close()


def _finish(daemon: "Daemon", wait_s: float) -> bool:
    """Refresh, evaluate, and deliver until nothing waits; False when something still does after `wait_s`."""
    jobs = daemon.jobs
    assert jobs is not None
    daemon.main.wait_for("store", jobs.refresh_and_evaluate, wait_s)
    deadline = time.monotonic() + wait_s
    while not daemon.main.is_stopping:
        daemon.main.wait_for("store", jobs.deliver, wait_s)
        if not alert_store.n_waiting(daemon.db):
            return True
        if time.monotonic() >= deadline:
            _say("alerts wait for Slack: see `alerts list`")
            return False
        time.sleep(0.2)
    return True


def _say_stopped() -> None:
    _say("stopped by a signal, perhaps before the end: the next run goes on from here")


def say_counts(lanes: Sequence[Lane]) -> None:
    """Print what was counted and refused of each source, and what needs a person."""
    for lane in lanes:
        refused = ", ".join(f"{reason.value} {count}" for reason, count in sorted(lane.refused.items()))
        counts = f"{lane.n_inserted} counted, {lane.n_seen_before} seen before, {lane.refused.total()} refused"
        _say(f"{lane.source.name}: {counts}{f' ({refused})' if refused else ''}")
        if isinstance(lane.source, DropFolder):
            _say_files(lane.source)
        if lane.source.paused() is not None:
            _say(f"{lane.source.name} is paused: {lane.source.paused()}; see `sources resume {lane.source.name}`")


def _say_files(folder: DropFolder) -> None:
    """What the counts of rows do not tell."""
    if folder.n_bad_files:
        _say(f"{folder.name}: {folder.n_bad_files} files cannot be used (bad_file); failed/ has each with its report")
    for name, reason in folder.too_bad.items():
        _say(f"{folder.name}: failed/{name}: {reason}")
    for name in sorted(folder.left_behind):
        _say(f"{folder.name}: {name} cannot be read and stays where it is")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
