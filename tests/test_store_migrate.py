"""Migrations: the schema they make is the schema of schema.py; several at once; newer and older databases."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from batches import post
from daemon_process import wait_until, write_config
from fixtures_postgres import PostgresServer
from forked_daemon import ForkedDaemon
from ports import free_port
from sqlalchemy import Connection, MetaData, insert, inspect, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError

from monitor.errors import ConfigError
from monitor.identity import key_of_row
from monitor.store import engines, migrate
from monitor.store.database import Database
from monitor.store.schema import metadata

MORNING = datetime(2026, 11, 20, 9, tzinfo=UTC)


def differences(connection: Connection) -> list[object]:
    """What Alembic would change to get from the database to schema.py."""
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


def test_migrated_schema_is_that_of_schema_py(database: Database) -> None:
    """Tables, columns, types, keys, indexes and (PostgreSQL) comments agree."""
    assert database.read(differences) == []
    if database.dialect == "postgresql":
        assert database.read(comments) == {
            **{table.name: table.comment for table in metadata.sorted_tables},
            **{f"{table.name}.{column.name}": column.comment for table in metadata.sorted_tables for column in table.c},
        }


def comments(connection: Connection) -> dict[str, str | None]:
    """Every comment of the database, by table and table.column."""
    stored = MetaData()
    stored.reflect(connection)
    tables = [table for table in stored.sorted_tables if table.name != "alembic_version"]
    return {table.name: table.comment for table in tables} | {
        f"{table.name}.{column.name}": column.comment for table in tables for column in table.c
    }


def test_sqlite_types_are_spelt_as_in_schema_py(open_database: Callable[[str], Database], sqlite_url: str) -> None:
    """SQLite compares no types by itself: the declared ones are those of schema.py, column by column, keys too."""
    inspector = open_database(sqlite_url).read(declared)
    expected = {
        table.name: [
            (column.name, column.type.compile(sqlite.dialect()), bool(column.nullable), column.primary_key)
            for column in table.c
        ]
        for table in metadata.sorted_tables
    }
    assert inspector == expected


def declared(connection: Connection) -> dict[str, list[tuple[str, str, bool, bool]]]:
    """(name, type, nullable, in the primary key) of every column, by table."""
    tables = [name for name in inspect(connection).get_table_names() if name != "alembic_version"]
    pragma = {name: connection.execute(text(f"PRAGMA table_info({name})")).all() for name in tables}
    return {name: [(row[1], row[2], not row[3], row[5] > 0) for row in found] for name, found in pragma.items()}


def test_every_table_and_column_has_a_comment() -> None:
    """The schema explains itself."""
    for table in metadata.sorted_tables:
        assert table.comment
        assert all(column.comment for column in table.c)


def test_upgrade_says_whether_it_did_anything(tmp_path: Path, open_database: Callable[[str], Database]) -> None:
    """None, then upgraded to the head, then nothing to do; `check` agrees at each step."""
    db = open_database(f"sqlite:///{tmp_path}/with %percent and space/new.db")
    assert migrate.current(db) is None
    with pytest.raises(ConfigError, match=r"has no tables yet.*db upgrade"):
        migrate.check(db)
    assert migrate.upgrade(db) is True
    assert migrate.current(db) == migrate.head()
    migrate.check(db)
    assert migrate.upgrade(db) is False


def test_a_newer_schema_is_refused(tmp_path: Path, open_database: Callable[[str], Database]) -> None:
    """A database that a later program has migrated is left alone, with the remedy in the message."""
    db = open_database(f"sqlite:///{tmp_path}/newer.db")
    migrate.upgrade(db)
    db.run(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    for refused in (migrate.check, migrate.upgrade):
        with pytest.raises(ConfigError, match="9999, which is newer than this program") as caught:
            refused(db)
        assert caught.value.exit_code == 78
    assert migrate.current(db) == "9999"


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_every_released_schema_comes_up_with_its_rows(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, open_database: Callable[[str], Database]
) -> None:
    """From each version that there ever was, with a row in every table: the rows are there afterwards."""
    for revision in released():
        url = f"sqlite:///{tmp_path}/{revision}.db"
        if kind == "postgresql":
            url = request.getfixturevalue("postgres_server").create()
        before = filled(url, revision)
        db = open_database(url)
        assert migrate.upgrade(db) == (revision != migrate.head())
        after = db.read(contents)
        assert {table: [row.items() <= after[table][0].items() for row in rows] for table, rows in before.items()} == {
            table: [True] for table in before
        }
        assert db.read(differences) == []


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_keys_of_older_schemas_become_those_of_this_program(
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    open_database: Callable[[str], Database],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each post's hash gets what orders it in front, so that what comes again is known; a few at a time."""
    posts = [post(n, id=id_) for n, id_ in enumerate(["1861234567890123456", "t:9/é\t5", "😀", "", None])]
    rows = {key_of_row("posts", "acme", MORNING, None, f"text {n}", 0): f"0123456789ab:{n}" for n in range(20)}
    keys = {one.post_key: (one.id, one.label_of_place, one.created_at) for one in posts}
    keys |= {key: (None, label, MORNING) for key, label in rows.items()}
    assert {key.partition("-")[0] for key in keys} == {"186123456789", "5", "", "id3", "000000000004", "2611200900"}
    url = f"sqlite:///{tmp_path}/old.db" if kind == "sqlite" else request.getfixturevalue("postgres_server").create()
    db = open_database(url)
    db.run(lambda connection: upgrade_to(connection, "0002"))
    db.run(lambda connection: fill_posts(connection, keys))
    script = ScriptDirectory(str(Path(migrate.__file__).with_name("migrations"))).get_revision("0003")
    monkeypatch.setattr(script.module, "POSTS_AT_ONCE", 7)
    assert migrate.upgrade(db)
    found = db.read(lambda connection: connection.execute(select(metadata.tables["posts"].c.post_key)).scalars().all())
    assert sorted(found) == sorted(keys)


