"""The objects of commands of the command line, which other processes use as well."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import redis.asyncio as redis_asyncio

from reservasi.bootstrap.ledgers import Ledgers
from reservasi.bootstrap.records import RecordsOperations, open_records, open_sealing
from reservasi.bootstrap.servers import open_servers
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.forgetting import forget_ledger
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.topology.servers import Servers
from reservasi.logs import get_logger
from reservasi.settings import Settings
from reservasi.worker.ledger_owner import Ownership, own_ledger
from reservasi.worker.program_stores import ProgramStores
from reservasi.worker.rebuild import Rebuilder
from reservasi.worker.reconciliation import Reconciler
from reservasi.worker.removal import Remover
from reservasi.worker.restoration import Restorer

log = get_logger()


class Operations(RecordsOperations, frozen=True, kw_only=True):
    """The objects of a command."""

    servers: Servers
    client: redis_asyncio.Redis
    ledgers: Ledgers


@asynccontextmanager
async def open_operations(settings: Settings, *, wait_s: float = 0) -> AsyncIterator[Operations]:
    """Records and ledgers, opened once PostgreSQL answers.

    Raises:
        RecordsUnavailable: it did not answer within `wait_s`.
    """
    async with AsyncExitStack() as stack:
        servers = open_servers(settings)
        stack.push_async_callback(servers.close)
        servers.start()
        records = await open_records(settings, wait_s)
        stack.push_async_callback(records.close)
        sealing = await open_sealing(settings, records)
        yield Operations(
            settings=settings,
            servers=servers,
            client=servers.client,
            records=records,
            ledgers=Ledgers(settings, servers),
            sealing=sealing,
        )


@asynccontextmanager
async def open_program(operations: Operations, program: str) -> AsyncIterator[GroupCommit]:
    """Commands to one program's ledger, which is first owned if that is safe.

    If too few replicas acknowledge a change, its answer waits for the records, as in a front.

    Raises:
        ConfigurationError: there is no such program.
    """
    await operations.program(program)
    async with _connection(operations, program) as connection:
        owned = await own_ledger(program, connection, operations.ledgers.journal(program), operations.records)
    if owned is not Ownership.OWNED:
        log.warning("ledger_not_owned", program=program, result=str(owned))
    async with AsyncExitStack() as stack:
        recorded = None
        if operations.ledgers.acks is not None:
            recorded = operations.ledgers.recorded()
            stack.push_async_callback(recorded.close)
            recorded.follow(program)
        group = operations.ledgers.group(program, recorded)
        group.start()
        stack.push_async_callback(group.close)
        yield group


@asynccontextmanager
async def open_rebuilder(operations: Operations, program: str) -> AsyncIterator[Rebuilder]:
    async with _open_stores(operations, program) as stores:
        yield Rebuilder(stores)


@asynccontextmanager
async def open_restorer(operations: Operations, program: str) -> AsyncIterator[Restorer]:
    async with _open_stores(operations, program) as stores:
        yield Restorer(stores)


@asynccontextmanager
async def open_remover(operations: Operations, program: str) -> AsyncIterator[Remover]:
    async with _open_stores(operations, program) as stores:
        forget = partial(forget_ledger, operations.servers.client_of(program), program)
        yield Remover(stores, forget=forget, refresh_s=operations.settings.catalogue_refresh_ms / 1000)


@asynccontextmanager
async def open_reconciler(operations: Operations, program: str) -> AsyncIterator[Reconciler]:
    async with _connection(operations, program) as connection:
        yield reconciler_of(operations, program, connection)


@asynccontextmanager
async def _connection(operations: Operations, program: str) -> AsyncIterator[LedgerConnection]:
    connection = operations.ledgers.connection(program)
    try:
        yield connection
    finally:
        await connection.drop()


@asynccontextmanager
async def _open_stores(operations: Operations, program: str) -> AsyncIterator[ProgramStores]:
    async with _connection(operations, program) as connection:
        yield stores_of(operations, program, connection)


def stores_of(operations: Operations, program: str, connection: LedgerConnection) -> ProgramStores:
    """A program's ledger, by a connection that the caller closes, and its records."""
    return ProgramStores(
        program=program,
        connection=connection,
        journal=operations.ledgers.journal(program),
        records=operations.records,
        booking_code=operations.sealing.booking_code,
        tombstone_ms=operations.settings.tombstone_ms,
    )


def reconciler_of(operations: Operations, program: str, connection: LedgerConnection) -> Reconciler:
    """A reconciler with a connection that the caller closes."""
    journal = operations.ledgers.journal(program)
    tombstone_ms = operations.settings.tombstone_ms
    return Reconciler(program, connection, journal, operations.records, tombstone_ms=tombstone_ms)
