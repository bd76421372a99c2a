"""Large batches reach PostgreSQL by COPY: the same rows as by INSERT, and the same care when the connection breaks."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from batches import DAY, MODEL, micro, post, rows, rules, scored
from sqlalchemy import Connection, text

from monitor.posts import Post
from monitor.store.copying import copy_into
from monitor.store.database import Database
from monitor.store.inserting import MIN_COPIED
from monitor.store.saving import Saver

pytestmark = pytest.mark.postgres
OpenDatabase = Callable[[str], Database]

#: what COPY's text format would have to escape, and what the store replaces
ODD_TEXTS = ("\\N", "a\tb\nc\rd", "\\.", '"quoted", comma', "é 😀 漢字", "nul \0 and \ud800", " ")
STORED = f"SELECT * FROM posts WHERE model = '{MODEL}' ORDER BY position"


def odd_posts(n: int) -> list[Post]:
    """Posts of several days, with and without author and language."""
    return [
        post(
            offset,
            text=f"{ODD_TEXTS[offset % len(ODD_TEXTS)]} {offset}",
            user_id=None if offset % 3 else f"user {offset}",
            lang=None if offset % 5 else "en",
            brand=f"Ünïcode {offset % 4}",
            day=DAY - timedelta(days=offset % 9),
        )
        for offset in range(n)
    ]


def test_copied_rows_equal_inserted_ones(postgres_url: str, open_database: OpenDatabase) -> None:
    """One batch large enough to be copied leaves the rows that many small ones leave, to the last column."""
    database = open_database(postgres_url)
    posts, scores = odd_posts(MIN_COPIED), [micro(offset) if offset % 7 else None for offset in range(MIN_COPIED)]
    saver = Saver(database, rules())
    assert saver.save(scored(posts, scores)).n_inserted == MIN_COPIED
    copied = rows(database, STORED)
    database.run(lambda connection: connection.execute(text("DELETE FROM posts")))
    for at in range(0, MIN_COPIED, 100):
        saver.save(scored(posts[at : at + 100], scores[at : at + 100]))
    assert copied == rows(database, STORED)
    assert len(copied) == MIN_COPIED


def test_copied_rows_count_once(postgres_url: str, open_database: OpenDatabase) -> None:
    """A copied batch that overlaps stored posts inserts the others only, and the stage holds nothing afterwards."""
    database = open_database(postgres_url)
    saver, posts = Saver(database, rules()), odd_posts(2 * MIN_COPIED)
    saver.save(scored(posts[: MIN_COPIED + 10]))
    saved = saver.save(scored(posts))
    assert (saved.n_inserted, saved.n_seen_before) == (MIN_COPIED - 10, MIN_COPIED + 10)
    assert rows(database, "SELECT count(*) FROM staged_posts") == [(0,)]
    assert rows(database, "SELECT sum(n) FROM daily_totals") == [(2 * MIN_COPIED,)]


def test_a_connection_that_breaks_in_a_copy_is_replaced(postgres_url: str, open_database: OpenDatabase) -> None:
    """The transaction is repeated once on a new connection, as after any other statement."""
    database, other = open_database(postgres_url), open_database(postgres_url)
    pids: list[int] = []

    def work(connection: Connection) -> int:
        connection.execute(text("CREATE TEMP TABLE staged (n int) ON COMMIT DROP"))
        pids.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        if len(pids) == 1:
            other.run(partial(_end, pid=pids[0]))
        copy_into(connection, "COPY staged FROM STDIN (FORMAT binary)", ["int4"], [(1,), (2,)])
        return int(connection.execute(text("SELECT sum(n) FROM staged")).scalar_one())

    assert database.run(work) == 3
    assert len(set(pids)) == 2


def test_a_fault_of_the_server_in_a_copy_is_tried_in_a_new_session(
    postgres_url: str, open_database: OpenDatabase
) -> None:
    """As after any other statement: the session is given up, and the transaction repeated once."""
    database = open_database(postgres_url)
    pids: list[int] = []
    raising = """CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'could not read block 7' USING ERRCODE = 'XX000'; END $$"""

    def work(connection: Connection) -> int:
        pids.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        connection.execute(text("CREATE TEMP TABLE staged (n int) ON COMMIT DROP"))
        if len(pids) == 1:
            connection.execute(text(raising))
            connection.execute(
                text("CREATE TRIGGER t BEFORE INSERT ON staged FOR EACH ROW EXECUTE FUNCTION pg_temp.fail()")
            )
        copy_into(connection, "COPY staged FROM STDIN (FORMAT binary)", ["int4"], [(1,), (2,)])
        return int(connection.execute(text("SELECT sum(n) FROM staged")).scalar_one())

    assert database.run(work) == 3
    assert len(set(pids)) == 2


def _end(connection: Connection, pid: int) -> None:
    connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