@pytest.mark.postgres
def test_a_replica_of_an_older_program_counts_nothing_under_old_keys(
    postgres_server: PostgresServer, open_database: Callable[[str], Database]
) -> None:
    """It was up while another one migrated: its next post is refused, and at its next start so is the program."""
    db = open_database(postgres_server.create())
    migrate.upgrade(db)
    key = post(1).post_key
    with pytest.raises(IntegrityError, match="ck_posts_post_key_is_ordered"):
        db.run(lambda connection: fill_posts(connection, {key[-32:]: ("id-1", "posts:0:1", MORNING)}))
    db.run(lambda connection: fill_posts(connection, {key: ("id-1", "posts:0:1", MORNING)}, whole=True))


def fill_posts(
    connection: Connection, keys: dict[str, tuple[str | None, str, datetime]], *, whole: bool = False
) -> None:
    """Posts as they were stored when a key was its hash alone, or with `whole` keys."""
    posts = tables_of(connection).tables["posts"]
    values = {int: 1, float: 0.5, str: "x", bytes: b"x", date: MORNING.date(), datetime: MORNING}
    blank = {column.name: values[column.type.python_type] for column in posts.c}
    rows = [
        {"post_key": key if whole else key[-32:], "id": id_, "position": position, "created_at": created_at}
        for key, (id_, position, created_at) in keys.items()
    ]
    connection.execute(insert(posts), [blank | row for row in rows])


def released() -> list[str]:
    """Every version of the schema, the oldest first."""
    found = ScriptDirectory(str(Path(migrate.__file__).with_name("migrations"))).walk_revisions()
    return [script.revision for script in found][::-1]


def upgrade_to(connection: Connection, revision: str) -> None:
    """As the program of that version did."""
    command.upgrade(migrate._alembic_config(connection=connection), revision)


def tables_of(connection: Connection) -> MetaData:
    """The tables as they are in the database, whatever this program thinks of them."""
    stored = MetaData()
    stored.reflect(connection)
    stored.remove(stored.tables["alembic_version"])
    return stored


def fill(connection: Connection) -> None:
    """A row in every table, with some value in every column."""
    values = {int: 1, float: 0.5, str: "2026-11-20", bytes: b"x", date: date(2026, 11, 20), datetime: MORNING}
    for table in tables_of(connection).sorted_tables:
        connection.execute(insert(table).values({column.name: values[column.type.python_type] for column in table.c}))


def filled(url: str, revision: str) -> dict[str, list[dict[str, object]]]:
    """Make the database as the program of that version did, with a row in every table; returns those."""
    db = Database(url)
    db.run(lambda connection: upgrade_to(connection, revision))
    db.run(fill)
    found = db.read(contents)
    db.close()
    return found


