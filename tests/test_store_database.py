"""Transactions, retries and outages; locks between daemons."""

import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from batches import post, rows, rules, scored
from daemon_process import wait_until
from fixtures_postgres import PostgresServer
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from monitor.errors import ConfigError, StoreUnavailable
from monitor.posts import Saved
from monitor.store import daily, migrate
from monitor.store.database import Database, daemon_lock
from monitor.store.saving import Saver


def n_posts(db: Database) -> int:
    """Rows in `posts`."""
    return int(str(rows(db, "SELECT count(*) FROM posts")[0][0]))


def test_what_work_raises_rolls_back(database: Database) -> None:
    """An exception inside `run` leaves nothing behind and comes out as it is."""

    def work(connection: Connection) -> None:
        connection.execute(text("INSERT INTO settings (name, value) VALUES ('a', 'b')"))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        database.run(work)
    assert rows(database, "SELECT * FROM settings") == []


def test_read_sees_one_state(database: Database) -> None:
    """Two statements of one `read` agree, whatever is written between them."""
    count = text("SELECT count(*) FROM settings")
    add = text("INSERT INTO settings (name, value) VALUES ('a', 'b')")

    def work(connection: Connection) -> tuple[int, int]:
        before: int = connection.execute(count).scalar_one()
        database.run(lambda other: other.execute(add))
        return before, connection.execute(count).scalar_one()

    assert database.read(work) == (0, 0)
    assert rows(database, "SELECT name FROM settings") == [("a",)]


def test_broken_rules_are_not_taken_for_an_outage(database: Database) -> None:
    """An integrity error is a bug: it comes out at once, without the values, which may be user text."""
    add = text("INSERT INTO settings (name, value) VALUES (:name, :value)")
    database.run(lambda c: c.execute(add, {"name": "a", "value": "private words"}))
    with pytest.raises(IntegrityError) as caught:
        database.run(lambda c: c.execute(add, {"name": "a", "value": "private words"}))
    assert "private words" not in str(caught.value)


def test_a_database_without_tables_names_the_remedy(tmp_path: Path, open_database: Callable[[str], Database]) -> None:
    """Missing tables are a matter of configuration: `db upgrade`."""
    db = open_database(f"sqlite:///{tmp_path}/new/deep/empty.db")
    with pytest.raises(ConfigError, match="db upgrade"):
        n_posts(db)
    assert (tmp_path / "new" / "deep" / "empty.db").exists()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, open_database: Callable[[str], Database]) -> None:
    """store.url that points at some other file ends with a sentence, not a traceback."""
    (tmp_path / "notes.txt").write_text("These are notes, " * 100)
    with pytest.raises(ConfigError, match="not a readable SQLite database"):
        n_posts(open_database(f"sqlite:///{tmp_path}/notes.txt"))


def test_a_folder_that_cannot_be_made_is_an_outage(tmp_path: Path, open_database: Callable[[str], Database]) -> None:
    """A file where the folder should be: StoreUnavailable names the folder."""
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreUnavailable, match="folder"):
        n_posts(open_database(f"sqlite:///{tmp_path}/data/sentiment.db"))


def test_sqlite_waits_for_another_writer(open_database: Callable[[str], Database], sqlite_url: str) -> None:
    """A second writer waits for the first instead of failing, even where it reads before it writes."""
    first, second = open_database(sqlite_url), open_database(sqlite_url)
    holds, may_end = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.execute(text("INSERT INTO settings (name, value) VALUES ('first', '')"))
        holds.set()
        may_end.wait(20)

    thread = threading.Thread(target=lambda: first.run(hold))
    thread.start()
    assert holds.wait(20)
    threading.Timer(0.3, may_end.set).start()

    def read_then_write(connection: Connection) -> int:
        n: int = connection.execute(text("SELECT count(*) FROM settings")).scalar_one()
        connection.execute(text("INSERT INTO settings (name, value) VALUES ('second', '')"))
        return n

    assert second.run(read_then_write) == 1
    thread.join(20)


