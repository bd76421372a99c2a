"""A whole daemon with nothing to do: how much it does nevertheless, in counts that no busy machine raises."""

from pathlib import Path

import pytest
from fixtures_postgres import PostgresServer
from idling import Work, idle_daemon, waiting_daemon, work_over

STRETCH_S = 6.0
MAX_SHARE = 0.10  #: of a core, with room for what a busy machine adds; `make soak ARGS=idle` prints the figure
MAX_WAKES_PER_S = 150  #: fifteen threads that look about every few hundred milliseconds; one that spins has thousands
MAX_CALLS_PER_S = 60  #: reads and writes; a scan of the folder and a heartbeat every few seconds need some


def check_little(work: Work) -> None:
    """It waits rather than works, and says nothing."""
    assert work.share <= MAX_SHARE, str(work)
    assert work.wakes <= MAX_WAKES_PER_S * work.seconds, str(work)
    assert work.calls <= MAX_CALLS_PER_S * work.seconds, str(work)
    assert work.log_lines <= 1, str(work)


def test_an_idle_daemon_does_next_to_nothing(tmp_path: Path, tiny_bundle: str) -> None:
    """Drop folder and SQLite, everything read: no attempt fails, nothing is logged, it sleeps."""
    with idle_daemon(tmp_path, tiny_bundle) as daemon:
        work = work_over(daemon, STRETCH_S)
    check_little(work)
    assert work.retries == 0


@pytest.mark.postgres
def test_a_daemon_whose_database_is_away_tries_now_and_then(
    restartable_postgres: PostgresServer, tmp_path: Path, tiny_bundle: str
) -> None:
    """A batch in hand and every job wait: a few attempts, no word more in the log."""
    with waiting_daemon(tmp_path, tiny_bundle, restartable_postgres) as daemon:
        work = work_over(daemon, STRETCH_S)
    check_little(work)
    assert 1 <= work.retries <= 2 * STRETCH_S
