"""The service itself: `reservasi api` and the recorder, everything real.

The rivals only claim: none of them writes to a second store. So ours is measured twice: with the recorder held still
while the load runs (it records everything before the next measurement), and with the recorder at work all the time.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager

import redis.asyncio as redis_asyncio

from loadtest.bench.ground import PROGRAM, Ground
from loadtest.bench.variants.variant import Variant, quieten_backends
from loadtest.stage.cores import pinned, yield_to_others
from loadtest.stage.processes import started, until
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.lua.library import read_library

SETTLE_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 5.0


class Ours(Variant):
    """Group commit, journal, recorder: what `reservasi up` runs."""

    name = "ours"
    title = "reservasi: full validation, sealing, group commit, journal; recorded afterwards"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._stack = AsyncExitStack()
        self._ledger = LedgerConnection(ground.redis_url, PROGRAM, read_library())

    @property
    def pids(self) -> dict[str, int]:
        return {"front": self.front.pid, "worker": self._worker.pid}

    async def start(self) -> None:
        settings, cores = self.ground.settings, self.ground.cores
        with pinned(cores.rest):  # a process stays, with its children, on the cores on which it was started
            self._worker = await self._stack.enter_async_context(started("worker", settings))
        with pinned(cores.front):
            self.front = await self._stack.enter_async_context(started("api", settings))
        self.port = self.front.port
        await self._worker.until_ready()  # it has owned the ledger
        await self.front.until_ready()

    async def stop(self) -> None:
        await self._ledger.drop()
        await self._stack.aclose()

    def recorder_still(self) -> AbstractContextManager[None]:
        """The recorder stands still, as if it ran on another machine."""
        return standing_still(self._worker.pid)

    async def settle(self) -> None:
        """Wait until PostgreSQL has everything that the ledger accepted."""

        async def is_recorded() -> bool:
            accepted = (await self._ledger.meta(CALL_TIMEOUT_S)).position  # a snapshot would cost what it measures
            published = json.loads(await client.hget(keys.recorded(PROGRAM), keys.RECORDED_FIELD) or '{"seq": 0}')
            return (accepted.epoch, accepted.seq) == (published.get("epoch", 0), published["seq"])

        async with redis_asyncio.Redis.from_url(self.ground.redis_url) as client:
            await until(is_recorded, "PostgreSQL to have every claim", SETTLE_TIMEOUT_S)
        # The recorder and its backends follow the ledger and hold nobody up. With two cores they would take the load
        # generator's time, and the figure would be that of the machine, not of the front. Backends of the rivals that
        # claim in PostgreSQL keep their priority.
        yield_to_others(self._worker.pid)
        await quieten_backends(self.ground.postgres_dsn, "reservasi%")

    async def held(self) -> int:
        snapshot = await self._ledger.snapshot(CALL_TIMEOUT_S)
        if snapshot is None:
            raise RuntimeError("the ledger is fenced, so nothing can be measured")
        return sum(quota.counts.held for quota in snapshot.quotas if quota.id in self.ground.quotas)


class OursRecorded(Ours):
    """The same service, measured while it is recorded."""

    name = "ours_recorded"
    title = "the same, while the recorder writes everything to PostgreSQL on the stores' core"


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