def test_a_reader_keeps_no_writer_waiting(open_database: Callable[[str], Database], sqlite_url: str) -> None:
    """Somebody looks at SQLite for a long time: posts are saved and counted meanwhile, and the view stays as it was."""
    db = open_database(sqlite_url)
    saver = Saver(db, rules())
    saver.save(scored([post(0)]))
    with closing(sqlite3.connect(db.path or "", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM posts").fetchone() == (1,)
        assert saver.save(scored([post(1)])).n_inserted == 1
        daily.refresh(db, datetime.now(UTC))
        db.drop_old_pages()
        assert reader.execute("SELECT count(*) FROM posts").fetchone() == (1,)
    assert n_posts(db) == 2
    assert daily.recount(db) == []


def test_a_lock_that_somebody_keeps_is_an_outage(open_database: Callable[[str], Database], sqlite_url: str) -> None:
    """A tool that locks the SQLite file for itself: StoreUnavailable, and the same batch is saved once it lets go."""
    db = open_database(sqlite_url)
    saver = Saver(db, rules())
    db.run(lambda c: c.exec_driver_sql("PRAGMA busy_timeout = 50"))
    with closing(sqlite3.connect(db.path or "", isolation_level=None)) as tool:
        tool.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            saver.save(scored([post(0)]))
    assert saver.save(scored([post(0)])).n_inserted == 1
    assert n_posts(db) == 1


def test_a_full_disk_is_an_outage(open_database: Callable[[str], Database], sqlite_url: str) -> None:
    """No room for a batch: StoreUnavailable, nothing of it is stored, and the same batch fits when there is room."""
    db = open_database(sqlite_url)
    saver = Saver(db, rules())
    batch = scored([post(offset, text="long " * 200) for offset in range(500)])
    n_pages = db.run(lambda c: c.execute(text("PRAGMA page_count")).scalar_one())
    db.run(lambda c: c.execute(text(f"PRAGMA max_page_count = {n_pages + 5}")))
    with pytest.raises(StoreUnavailable, match="full"):
        saver.save(batch)
    assert n_posts(db) == 0
    db.run(lambda c: c.execute(text("PRAGMA max_page_count = 1000000")))
    assert saver.save(batch).n_inserted == 500


def test_a_second_daemon_on_one_sqlite_file_is_refused(
    open_database: Callable[[str], Database], sqlite_url: str
) -> None:
    """The refusal says what to do; when the first ends, the file is free."""
    db = open_database(sqlite_url)
    with daemon_lock(db), pytest.raises(StoreUnavailable, match=r"one daemon at a time.*PostgreSQL"), daemon_lock(db):
        pass
    with daemon_lock(db):
        pass


@pytest.mark.postgres
def test_any_number_of_daemons_may_use_postgresql(open_database: Callable[[str], Database], postgres_url: str) -> None:
    """The daemon lock does nothing there."""
    db = open_database(postgres_url)
    with daemon_lock(db), daemon_lock(db):
        pass


@pytest.mark.postgres
def test_deadlocks_are_tried_again(open_database: Callable[[str], Database], postgres_url: str) -> None:
    """Two transactions that take two rows in opposite orders both end well: the loser is run again."""
    db = open_database(postgres_url)
    db.run(lambda c: c.execute(text("INSERT INTO settings (name, value) VALUES ('a', '0'), ('b', '0')")))
    both_hold = threading.Barrier(2, timeout=20)
    n_calls: list[str] = []

    def add_to(order: str) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            for name in order:
                add = "UPDATE settings SET value = CAST(CAST(value AS integer) + 1 AS text) WHERE name = :name"
                connection.execute(text(add), {"name": name})
                if name == order[0] and n_calls.count(order) == 0:
                    n_calls.append(order)
                    both_hold.wait()

        return work

    threads = [threading.Thread(target=db.run, args=(add_to(order),)) for order in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert rows(db, "SELECT value FROM settings ORDER BY name") == [("2",), ("2",)]


@pytest.mark.postgres
def test_a_row_locked_by_somebody_else_is_tried_again(
    open_database: Callable[[str], Database], postgres_url: str
) -> None:
    """A lock timeout repeats the transaction, which ends well once the row is free."""
    db = open_database(postgres_url)
    db.run(lambda c: c.execute(text("INSERT INTO settings (name, value) VALUES ('hot', '0')")))
    add = text("UPDATE settings SET value = CAST(CAST(value AS integer) + 1 AS text) WHERE name = 'hot'")
    holds, may_end = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.execute(add)
        holds.set()
        may_end.wait(20)

    thread = threading.Thread(target=db.run, args=(hold,))
    thread.start()
    assert holds.wait(20)
    n_attempts: list[int] = []

    def wait_shortly(connection: Connection) -> None:
        n_attempts.append(1)
        if len(n_attempts) == 2:
            may_end.set()
        limit = "10ms" if len(n_attempts) == 1 else "20s"
        connection.execute(text(f"SET LOCAL lock_timeout = '{limit}'"))
        connection.execute(add)

    db.run(wait_shortly)
    thread.join(20)
    assert len(n_attempts) == 2
    assert rows(db, "SELECT value FROM settings") == [("2",)]


@pytest.mark.postgres
def test_a_statement_that_takes_too_long_is_an_outage(
    open_database: Callable[[str], Database], postgres_url: str
) -> None:
    """A statement timeout is told in the database's words, without the statement."""

    def sleep(connection: Connection) -> None:
        connection.execute(text("SET LOCAL statement_timeout = 50"))
        connection.execute(text("SELECT pg_sleep(20)"))

    with pytest.raises(StoreUnavailable, match="statement timeout") as caught:
        open_database(postgres_url).run(sleep)
    assert "pg_sleep" not in str(caught.value)


_HELD = text("SELECT count(*) FROM pg_stat_activity WHERE usename = 'few'")


@pytest.mark.postgres
def test_a_table_that_is_changed_under_its_plans_is_read_again(
    open_database: Callable[[str], Database], postgres_server: PostgresServer
) -> None:
    """Plans that PostgreSQL keeps no longer fit (0A000), in more than one session: the transaction is repeated in a new
    one."""
    url = postgres_server.create()
    db, other = open_database(url), open_database(url)
    other.run(lambda c: c.execute(text("CREATE TABLE notes (note text)")))
    other.run(lambda c: c.execute(text("INSERT INTO notes VALUES ('kept')")))

    def look(connection: Connection) -> tuple[object, ...]:
        return tuple(connection.execute(text("SELECT * FROM notes")).one())

    def look_in_two_sessions(connection: Connection) -> tuple[object, ...]:
        return look(connection) if db.read(look) else ()

    for _ in range(10):  # psycopg prepares what it has sent five times
        db.read(look_in_two_sessions)
    other.run(lambda c: c.execute(text("ALTER TABLE notes ADD COLUMN stars integer DEFAULT 5")))
    assert db.read(look_in_two_sessions) == ("kept", 5)
    assert db.read(look) == ("kept", 5)


@pytest.mark.postgres
def test_prepared_statements_that_are_gone_are_done_without(
    open_database: Callable[[str], Database], postgres_url: str
) -> None:
    """As behind a pooler that exchanges sessions (26000): repeated in a new session, and from then on none is prepared,
    so that it does not happen again."""
    db = open_database(postgres_url)
    n_attempts: list[int] = []

    def save(connection: Connection) -> int:
        n_attempts.append(1)
        connection.execute(text("INSERT INTO settings (name, value) VALUES ('n', '1') ON CONFLICT DO NOTHING"))
        return int(connection.execute(text("SELECT count(*) FROM settings")).scalar_one())

    def save_in_another_session(connection: Connection) -> int:
        connection.execute(text("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"))  # psycopg does not see it happen
        return save(connection)

    for _ in range(10):
        assert db.run(save) == 1
    n_attempts.clear()
    assert db.run(save_in_another_session) == 1
    assert len(n_attempts) == 2
    for _ in range(10):
        assert db.run(save) == 1
    assert rows(db, "SELECT count(*) FROM pg_prepared_statements") == [(0,)]
    assert db.run(save_in_another_session) == 1
    assert len(n_attempts) == 13


@pytest.mark.postgres
@pytest.mark.parametrize("state", ["0A000", "26000", "42P05", "XX000", "XX001"])
def test_faults_of_the_server_are_tried_in_a_new_session_and_then_waited_for(
    open_database: Callable[[str], Database], postgres_url: str, state: str
) -> None:
    """Once more in another session; where it stays so, an outage in the server's own words, and never a crash."""
    db = open_database(postgres_url)
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'could not read block 7' USING ERRCODE = '{state}'; END $$"
    sessions: list[object] = []

    def work(connection: Connection, n_failing: int) -> int:
        sessions.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        if len(sessions) <= n_failing:
            connection.execute(text(raising))
        return len(sessions)

    assert db.run(lambda connection: work(connection, 1)) == 2
    assert len(set(sessions)) == 2
    sessions.clear()
    with pytest.raises(StoreUnavailable, match="is not available: could not read block 7"):
        db.run(lambda connection: work(connection, 9))
    assert len(set(sessions)) == 2


@pytest.mark.postgres
def test_a_server_out_of_connections_is_waited_for(open_database: Callable[[str], Database], postgres_url: str) -> None:
    """Others hold every connection there is: told in the database's words, and the same batch is saved once they go."""
    admin = open_database(postgres_url)
    admin.run(lambda c: c.execute(text("CREATE ROLE few LOGIN CONNECTION LIMIT 2")))
    admin.run(lambda c: c.execute(text("GRANT pg_read_all_data, pg_write_all_data TO few")))
    url = postgres_url.replace("postgres:@", "few:@")
    saver = Saver(open_database(url), rules())
    try:
        with psycopg.connect(url), psycopg.connect(url):
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="too many connections"):
                    saver.save(scored([post(0)]))
        wait_until(lambda: admin.read(lambda c: c.execute(_HELD).scalar_one()) == 0, "the end of the others' sessions")
        assert saver.save(scored([post(0)])).n_inserted == 1
        assert n_posts(admin) == 1
    finally:
        admin.run(
            lambda c: c.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'few'"))
        )
        admin.run(lambda c: c.execute(text("DROP ROLE few")))


@pytest.mark.postgres
def test_a_user_without_rights_is_a_matter_of_configuration(
    open_database: Callable[[str], Database], postgres_url: str
) -> None:
    """Waiting would not help: ConfigError names what is forbidden."""
    admin = open_database(postgres_url)
    admin.run(lambda c: c.execute(text("CREATE ROLE looker LOGIN")))
    try:
        with pytest.raises(ConfigError, match=r"lacks a right.*permission denied for table posts"):
            n_posts(open_database(postgres_url.replace("postgres:@", "looker:@")))
    finally:
        admin.run(lambda c: c.execute(text("DROP ROLE looker")))


@pytest.mark.postgres
def test_sessions_have_the_documented_settings(open_database: Callable[[str], Database], postgres_url: str) -> None:
    """Locks, statements and idle transactions end by themselves; commits are durable; times are UTC."""
    names = (
        "lock_timeout",
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "synchronous_commit",
        "timezone",
    )
    db = open_database(postgres_url)
    found = db.run(lambda c: [c.execute(text(f"SHOW {name}")).scalar_one() for name in names])
    assert found == ["10s", "30s", "15s", "on", "UTC"]
    assert rows(db, "SHOW transaction_isolation") == [("repeatable read",)]
    assert db.run(lambda c: c.execute(text("SHOW transaction_isolation")).scalar_one()) == "read committed"


@pytest.mark.postgres
def test_a_restart_in_the_middle_loses_and_doubles_nothing(
    open_database: Callable[[str], Database], restartable_postgres: PostgresServer
) -> None:
    """The server crashes between batches and inside one, then stands still: every batch is saved once."""
    url = restartable_postgres.create()
    db = open_database(url)
    migrate.upgrade(db)
    saver = Saver(db, rules())
    saver.save(scored([post(0)]))
    restartable_postgres.stop()
    with pytest.raises(StoreUnavailable, match="not available"):
        saver.save(scored([post(1)]))
    restartable_postgres.start()
    assert saver.save(scored([post(1)])).n_inserted == 1

    def cut_off_after_writing(connection: Connection) -> int:
        connection.execute(text("INSERT INTO settings (name, value) VALUES ('once', '') ON CONFLICT DO NOTHING"))
        n_attempts.append(1)
        if len(n_attempts) == 1:
            end = text("SELECT pg_terminate_backend(:pid)")
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            db.run(lambda other: other.execute(end, {"pid": pid}))
        return int(connection.execute(text("SELECT count(*) FROM settings")).scalar_one())

    n_attempts: list[int] = []
    assert db.run(cut_off_after_writing) == 1
    assert len(n_attempts) == 2

    restartable_postgres.freeze()
    saved: list[Saved] = []
    thread = threading.Thread(target=lambda: saved.append(saver.save(scored([post(2)]))))
    thread.start()
    thread.join(0.5)
    assert saved == []
    restartable_postgres.thaw()
    thread.join(30)
    assert [each.n_inserted for each in saved] == [1]
    assert n_posts(db) == 3
    assert daily.recount(db) == []


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.postgres
def test_no_secret_is_ever_shown(open_database: Callable[[str], Database]) -> None:
    """Neither the description nor the message of an outage has the password, from the URL or from the environment."""
    with silent_port() as port:
        url = f"postgresql://monitor@127.0.0.1:{port}/sentiment"
        for db in (Database(url, password="s3cret"), Database(url.replace("monitor@", "monitor:s3cret@"))):
            with pytest.raises(StoreUnavailable) as caught:
                n_posts(db)
            assert f"postgresql://monitor@127.0.0.1:{port}/sentiment" in str(caught.value)
            assert "s3cret" not in str(caught.value) + db.describe() + repr(db)


@pytest.mark.parametrize("url", ["", "data/sentiment.db", "postgresql://host:port/name"])
def test_an_unreadable_url_is_a_matter_of_configuration(url: str) -> None:
    """The message shows what a URL looks like, not the URL, which may hold a password."""
    with pytest.raises(ConfigError, match=r"sqlite:///data/sentiment\.db"):
        Database(url)
