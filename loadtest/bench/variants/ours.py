"""The service itself: `reservasi api` with one process and the recorder, everything real.

The rivals only claim: none of them writes to a second store. So ours is measured twice: with the recorder held still
while the load runs (it records everything before the next measurement), and with the recorder at work all the time.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator

import redis.asyncio as redis_asyncio

from loadtest.bench.ground import PROGRAM, Ground
from loadtest.bench.variants.variant import Variant, pid_of, quieten_backends, start_on
from loadtest.stage.cores import yield_to_others
from reservasi.front.process.front_probe import wait_ready
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.lua.library import read_library
from reservasi.metrics import MULTIPROCESS_DIR_VARIABLE
from reservasi.supervisor import Role

SETTLE_TIMEOUT_S = 120.0
SETTLE_POLL_S = 0.02
CALL_TIMEOUT_S = 5.0


class Ours(Variant):
    """Group commit, journal, recorder: what `reservasi up` runs."""

    name = "ours"
    title = "reservasi: full validation, sealing, group commit, journal; recorded afterwards"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.port = ground.settings.port
        command = (sys.executable, "-m", "reservasi.cli")
        environment = _environment(ground)
        self._worker = Role(
            name="worker", argv=(*command, "worker"), env=environment, log_path=ground.log_dir / "worker.log"
        )
        self._fronts = Role(
            name="fronts",
            argv=(*command, "api", "--processes", str(ground.processes)),
            env=environment,
            log_path=ground.log_dir / "fronts.log",
        )
        self._ledger = LedgerConnection(ground.redis_url, PROGRAM, read_library())

    @property
    def pids(self) -> dict[str, int]:
        return {"front": pid_of(self._fronts), "worker": pid_of(self._worker)}

    async def start(self) -> None:
        settings = self.ground.settings
        await start_on(self._worker, self.ground.cores.rest)
        await start_on(self._fronts, self.ground.cores.front)
        if not await wait_ready(settings.admin_host, settings.admin_port, settings.start_timeout_s):
            raise RuntimeError("the front is not ready, so nothing can be measured")

    async def stop(self) -> None:
        await self._ledger.drop()
        await self._fronts.stop()
        await self._worker.stop()

    @contextlib.asynccontextmanager
    async def recorder_still(self) -> AsyncIterator[None]:
        """Hold the recorder still, as if it ran on another machine."""
        pid = pid_of(self._worker)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def settle(self) -> None:
        """Wait until PostgreSQL has everything that the ledger accepted.

        Raises:
            TimeoutError: it has not within `SETTLE_TIMEOUT_S`.
        """
        async with (
            asyncio.timeout(SETTLE_TIMEOUT_S),
            redis_asyncio.Redis.from_url(self.ground.redis_url) as client,
        ):
            while True:
                accepted = (await self._ledger.meta(CALL_TIMEOUT_S)).position  # a snapshot would cost what it measures
                said = await client.hget(keys.recorded(PROGRAM), keys.RECORDED_FIELD)
                recorded = json.loads(said or '{"epoch": 0, "seq": 0}')
                if (accepted.epoch, accepted.seq) == (recorded["epoch"], recorded["seq"]):
                    break
                await asyncio.sleep(SETTLE_POLL_S)
        # The recorder and its backends follow the ledger and hold nobody up. With two cores they would take the load
        # generator's time, and the figure would be that of the machine, not of the front. Backends of the rivals that
        # claim in PostgreSQL keep their priority.
        yield_to_others(pid_of(self._worker))
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


def _environment(ground: Ground) -> dict[str, str]:
    """The settings as environment; unset ones are left to their defaults."""
    given = ground.settings.model_dump(mode="json", exclude_none=True)
    metrics = ground.log_dir / "metrics"  # ours to remove, as under `reservasi up`
    metrics.mkdir()
    environment = {MULTIPROCESS_DIR_VARIABLE: str(metrics)}
    environment |= {f"RESERVASI_{name.upper()}": str(value) for name, value in given.items()}
    return {**environment, "RESERVASI_SECRETS_FILE": str(ground.settings.secrets_path)}
