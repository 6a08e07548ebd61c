"""A front process, with every program of the catalogue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from reservasi.bootstrap.addresses import with_rights_of
from reservasi.bootstrap.commands import open_operations
from reservasi.bootstrap.servers import refuse_unacknowledged
from reservasi.bootstrap.views import open_view
from reservasi.catalogue import Catalogue
from reservasi.front.services import FrontServices
from reservasi.ledger.access import FRONT
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.ledger.group_commit import GroupCommit
from reservasi.metrics import begin_front_at_zero
from reservasi.reservations import Reservations
from reservasi.settings import Settings
from reservasi.waiting_room.delays import DelayReporter
from reservasi.waiting_room.room import WaitingRoom


@asynccontextmanager
async def open_front(settings: Settings) -> AsyncIterator[FrontServices]:
    """The objects of a front, following every program of the catalogue, including later imports."""
    settings = with_rights_of(FRONT, settings)
    async with AsyncExitStack() as stack:
        operations = await stack.enter_async_context(open_operations(settings, wait_s=settings.start_timeout_s))
        await refuse_unacknowledged(settings, operations.servers)
        ledgers = operations.ledgers
        availability = open_view(operations)
        stack.push_async_callback(availability.close)
        recorded = ledgers.recorded()
        stack.push_async_callback(recorded.close)
        reservations = Reservations(
            operations.sealing,
            availability,
            recorded,
            confirm_wait_ms=settings.confirm_wait_ms,
            records=operations.records,
        )

        waiting_room = WaitingRoom(operations.sealing, availability)

        async def end(program: str) -> None:
            served = serving.pop(program, None)
            if served is not None:
                group, reporter = served
                await end_tasks([reporter])
                await group.close()

        async def end_all() -> None:
            await asyncio.gather(*map(end, list(serving)), *leaving, return_exceptions=True)

        def serve(program: str) -> None:
            begin_front_at_zero(program)
            group = ledgers.group(program, recorded)
            group.start()
            reporter = DelayReporter(program, group, ledgers.openings(program), availability)
            serving[program] = group, asyncio.create_task(reporter.run())
            reservations.serve(program, group)
            waiting_room.serve(program, group)
            availability.follow(program)
            recorded.follow(program)

        async def stop_following(program: str) -> None:
            await asyncio.gather(availability.unfollow(program), recorded.unfollow(program), end(program))

        def leave(program: str) -> None:
            reservations.leave(program)
            waiting_room.leave(program)
            task = asyncio.create_task(stop_following(program))
            leaving.add(task)
            task.add_done_callback(leaving.discard)

        serving: dict[str, tuple[GroupCommit, asyncio.Task[None]]] = {}
        leaving: set[asyncio.Task[None]] = set()
        stack.push_async_callback(end_all)
        catalogue = Catalogue(operations.records, operations.sealing, refresh_ms=settings.catalogue_refresh_ms)
        stack.push_async_callback(catalogue.close)
        await catalogue.open(serve, leave)
        yield FrontServices(
            settings=settings,
            reservations=reservations,
            availability=availability,
            catalogue=catalogue,
            waiting_room=waiting_room,
        )
