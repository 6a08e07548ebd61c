"""Trials of a ledger library: each plays in a program of its own, through the real parts, and the checker judges it.

`Reservations` and `GroupCommit` send the commands, a recorder writes the records meanwhile. `loadtest.checker.mutants`
gives libraries with bugs.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import redis.asyncio as redis_asyncio

from loadtest.checker.callers import Callers
from loadtest.checker.check import check
from loadtest.checker.rules import Violation
from loadtest.checker.trial import Trial
from reservasi.availability import Availability
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import Library
from reservasi.ledger.topology.clients import open_client
from reservasi.records import Records
from reservasi.records.upgrades import upgrade
from reservasi.reservations import Reservations
from reservasi.sealing import Sealing, create_key_ring
from reservasi.worker.ledger_owner import Ownership, own_ledger
from reservasi.worker.recorder import Recorder

TIMEOUT_MS = 10_000
TOMBSTONE_MS = 86_400_000
BLOCK_MS = 50
CONFIRM_WAIT_MS = 50  # a recorder that has halted is not waited for
POOL_MAX = 12
AT_ONCE = 5  # trials that play at the same time


class Stores:
    """Where trials play: one Valkey and one PostgreSQL for all of them."""

    def __init__(self, redis_url: str, dsn: str, client: redis_asyncio.Redis, records: Records) -> None:
        self._redis_url = redis_url
        self._dsn = dsn
        self._client = client
        self._records = records
        self._sealing = Sealing(create_key_ring())
        self._room = asyncio.Semaphore(AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def open(cls, redis_url: str, dsn: str) -> AsyncIterator["Stores"]:
        await upgrade(dsn)
        async with AsyncExitStack() as stack:
            client = open_client(redis_url, connections_max=4 * AT_ONCE)
            stack.push_async_callback(client.aclose)
            records = await Records.open(dsn, POOL_MAX)
            stack.push_async_callback(records.close)
            yield cls(redis_url, dsn, client, records)

    async def judge(
        self, library: Library, program: str, *, seed: int = 0, recorded_timeout_s: float | None = None
    ) -> tuple[Violation, ...]:
        """Play one trial, and what the checker finds. Its program must be new."""
        async with self._room:
            async with self._playing(library, program, seed) as (trial, callers):
                await trial.play()
                (finding,) = await check(
                    self._redis_url, self._dsn, callers.history, [program], recorded_timeout_s=recorded_timeout_s
                )
            return finding.violations

    @asynccontextmanager
    async def _playing(self, library: Library, program: str, seed: int) -> AsyncIterator[tuple[Trial, Callers]]:
        """A trial that may begin: its ledger is owned and its journal recorded until the block ends."""
        async with AsyncExitStack() as stack:
            await self._records.make_room(program)
            journal = Journal(self._client, program)
            owning = LedgerConnection(self._redis_url, program, library)
            stack.push_async_callback(owning.drop)
            if await own_ledger(program, owning, journal, self._records) is not Ownership.OWNED:
                raise RuntimeError(f"the ledger of {program} cannot be owned: is it new?")
            group = GroupCommit(
                LedgerConnection(self._redis_url, program, library),
                batch_items_max=256,
                queue_items_max=5000,
                command_timeout_ms=TIMEOUT_MS,
                tombstone_ms=TOMBSTONE_MS,
                queue_delay_target_ms=1000,
            )
            group.start()
            stack.push_async_callback(group.close)
            # The view follows nothing, so that the ledger is asked each time.
            view = Availability(lambda _: owning, lambda _: journal, stale_ms=0)
            recorded = RecordedPositions(self._client)
            stack.push_async_callback(recorded.close)
            recorded.follow(program)
            reservations = Reservations(self._sealing, view, recorded, confirm_wait_ms=CONFIRM_WAIT_MS)
            reservations.serve(program, group)
            await stack.enter_async_context(self._recording(program, journal))
            callers = Callers(reservations, seed)
            yield Trial(program, seed, callers, group, self._now_ms), callers

    @asynccontextmanager
    async def _recording(self, program: str, journal: Journal) -> AsyncIterator[None]:
        recorder = Recorder(
            program,
            self._records,
            journal,
            booking_code=self._sealing.booking_code,
            events_max=500,
            block_ms=BLOCK_MS,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(recorder.run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _now_ms(self) -> int:
        seconds, microseconds = await self._client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000
