"""A stop that comes while the daemon has not even started: the bundle is being loaded, the schema being migrated."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from daemon_process import DaemonProcess, wait_until, write_config
from fixtures_postgres import PostgresServer
from forked_daemon import ForkedDaemon
from sqlalchemy import text

from monitor.store import migrate
from monitor.store.database import Database


def test_a_stop_while_the_bundle_is_loaded(tmp_path: Path, tiny_bundle: str) -> None:
    """A process of its own, which takes its time for that: exit 0, and nothing that comes after it was begun."""
    with DaemonProcess(write_config(tmp_path, scoring={"bundle": tiny_bundle})) as daemon:
        wait_until(lambda: "WAIT bundle: starting" in daemon.ask("/readyz")[1], "the load")
        assert daemon.stop() == 0
    assert "Traceback" not in daemon.log()
    assert not (tmp_path / "data").exists()


@contextmanager
def as_if_another_migrates(url: str) -> Iterator[None]:
    """Hold the lock that replicas take to migrate one after the other."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (migrate._LOCK_OF_MIGRATIONS,))
        yield


@contextmanager
def as_if_a_table_were_busy(url: str) -> Iterator[None]:
    """A transaction that does not end makes a migration wait for one of its tables."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE posts (x integer)")
        yield
        connection.rollback()


def n_waiting(url: str) -> int:
    """Sessions of the daemon that wait for a lock."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'sentiment-monitor' AND wait_event_type = 'Lock'"
        ).fetchone()
    return int(found[0]) if found else 0


@pytest.mark.long
@pytest.mark.postgres
def test_a_stop_during_a_migration_that_does_not_end(
    postgres_server: PostgresServer,
    tmp_path: Path,
    tiny_bundle: str,
    open_database: Callable[[str], Database],
) -> None:
    """It has until LEAVE_S to end; then the daemon leaves with 0, and the database is as it was, ready for the next.

    Both obstacles at once, each to a database and a daemon of its own: there is much to wait for.
    """
    urls = [postgres_server.create() for _ in range(2)]
    with ExitStack() as stack:
        stack.enter_context(as_if_another_migrates(urls[0]))
        stack.enter_context(as_if_a_table_were_busy(urls[1]))
        folders = [tmp_path / "another", tmp_path / "busy"]
        daemons = [
            stack.enter_context(migrating(url, folder, tiny_bundle)) for url, folder in zip(urls, folders, strict=True)
        ]
        with ThreadPoolExecutor() as threads:
            stops = [threads.submit(daemon.stop, signal.SIGTERM, deadline_s=25) for daemon in daemons]
        assert [stop.result() for stop in stops] == [0, 0]
        assert all("leaving although something still hangs" in daemon.log() for daemon in daemons)
    for url in urls:
        db = open_database(url)
        wait_until(lambda url=url: n_waiting(url) == 0, "the end of the session", 30)  # type: ignore[misc]
        assert migrate.current(db) is None
        assert migrate.upgrade(db) is True
        assert db.read(lambda connection: connection.execute(text("SELECT count(*) FROM posts")).scalar_one()) == 0


@contextmanager
def migrating(url: str, folder: Path, bundle: str) -> Iterator[ForkedDaemon]:
    """A daemon whose migration waits."""
    folder.mkdir()
    with ForkedDaemon(write_config(folder, store={"url": url}, scoring={"bundle": bundle})) as daemon:
        wait_until(lambda: n_waiting(url) == 1, "the migration")
        assert daemon.ask("/livez")[0] == 200
        yield daemon
