"""Brings the schema to the version of this program, in process; safe when several processes do it at once."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from reservasi.errors import RecordsUnavailable
from reservasi.logs import get_logger
from reservasi.records.access import grant_rights
from reservasi.records.partitions import LOCK_TIMEOUT_MS, SCHEMA_KEY, make_room_for_all
from reservasi.records.pool import CONNECT_TIMEOUT_S, unavailable
from reservasi.records.revision import SchemaState

log = get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"
TURN_TIMEOUT_MS = 120_000  # how long an upgrade waits for another one
STATEMENT_TIMEOUT_MS = 60_000


async def upgrade(dsn: str) -> SchemaState:
    """Apply the missing migrations, create missing partitions, and grant the runtime roles their rights.

    Everything happens in one transaction. Returns the new state. A newer schema is left as it is: migrations are
    compatible with the version before them.

    Raises:
        RecordsUnavailable: no connection, or another transaction blocked longer than the timeouts.
    """
    async with _connection(dsn) as connection:
        await _set_timeouts(connection, lock_ms=TURN_TIMEOUT_MS, statement_ms=TURN_TIMEOUT_MS)
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_KEY})
        await _set_timeouts(connection, lock_ms=LOCK_TIMEOUT_MS, statement_ms=STATEMENT_TIMEOUT_MS)
        await connection.run_sync(_apply)
        await make_room_for_all(await _driven(connection))
        await connection.run_sync(grant_rights)
        state = await connection.run_sync(_state)
        await connection.commit()
        return state


@contextlib.asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[AsyncConnection]:
    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        # asyncpg accepts more forms of a DSN than SQLAlchemy
        return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        with unavailable():
            async with engine.connect() as connection:
                yield connection
    except DBAPIError as error:
        raise RecordsUnavailable(f"the schema could not be read or changed: {error.orig}") from error
    finally:
        await engine.dispose()


async def _driven(connection: AsyncConnection) -> "asyncpg.Connection[asyncpg.Record]":
    """The asyncpg connection behind SQLAlchemy's, in the transaction that it has begun."""
    raw: Any = await connection.get_raw_connection()
    driver: asyncpg.Connection[asyncpg.Record] = raw.driver_connection
    return driver


async def _set_timeouts(connection: AsyncConnection, *, lock_ms: int, statement_ms: int) -> None:
    await connection.execute(text(f"SET LOCAL lock_timeout = {lock_ms:d}"))
    await connection.execute(text(f"SET LOCAL statement_timeout = {statement_ms:d}"))


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _apply(connection: Connection) -> None:
    if (state := _state(connection)).newer:
        log.warning("schema_is_newer", schema=state.current, wanted=state.wanted)
        return
    command.upgrade(_config(connection), "head")


def _state(connection: Connection) -> SchemaState:
    wanted = ScriptDirectory.from_config(_config()).get_current_head()
    current = MigrationContext.configure(connection).get_current_revision()
    return SchemaState(current=current or "", wanted=wanted or "")
