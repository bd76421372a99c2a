"""Schema versions: bring a database to the newest, or say in plain words why it does not fit this program."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from monitor.errors import ConfigError, StoreUnavailable
from monitor.store.database import Database, lift_time_limit

_LOCK_OF_MIGRATIONS = (
    7_201_002  #: session advisory lock on PostgreSQL: replicas that start at once migrate one after the other
)
_FOLDER = Path(__file__).with_name("migrations")


def head() -> str:
    """The schema version that this program is written for."""
    from alembic.script import ScriptDirectory

    revision = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    assert revision is not None
    return revision


def current(db: Database) -> str | None:
    """The schema version of the database; None where there are no tables yet."""
    return db.read(_current_in)


def upgrade(db: Database) -> bool:
    """Bring the schema to `head`; returns whether there was anything to do.

    Any number may call at once: one works, the others wait. Raises ConfigError for a database that a newer program has
    migrated, StoreUnavailable.
    """
    version = current(db)  # without a lock: most starts end here
    if version == head():
        return False
    refuse_newer(db, version)
    with _migration_lock(db):
        return db.run(_upgrade_in)


def check(db: Database) -> None:
    """Raise ConfigError where the schema is older or newer than this program."""
    version = current(db)
    if version == head():
        return
    refuse_newer(db, version)
    state = "has no tables yet" if version is None else f"has the older schema {version}; this program needs {head()}"
    raise ConfigError(
        f"The database {db.describe()} {state}. Run `sentiment-monitor db upgrade`, or set store.migrate_on_start."
    )


def refuse_newer(db: Database, version: str | None) -> None:
    """Raise ConfigError where `version`, the database's, is one that this program does not know."""
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}
    if version is not None and version not in known:
        raise ConfigError(
            f"The database {db.describe()} has schema {version}, which is newer than this program (it knows {head()}). "
            "Install the version of sentiment-monitor that migrated it, or a later one."
        )


def _current_in(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _upgrade_in(connection: Connection) -> bool:
    from alembic import command

    if _current_in(connection) == head():  # another replica was first
        return False
    lift_time_limit(connection)
    command.upgrade(_alembic_config(connection=connection), "head")
    return True


def _alembic_config(**attributes: Any) -> Any:
    from alembic.config import Config

    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))  # configparser reads % as interpolation
    return config


@contextmanager
def _migration_lock(db: Database) -> Iterator[None]:
    """A session lock on PostgreSQL: a transaction's would end with whatever a migration commits.

    On SQLite BEGIN IMMEDIATE is the lock.
    """
    if db.dialect == "sqlite":
        yield
        return
    with db.session() as connection:
        _take_lock(db, connection)
        try:
            yield
        finally:
            connection.invalidate()  # closes the session and with it the lock; its settings are not those of the pool


def _take_lock(db: Database, connection: Connection) -> None:
    try:
        connection.execute(
            text("SELECT set_config('lock_timeout', '10min', false), set_config('statement_timeout', '10min', false)")
        )
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_OF_MIGRATIONS})
    except DBAPIError as error:
        raise StoreUnavailable(f"The database {db.describe()} did not grant the lock for migrations") from error
