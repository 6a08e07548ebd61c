"""Connections to PostgreSQL: a bounded pool, and one exception for every way in which a connection can be lost."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from reservasi.errors import RecordsUnavailable, SchemaMissing, described

CONNECT_TIMEOUT_S = 5.0
ACQUIRE_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 5.0
LEAD_CHECK_TIMEOUT_S = 2.0
IDLE_IN_TRANSACTION_MS = 60_000

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

# Errors of a lost, overloaded, restarting or demoted server: the same work may be repeated.
LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # raised by asyncpg for a connection that was cut while it prepared a statement
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.ObjectNotInPrerequisiteStateError,
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.exceptions.InvalidTransactionStateError,
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.exceptions.InvalidAuthorizationSpecificationError,
    asyncpg.exceptions.InvalidCatalogNameError,
)


@contextlib.contextmanager
def unavailable() -> Iterator[None]:
    """Turn a lost connection into `RecordsUnavailable`, and a missing or older schema into `SchemaMissing`."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        message = f"the records' schema is missing or older than this version ({error}): run `reservasi db upgrade`"
        raise SchemaMissing(message) from error
    except asyncpg.CheckViolationError as error:
        if not lacks_partition(error):
            raise
        message = f"the program has no partition of {error.table_name}: import it, or run `reservasi db upgrade`"
        raise SchemaMissing(message) from error
    except LOST as error:
        # asyncpg raises InterfaceError for an argument that does not fit, which is no lost connection, and for a
        # refused certificate.
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            raise
        raise RecordsUnavailable(f"PostgreSQL does not answer: {described(error)}") from error


def lacks_partition(error: Exception) -> bool:
    """Whether a row has no partition. The error code is that of a violated CHECK, but without a constraint name."""
    return isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None


async def open_pool(dsn: str, pool_max: int) -> Pool:
    """Open a pool of at most `pool_max` connections; raises `RecordsUnavailable` if not even one can be opened."""
    with unavailable():
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=pool_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={
                "application_name": "reservasi",
                "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
            },
        )


async def close_pool(pool: Pool) -> None:
    """Close all connections, by force after a timeout."""
    try:
        await asyncio.wait_for(pool.close(), CLOSE_TIMEOUT_S)
    except LOST:
        pool.terminate()


@contextlib.asynccontextmanager
async def connection_of(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection; a lost connection raises `RecordsUnavailable` inside the block."""
    with unavailable():
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            yield connection


@contextlib.asynccontextmanager
async def long_connection(dsn: str, timeout_s: float) -> AsyncIterator[Connection]:
    """A separate connection for statements that may take `timeout_s`; errors as in `connection_of`."""
    with unavailable():
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=timeout_s, server_settings={"application_name": "reservasi"}
        )
        try:
            yield connection
        finally:
            connection.terminate()


class Lead:
    """The right to record or to rebuild a program: an advisory lock, held by a separate connection.

    A process without the lock stands by. A process that lost the lock cannot commit, since the position has moved.
    """

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", purpose: str) -> None:
        self._connection = connection
        self._key = advisory_key(purpose)

    @property
    def lost(self) -> bool:
        """Whether the connection is known to be lost. Does not ask the server; `check` does."""
        return self._connection.is_closed()

    async def take(self) -> bool:
        """Try to take the lock; False if another process has it."""
        with unavailable():
            return bool(await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", self._key))

    async def check(self) -> None:
        """Ask the server whether the connection is alive; raises `RecordsUnavailable` if not."""
        with unavailable():
            await self._connection.fetchval("SELECT 1", timeout=LEAD_CHECK_TIMEOUT_S)

    async def close(self) -> None:
        """Release the lock."""
        try:
            await self._connection.close(timeout=CLOSE_TIMEOUT_S)
        except LOST:
            self._connection.terminate()


async def open_lead(dsn: str, purpose: str) -> Lead:
    """Connect for work that only one process may do, such as "recorder <program>"; raises `RecordsUnavailable`."""
    with unavailable():
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": f"reservasi {purpose}"},
        )
    return Lead(connection, purpose)


def advisory_key(purpose: str) -> int:
    """The number of an advisory lock in PostgreSQL."""
    digest = hashlib.sha256(f"reservasi {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
