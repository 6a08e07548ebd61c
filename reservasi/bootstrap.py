"""Opening and closing the graph of objects, explicitly and in one file. Nothing is opened at import.

`open_front` builds what a front process needs, `open_worker` what the recorder process needs, `open_operations` what
a command of the command line needs. Each closes what it opened, in the reverse order.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import msgspec
import redis.asyncio as redis_asyncio
import structlog

from reservasi.availability import Availability
from reservasi.catalogue import Catalogue
from reservasi.embedded import embedded_postgres_dsn, embedded_redis_url
from reservasi.errors import ConfigurationError, RecordsUnavailable
from reservasi.front.keys import FrontServices
from reservasi.ledger.access import FRONT, WORKER
from reservasi.ledger.acknowledging import Acks, acks_wanted
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.ending import end_tasks
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal import Journal
from reservasi.ledger.library import read_library
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.ledger.recorded import RecordedPositions
from reservasi.ledger.records_instead import RecordsInstead
from reservasi.ledger.servers import Servers
from reservasi.metrics import WORKER_SERVES
from reservasi.model import Position
from reservasi.rebuild import Rebuilder
from reservasi.reconciliation import Reconciler
from reservasi.recorder import Recorder
from reservasi.records import Records
from reservasi.records.access import RUNTIME_ROLES
from reservasi.recovery import Owner, Ownership, own_ledger
from reservasi.reservations import Reservations
from reservasi.sealing import Sealing, load_key_ring
from reservasi.settings import Settings
from reservasi.sweeper import Sweeper
from reservasi.waiting_room.admission import AdmissionController
from reservasi.waiting_room.delays import DelayReporter
from reservasi.waiting_room.room import WaitingRoom

log = structlog.get_logger()

IDENTITY = "key-ring"  # under which the records keep the mark of the deployment's key ring
RECORDS_RETRY_S = 0.25  # between two tries to reach PostgreSQL at start
Role: TypeAlias = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def redis_url(settings: Settings) -> str:
    """The configured Redis or Valkey, else the embedded one."""
    return settings.redis_url or embedded_redis_url(settings.data_dir)


def postgres_dsn(settings: Settings) -> str:
    """The configured PostgreSQL, else the embedded one."""
    return settings.postgres_dsn or embedded_postgres_dsn(settings.data_dir)


def with_rights_of(user: str, settings: Settings) -> Settings:
    """The settings of a process that may do in the embedded servers what that user may, and no more.

    Raises:
        ConfigurationError: the embedded Valkey's passwords belong to another account.
    """
    urls = {
        "redis_url": settings.redis_url or embedded_redis_url(settings.data_dir, user),
        "postgres_dsn": settings.postgres_dsn or embedded_postgres_dsn(settings.data_dir, role=RUNTIME_ROLES[user]),
    }
    return settings.model_copy(update=urls)


class Ledgers:
    """Makes the objects that speak to one program's ledger."""

    def __init__(self, settings: Settings, servers: Servers) -> None:
        self._settings = settings
        self._servers = servers
        self._library = read_library()

    def connection(self, program: str, acks: Acks | None = None) -> LedgerConnection:
        """A connection of its own, whose changes are promised to nobody unless `acks` says who must have them."""
        return LedgerConnection(self._servers.of(program), program, self._library, acks)

    async def promotable_replicas(self) -> int | None:
        """How many replicas may be promoted unasked; None where nobody would, or nobody says."""
        return await self._servers.promotable()

    def journal(self, program: str) -> Journal:
        """A reader of the program's journal."""
        return Journal(self._servers.client_of(program), program)

    def openings(self, program: str) -> OpeningWatch:
        """A look at the program's openings."""
        return OpeningWatch(self._servers.client_of(program), program)

    def recorded(self) -> RecordedPositions:
        """Recorded positions, following no program yet."""
        return RecordedPositions(self._servers.client, self._servers.client_of)

    def group(self, program: str, recorded: RecordedPositions | None = None) -> GroupCommit:
        """A group commit, not started yet; with `recorded`, records count where too few replicas acknowledge."""
        settings = self._settings
        instead = RecordsInstead(program, recorded, held_max=settings.queue_items_max) if recorded else None
        acks = acks_wanted(
            replicas=settings.replicas_min_ack, timeout_ms=settings.replicas_ack_timeout_ms, aof=settings.aof_ack
        )
        return GroupCommit(
            self.connection(program, acks),
            batch_items_max=settings.batch_items_max,
            queue_items_max=settings.queue_items_max,
            command_timeout_ms=settings.command_timeout_ms,
            tombstone_ms=settings.tombstone_ms,
            queue_delay_target_ms=settings.queue_delay_target_ms,
            instead=instead,
        )


