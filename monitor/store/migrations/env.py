"""Alembic's entry: migrate over the connection that migrate.py hands in, inside its transaction."""

from alembic import context

from monitor.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite too: the version number and its tables come together or not at all
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
