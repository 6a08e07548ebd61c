"""Runs migrations on the connection of `records.upgrades`; there is no alembic.ini."""

from alembic import context
from sqlalchemy import Connection

from reservasi.records.schema import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