class Operations(msgspec.Struct, frozen=True, kw_only=True):
    """What a command of the command line works with."""

    settings: Settings
    servers: Servers
    client: redis_asyncio.Redis
    records: Records
    ledgers: Ledgers
    sealing: Sealing

    def open_view(self) -> Availability:
        """A view that follows no program yet; whoever opened it closes it."""
        settings = self.settings
        return Availability(
            self.ledgers.connection,
            self.ledgers.journal,
            block_ms=settings.follow_block_ms,
            stale_ms=settings.view_stale_ms,
        )


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that runs."""

    operations: Operations
    catalogue: Catalogue  # of the programs that it serves, and no others


@asynccontextmanager
async def open_operations(settings: Settings, *, wait_s: float = 0) -> AsyncIterator[Operations]:
    """Records and ledgers, opened once PostgreSQL answers.

    Raises:
        RecordsUnavailable: it did not answer within `wait_s`.
    """
    async with AsyncExitStack() as stack:
        servers = _open_servers(settings)
        stack.push_async_callback(servers.close)
        servers.start()
        records = await _open_records(settings, wait_s)
        stack.push_async_callback(records.close)
        sealing = await _open_sealing(settings, records)
        yield Operations(
            settings=settings,
            servers=servers,
            client=servers.client,
            records=records,
            ledgers=Ledgers(settings, servers),
            sealing=sealing,
        )


@asynccontextmanager
async def open_front(settings: Settings) -> AsyncIterator[FrontServices]:
    """Everything a front needs, following every program of the catalogue, also those that are imported later."""
    settings = with_rights_of(FRONT, settings)
    async with AsyncExitStack() as stack:
        operations = await stack.enter_async_context(open_operations(settings, wait_s=settings.start_timeout_s))
        ledgers = operations.ledgers
        availability = operations.open_view()
        stack.push_async_callback(availability.close)
        recorded = ledgers.recorded()
        stack.push_async_callback(recorded.close)
        reservations = Reservations(
            operations.sealing, availability, recorded, confirm_wait_ms=settings.confirm_wait_ms
        )

        waiting_room = WaitingRoom(operations.sealing, availability)

        def serve(program: str) -> None:
            group = ledgers.group(program, recorded)
            group.start()
            stack.push_async_callback(group.close)
            reservations.serve(program, group)
            waiting_room.serve(program, group)
            availability.follow(program)
            recorded.follow(program)
            reporter = DelayReporter(program, group, ledgers.openings(program), availability)
            reporters.append(asyncio.create_task(reporter.run()))

        reporters: list[asyncio.Task[None]] = []
        stack.push_async_callback(end_tasks, reporters)
        catalogue = Catalogue(operations.records, operations.sealing, refresh_ms=settings.catalogue_refresh_ms)
        stack.push_async_callback(catalogue.close)
        await catalogue.open(serve)
        yield FrontServices(
            settings=settings,
            reservations=reservations,
            availability=availability,
            catalogue=catalogue,
            waiting_room=waiting_room,
        )


@asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[Worker]:
    """Recorder, owner, sweeper and admission of each program that the settings name, running until the block ends."""
    settings = with_rights_of(WORKER, settings)
    async with AsyncExitStack() as stack:
        operations = await stack.enter_async_context(open_operations(settings, wait_s=settings.start_timeout_s))
        stop = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def end_roles() -> None:
            stop.set()
            await asyncio.gather(*tasks, return_exceptions=True)

        def serve(program: str) -> None:
            group = operations.ledgers.group(program)
            group.start()
            stack.push_async_callback(group.close)
            for run in _worker_roles(operations, program, group):
                task = asyncio.create_task(run(stop))
                task.add_done_callback(_report_end)
                tasks.append(task)

        def is_ours(program: str) -> bool:
            ours = settings.serves(program)
            WORKER_SERVES.labels(program).set(int(ours))
            return ours

        stack.push_async_callback(end_roles)
        catalogue = Catalogue(
            operations.records, operations.sealing, refresh_ms=settings.catalogue_refresh_ms, serves=is_ours
        )
        stack.push_async_callback(catalogue.close)
        await catalogue.open(serve)
        if not catalogue.programs():
            log.warning("no_program_to_serve", wanted=settings.programs, left_to_others=catalogue.left_out())
        yield Worker(operations=operations, catalogue=catalogue)


def _worker_roles(operations: Operations, program: str, group: GroupCommit) -> list[Role]:
    settings = operations.settings
    journal = operations.ledgers.journal(program)
    connection = operations.ledgers.connection(program)
    rebuilder = _rebuilder(operations, program, connection)

    async def rebuild(seen: Position) -> None:
        await rebuilder.run(seen=seen, lock_wait_s=0)  # while somebody else is at it, the owner looks again

    automatic = rebuild if settings.rebuild_automatically else None
    owner = Owner(program, connection, journal, operations.records, rebuild=automatic)
    reconciler = _reconciler(operations, program, operations.ledgers.connection(program))
    recorder = Recorder(
        program,
        operations.records,
        journal,
        booking_code=operations.sealing.booking_code,
        events_max=settings.record_events_max,
        block_ms=settings.follow_block_ms,
    )
    sweeper = Sweeper(program, group, interval_ms=settings.sweep_interval_ms, items_max=settings.sweep_items_max)
    admission = AdmissionController(
        program,
        group,
        operations.ledgers.openings(program),
        operations.open_view,
        delay_target_ms=settings.queue_delay_target_ms,
    )
    roles: list[Role] = [owner.run, recorder.run, sweeper.run, admission.run]
    if settings.reconcile_interval_s:
        roles.append(partial(reconciler.watch, interval_s=settings.reconcile_interval_s))
    return roles


def _rebuilder(operations: Operations, program: str, connection: LedgerConnection) -> Rebuilder:
    return Rebuilder(
        program,
        connection,
        operations.ledgers.journal(program),
        operations.records,
        booking_code=operations.sealing.booking_code,
        tombstone_ms=operations.settings.tombstone_ms,
    )


def _reconciler(operations: Operations, program: str, connection: LedgerConnection) -> Reconciler:
    journal = operations.ledgers.journal(program)
    tombstone_ms = operations.settings.tombstone_ms
    return Reconciler(program, connection, journal, operations.records, tombstone_ms=tombstone_ms)


@asynccontextmanager
async def open_rebuilder(operations: Operations, program: str) -> AsyncIterator[Rebuilder]:
    """What rebuilds one program's ledger."""
    connection = operations.ledgers.connection(program)
    try:
        yield _rebuilder(operations, program, connection)
    finally:
        await connection.drop()


