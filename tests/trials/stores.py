"""Trials of a ledger library: each plays in a program of its own, through the real parts, and the checker judges it.

`Reservations` and `GroupCommit` send the commands, a recorder writes the records. `loadtest.checker.mutants`
provides the libraries with bugs.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from unittest.mock import patch

from loadtest.checker.check import check
from loadtest.checker.rules import Violation
from reservasi.availability import Availability
from reservasi.bootstrap import ledgers
from reservasi.bootstrap.commands import Operations, open_operations
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import Library
from reservasi.records.upgrades import upgrade
from reservasi.reservations import Reservations
from reservasi.settings import Settings
from reservasi.worker.ledger_owner import Ownership, own_ledger
from reservasi.worker.recorder import Recorder
from tests.trials.trial import Trial

TIMEOUT_MS = 10_000
QUEUE_DELAY_MS = 1000
BLOCK_MS = 50
CONFIRM_WAIT_MS = 50  # a recorder that has halted is not waited for
AT_ONCE = 5  # trials that play at the same time


class Stores:
    """Where trials play: one Valkey and one PostgreSQL for all of them."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._room = asyncio.Semaphore(AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def open(cls, redis_url: str, dsn: str) -> AsyncIterator["Stores"]:
        await upgrade(dsn)
        with tempfile.TemporaryDirectory(prefix="rv-trials-") as directory:
            settings = Settings(
                redis_url=redis_url,
                postgres_dsn=dsn,
                data_dir=Path(directory),
                command_timeout_ms=TIMEOUT_MS,
                queue_delay_target_ms=QUEUE_DELAY_MS,
            )
            async with open_operations(settings) as operations:
                yield cls(operations)

    async def judge(
        self, library: Library, program: str, *, seed: int = 0, recorded_timeout_s: float | None = None
    ) -> tuple[Violation, ...]:
        """Play one trial, and what the checker finds. Its program must be new."""
        settings = self._operations.settings
        async with self._room, self._playing(library, program, seed) as trial:
            await trial.play()
            (finding,) = await check(
                settings.redis_url,
                settings.postgres_dsn,
                trial.callers.history,
                [program],
                recorded_timeout_s=recorded_timeout_s,
            )
            return finding.violations

    @asynccontextmanager
    async def _playing(self, library: Library, program: str, seed: int) -> AsyncIterator[Trial]:
        """A trial that may begin: its ledger is owned and its journal recorded until the block ends."""
        operations = self._operations
        with patch.object(ledgers, "read_library", lambda: library):
            parts = ledgers.Ledgers(operations.settings, operations.servers)
        async with AsyncExitStack() as stack:
            await operations.records.make_room(program)
            journal, owning = parts.journal(program), parts.connection(program)
            stack.push_async_callback(owning.drop)
            if await own_ledger(program, owning, journal, operations.records) is not Ownership.OWNED:
                raise RuntimeError(f"the ledger of {program} cannot be owned: is it new?")
            group, recorded = parts.group(program), parts.recorded()
            group.start()
            stack.push_async_callback(group.close)
            stack.push_async_callback(recorded.close)
            recorded.follow(program)
            # The view follows nothing, so that the ledger is asked each time.
            view = Availability(lambda _: owning, lambda _: journal, stale_ms=0)
            reservations = Reservations(operations.sealing, view, recorded, confirm_wait_ms=CONFIRM_WAIT_MS)
            reservations.serve(program, group)
            await stack.enter_async_context(self._recording(program, journal))
            yield Trial(program, seed, reservations, group, self._now_ms)

    @asynccontextmanager
    async def _recording(self, program: str, journal: Journal) -> AsyncIterator[None]:
        records, booking_code = self._operations.records, self._operations.sealing.booking_code
        recorder = Recorder(program, records, journal, booking_code=booking_code, events_max=500, block_ms=BLOCK_MS)
        stop = asyncio.Event()
        task = asyncio.create_task(recorder.run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _now_ms(self) -> int:
        seconds, microseconds = await self._operations.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000
