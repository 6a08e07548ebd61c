"""A worker process: recorder, owner, sweeper, retirement and admission of the programs that it serves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import tzinfo
from functools import partial
from typing import Any, TypeAlias

import msgspec

from reservasi.bootstrap.addresses import with_rights_of
from reservasi.bootstrap.commands import Operations, open_operations, open_rebuilder, reconciler_of, stores_of
from reservasi.bootstrap.safety import refuse_unusable, watch_durability, watch_idle
from reservasi.bootstrap.views import open_view
from reservasi.catalogue import Catalogue
from reservasi.health import Health
from reservasi.ledger.access import WORKER
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.ledger.group_commit import GroupCommit
from reservasi.logs import get_logger
from reservasi.metrics import WORKER_SERVES, begin_worker_at_zero, forget_program
from reservasi.model import Position
from reservasi.settings import Settings
from reservasi.waiting_room.admission import AdmissionController
from reservasi.worker.drift_watch import DriftWatch, is_mended_by_rebuilding
from reservasi.worker.ledger_owner import Owner
from reservasi.worker.rebuild import Rebuilder
from reservasi.worker.reconciliation import Reconciled
from reservasi.worker.recorder import Recorder
from reservasi.worker.repair import repaired
from reservasi.worker.retirement import OpeningRetirement, Retirement
from reservasi.worker.sweeper import Sweeper

log = get_logger()

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
Role: TypeAlias = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A running worker."""

    operations: Operations
    catalogue: Catalogue  # the programs that it serves, and no others


@asynccontextmanager
async def open_worker(settings: Settings, health: Health | None = None) -> AsyncIterator[Worker]:
    """Run recorder, owner, sweeper and admission of each program of the settings, until the block ends.

    `health` gets the state of the ledgers.
    """
    settings = with_rights_of(WORKER, settings)
    async with AsyncExitStack() as stack:
        operations = await stack.enter_async_context(open_operations(settings, wait_s=settings.start_timeout_s))
        await refuse_unusable(settings, operations.servers)
        serving: dict[str, _Serving] = {}
        watching = [asyncio.create_task(watch_durability(operations.servers))]
        if health:
            watching.append(asyncio.create_task(watch_idle(operations.servers, health, lambda: bool(serving))))
        stack.push_async_callback(end_tasks, watching)
        leaving: set[asyncio.Task[None]] = set()
        turn = asyncio.Lock()  # for comparing a program

        async def end_all() -> None:
            await asyncio.gather(*(each.end() for each in serving.values()), *leaving, return_exceptions=True)

        def serve(program: str) -> None:
            begin_worker_at_zero(program)
            group = operations.ledgers.group(program)
            group.start()
            serving[program] = _Serving(
                group, _worker_roles(operations, program, group, catalogue, health=health, turn=turn)
            )

        async def end(program: str, served: _Serving) -> None:
            await served.end()
            if program not in serving:  # it may have been imported again meanwhile
                forget_program(program)
                if health:
                    health.forget(program)

        def leave(program: str) -> None:
            served = serving.pop(program, None)
            if served is not None:
                task = asyncio.create_task(end(program, served))
                leaving.add(task)
                task.add_done_callback(leaving.discard)

        def is_ours(program: str) -> bool:
            ours = settings.serves(program)
            WORKER_SERVES.labels(program).set(int(ours))
            return ours

        stack.push_async_callback(end_all)
        catalogue = Catalogue(
            operations.records, operations.sealing, refresh_ms=settings.catalogue_refresh_ms, serves=is_ours
        )
        stack.push_async_callback(catalogue.close)
        await catalogue.open(serve, leave)
        if not catalogue.programs():
            log.warning("no_program_to_serve", wanted=settings.programs, left_to_others=catalogue.left_out())
        yield Worker(operations=operations, catalogue=catalogue)


class _Serving:
    """A served program: its tasks, and their commands."""

    def __init__(self, group: GroupCommit, roles: Sequence[Role]) -> None:
        self._group = group
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(run(self._stop)) for run in roles]
        for task in self._tasks:
            task.add_done_callback(_report_end)

    async def end(self) -> None:
        """Let every task finish its current work; those that wait for the ledger get an error."""
        await self._group.close()
        self._stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _worker_roles(
    operations: Operations,
    program: str,
    group: GroupCommit,
    catalogue: Catalogue,
    *,
    health: Health | None,
    turn: asyncio.Lock,
) -> list[Role]:
    settings = operations.settings
    health = health or Health()
    journal = operations.ledgers.journal(program)
    connection = operations.ledgers.connection(program)
    rebuilder = Rebuilder(stores_of(operations, program, connection))

    async def rebuild(seen: Position) -> None:
        await rebuilder.run(seen=seen, lock_wait_s=0)  # if another process rebuilds it, the owner checks again

    automatic = rebuild if settings.rebuild_automatically else None
    recorder = Recorder(
        program,
        operations.records,
        journal,
        booking_code=operations.sealing.booking_code,
        events_max=settings.record_events_max,
        block_ms=settings.follow_block_ms,
        health=health,
    )
    watch = _drift_watch(operations, program, turn, leads=lambda: recorder.leads)

    def note_owned(epoch: int) -> None:
        watch.note_owned(epoch)
        recorder.note_owned(epoch)

    owner = Owner(
        program,
        connection,
        journal,
        operations.records,
        rebuild=automatic,
        health=health,
        note_owned=note_owned,
    )
    sweeper = Sweeper(program, group, interval_ms=settings.sweep_interval_ms, items_max=settings.sweep_items_max)
    admission = AdmissionController(
        program,
        group,
        operations.ledgers.openings(program),
        partial(open_view, operations),
        delay_target_ms=settings.queue_delay_target_ms,
        is_public=catalogue.is_public,
    )
    retirement = Retirement(
        program,
        group,
        journal,
        after_ms=settings.retire_quotas_after_h * HOUR_MS,
        zone=partial(_zone_of, catalogue, program),
        leads=lambda: recorder.leads,
    )
    opening_retirement = OpeningRetirement(
        program,
        group,
        operations.ledgers.openings(program),
        after_ms=settings.retire_openings_after_days * DAY_MS,
        leads=lambda: recorder.leads,
    )
    roles: list[Role] = [
        owner.run, recorder.run, sweeper.run, retirement.run, opening_retirement.run, admission.run,
    ]  # fmt: skip
    roles.append(partial(watch.run, interval_s=settings.reconcile_interval_s))
    return roles


def _drift_watch(operations: Operations, program: str, turn: asyncio.Lock, leads: Callable[[], bool]) -> DriftWatch:
    reconciler = reconciler_of(operations, program, operations.ledgers.connection(program))

    async def repair() -> Reconciled:
        async with open_rebuilder(operations, program) as rebuilder:
            return await repaired(reconciler, rebuilder, only_where=is_mended_by_rebuilding, wait_s=0)

    automatic = repair if operations.settings.rebuild_automatically else None
    return DriftWatch(program, reconciler, repair=automatic, leads=leads, turn=turn)


def _zone_of(catalogue: Catalogue, program: str) -> tzinfo | None:
    stored = catalogue.program(program)
    return stored.zone if stored else None


def _report_end(task: "asyncio.Task[None]") -> None:
    """Log a task that ended without being asked to, which is always a bug."""
    if not task.cancelled() and task.exception() is not None:
        log.error("worker_role_failed", exc_info=task.exception())
        asyncio.get_running_loop().call_exception_handler({"message": "a role failed", "exception": task.exception()})