@asynccontextmanager
async def open_reconciler(operations: Operations, program: str) -> AsyncIterator[Reconciler]:
    """What compares one program's ledger with the records."""
    connection = operations.ledgers.connection(program)
    try:
        yield _reconciler(operations, program, connection)
    finally:
        await connection.drop()


def _report_end(task: "asyncio.Task[None]") -> None:
    """A role ends only when it is told to; anything else is a bug that must not pass in silence."""
    if not task.cancelled() and task.exception() is not None:
        log.error("worker_role_failed", exc_info=task.exception())
        asyncio.get_running_loop().call_exception_handler({"message": "a role failed", "exception": task.exception()})


@asynccontextmanager
async def open_program(operations: Operations, program: str) -> AsyncIterator[GroupCommit]:
    """Commands to one program's ledger, which is owned first where that is safe.

    Raises:
        ConfigurationError: there is no such program.
    """
    if program not in {known.id for known in await operations.records.programs()}:
        raise ConfigurationError(f"there is no program {program!r}: import one first (reservasi program import FILE)")
    connection = operations.ledgers.connection(program)
    try:
        owned = await own_ledger(program, connection, operations.ledgers.journal(program), operations.records)
        if owned is not Ownership.OWNED:
            log.warning("ledger_not_owned", program=program, result=str(owned))
    finally:
        await connection.drop()
    group = operations.ledgers.group(program)
    group.start()
    try:
        yield group
    finally:
        await group.close()


async def _open_sealing(settings: Settings, records: Records) -> Sealing:
    """The deployment's key ring: made where there is none yet, and never another one afterwards.

    Raises:
        ConfigurationError: this host has no key ring, or another one than the records are bound to.
    """
    path = settings.secrets_path
    bound = await records.bound(IDENTITY)
    if bound is not None and not path.exists():
        raise ConfigurationError(
            f"the key ring {path} is missing, and people are recognised by it: restore it, copy it from the host that "
            "has it, or name its place with secrets_file"
        )
    sealing = Sealing(load_key_ring(path, create=bound is None and settings.secrets_file is None))
    if await records.bind(IDENTITY, sealing.identity_mark) != sealing.identity_mark:
        raise ConfigurationError(
            f"the key ring {path} is not the one that this deployment began with: under it a person could claim twice"
        )
    sealing.follow(path)
    return sealing


def _open_servers(settings: Settings) -> Servers:
    try:
        return Servers(redis_url(settings), replicas_min_ack=settings.replicas_min_ack)
    except ValueError as error:
        raise ConfigurationError(f"redis_url cannot be used: {error}") from error


def _nobody_home(settings: Settings, error: RecordsUnavailable) -> RecordsUnavailable:
    """Say what to do, where it is the embedded server that is not there."""
    if settings.postgres_dsn:
        return error
    where = f"no service runs in {settings.data_dir}: start `reservasi up`, or name another --data-dir"
    return RecordsUnavailable(f"{where} ({error})")


async def _open_records(settings: Settings, wait_s: float) -> Records:
    """Records, waiting for a PostgreSQL that is still starting."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while True:
        try:
            return await Records.open(postgres_dsn(settings), settings.postgres_pool_max)
        except ValueError as error:  # asyncpg's word for a DSN that it cannot read
            raise ConfigurationError(f"postgres_dsn cannot be used: {error}") from error
        except RecordsUnavailable as error:
            if loop.time() >= deadline:
                raise _nobody_home(settings, error) from error
        await asyncio.sleep(RECORDS_RETRY_S)