def contents(connection: Connection) -> dict[str, list[dict[str, object]]]:
    """Every row of every table, by the names of its columns."""
    tables = tables_of(connection).sorted_tables
    return {table.name: [dict(row) for row in connection.execute(select(table)).mappings()] for table in tables}


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, open_database: Callable[[str], Database]) -> None:
    """Tables and version number come in one transaction, on SQLite too."""
    db = open_database(f"sqlite:///{tmp_path}/half.db")
    db.run(lambda c: c.execute(text("CREATE TABLE recent_outcomes (x INTEGER)")))  # in the way of a late step
    with pytest.raises(Exception, match="recent_outcomes"):
        migrate.upgrade(db)
    assert db.read(lambda c: inspect(c).get_table_names()) == ["recent_outcomes"]
    assert migrate.current(db) is None


def upgrade_at_once(urls: list[str]) -> list[object]:
    """What each of several upgrades, started together, returned or raised."""
    ready = threading.Barrier(len(urls), timeout=30)
    results: list[object] = []

    def upgrade(url: str) -> None:
        db = Database(url)
        ready.wait()
        try:
            results.append(migrate.upgrade(db))
        except Exception as error:  # noqa: BLE001  reported by the test
            results.append(error)
        finally:
            db.close()

    threads = [threading.Thread(target=upgrade, args=(url,)) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_upgrades_at_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """From no tables, and from every released schema with rows in it: one of several that start together works, the
    others wait and find nothing to do; the rows are there afterwards.
    """
    for number, revision in enumerate([None, *released()]):
        url = f"sqlite:///{tmp_path}/{number}.db"
        if kind == "postgresql":
            url = request.getfixturevalue("postgres_server").create()
        before = filled(url, revision) if revision else {}
        n_working = int(revision != migrate.head())
        assert sorted(map(str, upgrade_at_once([url] * 4))) == ["False"] * (4 - n_working) + ["True"] * n_working
        db = Database(url)
        after = db.read(contents)
        assert db.read(differences) == []
        db.close()
        assert before.keys() <= after.keys()
        for table, (row,) in before.items():
            assert row.items() <= after[table][0].items()


@pytest.mark.postgres
def test_two_daemons_that_start_at_once_share_an_empty_database(
    postgres_server: PostgresServer, tmp_path: Path, tiny_bundle: str
) -> None:
    """One makes the tables, both run: nobody asks an operator to migrate first."""
    url = postgres_server.create()
    daemons = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        config = write_config(folder, store={"url": url}, scoring={"bundle": tiny_bundle}, http={"port": free_port()})
        daemons.append(ForkedDaemon(config))
    with daemons[0], daemons[1]:
        wait_until(lambda: all(daemon.is_ready() for daemon in daemons), "both daemons")
        assert [daemon.stop() for daemon in daemons] == [0, 0]
    db = Database(url)
    assert migrate.current(db) == migrate.head()
    db.close()


def test_the_store_needs_neither_pandas_nor_alembic_to_be_imported() -> None:
    """Both are loaded where they are used, so that commands start fast."""
    modules = (
        "database, migrate, saving, daily, positions, files, deadletters, forgetting, retention, instances, models"
    )
    code = (
        f"import sys; from monitor.store import {modules}; from monitor import aggregates; "
        "sys.exit(bool({'pandas', 'alembic', 'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Busy:
    """A connection to a file that another turns to the write-ahead log: SQLite refuses at once, for a while."""

    def __init__(self, refusals: int, code: int = sqlite3.SQLITE_BUSY_RECOVERY) -> None:
        self.left, self.code = refusals, code

    def execute(self, _statement: str) -> None:
        """Refused so often."""
        if self.left:
            self.left -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self.code
            raise error


def test_a_new_file_that_others_open_too_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as for any writer, and for no other fault."""
    busy = Busy(3)
    engines._write_ahead(busy)  # type: ignore[arg-type]
    assert busy.left == 0
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_MS", 50)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        engines._write_ahead(Busy(10**9))  # type: ignore[arg-type]
    other = Busy(2, sqlite3.SQLITE_READONLY)
    with pytest.raises(sqlite3.OperationalError):
        engines._write_ahead(other)  # type: ignore[arg-type]
    assert other.left == 1
