"""Facts about this store that must not change by accident: its time zone and the key of the user hash."""

import secrets

from sqlalchemy import Connection, select, update

from monitor.errors import ConfigError
from monitor.store.database import Database, insert_into
from monitor.store.schema import settings

TIME_ZONE = "time_zone"
HASH_KEY = "user_hash_key"


def claim_time_zone(db: Database, zone: str) -> None:
    """Remember `zone` (an IANA name) the first time, insist on it later.

    Raises ConfigError where the store counts its days in another one.
    """
    stored = db.run(lambda connection: _value_or_first(connection, TIME_ZONE, zone))
    if stored != zone:
        raise ConfigError(
            f"time_zone is {zone}, but this store counts its days in {stored}. "
            f"Set time_zone back to {stored}, or run `sentiment-monitor db rebuild-days` to count its days in {zone}."
        )


def time_zone_of(db: Database) -> str | None:
    """The zone in which this store counts its days; None where no daemon has used it yet."""
    query = select(settings.c.value).where(settings.c.name == TIME_ZONE)
    return db.read(lambda connection: connection.execute(query).scalar_one_or_none())


def hash_key(db: Database) -> bytes:
    """32 random bytes, made once per store: the key under which user ids are hashed."""
    return bytes.fromhex(db.run(lambda connection: _value_or_first(connection, HASH_KEY, secrets.token_hex(32))))


def set_time_zone(connection: Connection, zone: str) -> None:
    """Replace the stored zone, inside the transaction that counts the days again."""
    if _value_or_first(connection, TIME_ZONE, zone) != zone:
        connection.execute(update(settings).where(settings.c.name == TIME_ZONE).values(value=zone))


def _value_or_first(connection: Connection, name: str, first: str) -> str:
    """The stored value, or `first` where nothing is stored yet; two who start at once agree on one."""
    connection.execute(insert_into(connection, settings).values(name=name, value=first).on_conflict_do_nothing())
    stored: str = connection.execute(select(settings.c.value).where(settings.c.name == name)).scalar_one()
    return stored
