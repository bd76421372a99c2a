"""PostgreSQL's COPY, which SQLAlchemy does not know, through the driver of its connection."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from monitor.store.faults import spoils_session


def copy_into(connection: Connection, statement: str, types: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Send rows in COPY's binary format. Raises DBAPIError as `execute` does.

    `types` are PostgreSQL's names of the columns' types: binary COPY converts nothing.
    """
    import psycopg

    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        if spoils_session(error):
            connection.invalidate(error)  # as the engine does after `execute`
        raised = DBAPIError.instance(
            statement, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=bool(driver.closed)
        )
        raise raised from error
