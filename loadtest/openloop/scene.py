"""The service that is loaded: real stores, recorder and one front, and, if asked for, a ledger on a slow disk.

The front has a core of its own; load generator, Valkey, recorder and PostgreSQL share the other. So that the generator
can offer several times of what the service takes, the ledger can be made the bottleneck: small batches, a slow fsync;
or the front's processor: neighbours on its core.
"""

import contextlib
import dataclasses
import itertools
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from loadtest.bench.claims import requests
from loadtest.bench.client import run_load
from loadtest.bench.cores import Cores
from loadtest.bench.experiments.slow_disk import slow_disk
from loadtest.bench.ground import PROGRAM, Ground
from loadtest.bench.stores import prepared
from loadtest.bench.variants import Ours
from loadtest.checker import Finding, check
from loadtest.openloop.client import OpenLoop
from loadtest.openloop.outcomes import Outcomes
from loadtest.openloop.schedule import poisson
from loadtest.openloop.short_processor import neighbours
from reservasi.bootstrap import open_operations
from reservasi.cli.staff import add_staff
from reservasi.model import StaffRole

FSYNC_MS = 10
BATCH_ITEMS = 16
CONNECTIONS_CPU = 128  # of the closed loop where nothing is slowed
PROBE_CLAIMS = 500
PEAK_ROUNDS = 3
TIMEOUT_S = 120.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slowness:
    """What is made short: the ledger, or, when `fsync_ms` is 0, the front's processor by neighbours on its core."""

    fsync_ms: int = FSYNC_MS
    batch_items: int = BATCH_ITEMS
    neighbours: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """What the service is told."""
        return {"batch_items_max": self.batch_items} if self.fsync_ms else {}

    @property
    def connections(self) -> int:
        """Requests in flight that keep the ledger busy and do not meet the front's limit."""
        return 4 * self.batch_items if self.fsync_ms else CONNECTIONS_CPU

    @property
    def title(self) -> str:
        """What a report says of it."""
        if self.neighbours:
            return f"the front has one part in {self.neighbours + 1} of its core, nothing is slowed"
        if not self.fsync_ms:
            return "nothing slowed: the processor limits"
        return f"ledger slowed on purpose: fsync +{self.fsync_ms} ms, {self.batch_items} claims a call at most"


class Scene:
    """A running service, and people who have not claimed yet."""

    def __init__(self, ground: Ground, ours: Ours, slowness: Slowness, staff_key: str) -> None:
        self.ground = ground
        self.ours = ours
        self.slowness = slowness
        self.staff_key = staff_key
        self.url = f"http://127.0.0.1:{ours.port}"
        self.admin_url = f"http://127.0.0.1:{ground.settings.admin_port}"
        self._people = itertools.count()

    def requests(self, count: int) -> list[bytes]:
        """Claims of so many further people."""
        first = next(self._people)
        self._people = itertools.count(first + count)
        return requests(first, count, self.ground.quotas)

    async def offer(self, rate_per_s: float, seconds: float, seed: int = 0) -> Outcomes:
        """Let people arrive at this rate, for so long."""
        arrivals = poisson(rate_per_s, seconds, seed)
        return await OpenLoop(self.ours.port, self.requests(len(arrivals)), arrivals, seconds).run()

    async def peak(self, seconds: float, rounds: int = PEAK_ROUNDS) -> float:
        """The most claims a second that succeed when all who asked ask again at once: the best of some rounds."""
        connections = self.slowness.connections
        probe = await run_load(
            self.ours.port, self.requests(PROBE_CLAIMS), connections=connections, timeout_s=TIMEOUT_S
        )
        best = 0.0
        for _ in range(rounds):
            count = max(PROBE_CLAIMS, int(max(best, probe.claims_per_s) * seconds))
            built = self.requests(count)
            load = await run_load(self.ours.port, built, connections=connections, timeout_s=TIMEOUT_S)
            best = max(best, load.claims_per_s)
            await self.ours.settle()
        return best

    def front_rss_mib(self) -> float:
        """Resident memory of the front's processes, in MiB."""
        master = self.ours.pids["front"]
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in (master, *children))
        return pages * resource.getpagesize() / 2**20

    async def check(self) -> list[Finding]:
        """What the checker finds once everything is recorded."""
        await self.ours.settle()
        return await check(self.ground.redis_url, self.ground.postgres_dsn, programs=[PROGRAM])


@asynccontextmanager
async def open_scene(cores: Cores, slowness: Slowness, **settings: Any) -> AsyncIterator[Scene]:
    """A service with these settings, gone with its data when the block ends.

    Raises:
        RuntimeError: the disk cannot be slowed, since there is no compiler.
    """
    async with AsyncExitStack() as stack:
        disk = await stack.enter_async_context(slow_disk(slowness.fsync_ms)) if slowness.fsync_ms else None
        with disk.inserted() if disk else contextlib.nullcontext():
            ground = await stack.enter_async_context(prepared(cores))
        changed = ground.settings.model_copy(update={**slowness.settings, **settings})
        ground = dataclasses.replace(ground, settings=changed)
        ours = Ours(ground)
        stack.push_async_callback(ours.stop)
        await ours.start()
        async with open_operations(changed) as operations:
            staff_key = await add_staff(operations, "load test", StaffRole.OPERATOR)
        scene = Scene(ground, ours, slowness, staff_key)
        if disk:
            disk.check_under(ground.store_pids)
            stack.enter_context(disk.slowed())
        stack.enter_context(neighbours(cores, slowness.neighbours))
        yield scene
