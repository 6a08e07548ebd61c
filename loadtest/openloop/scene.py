"""The service that is loaded: real stores, recorder and one front, and, if asked for, a ledger on a slow disk.

The front has a core of its own; load generator, Valkey, recorder and PostgreSQL share the other. So that the generator
can offer several times of what the service takes, the ledger can be made the bottleneck: small batches, a slow fsync;
or the front's processor: neighbours on its core. If asked for, everybody comes through nginx, which has the shipped
file and shares the load generator's core.
"""

import asyncio
import dataclasses
import re
import resource
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from loadtest.bench.claims import requests
from loadtest.bench.client import run_load
from loadtest.bench.ground import PROGRAM, Ground, prepared
from loadtest.bench.variants import Ours
from loadtest.checker.check import Finding, check
from loadtest.openloop.client import OpenLoop, poisson
from loadtest.openloop.outcomes import Outcomes
from loadtest.stage.cores import Cores, family, pinned
from loadtest.stage.nginx import CONFIGURATION, nginx
from reservasi.bootstrap.commands import open_operations
from reservasi.cli.staff import add_staff
from reservasi.embedded.process import dies_with_us
from reservasi.model import StaffRole

FSYNC_MS = 10
BATCH_ITEMS = 16
NEIGHBOURS = 3
CONNECTIONS_CPU = 128  # of the closed loop where nothing is slowed
PROBE_CLAIMS = 500
PEAK_ROUNDS = 3
TIMEOUT_S = 120.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slowness:
    """What is made short: the ledger, or the front's processor; nothing where `fsync_ms` is 0."""

    fsync_ms: int = FSYNC_MS
    batch_items: int = BATCH_ITEMS
    shares_core: bool = False  # the front shares its core with `NEIGHBOURS` processes that never rest
    behind_nginx: int = 0  # everybody comes through nginx, which lets so many claims through at a time; 0: straight

    @property
    def settings(self) -> dict[str, Any]:
        return {"batch_items_max": self.batch_items} if self.fsync_ms else {}

    @property
    def connections(self) -> int:
        """Requests in flight that keep the ledger busy and do not meet the front's limit, nor nginx's."""
        wanted = 4 * self.batch_items if self.fsync_ms else CONNECTIONS_CPU
        return min(wanted, self.behind_nginx) if self.behind_nginx else wanted

    @property
    def title(self) -> str:
        short = f"ledger slowed on purpose: fsync +{self.fsync_ms} ms, {self.batch_items} claims a call at most"
        if self.shares_core:
            short = f"the front has one part in {NEIGHBOURS + 1} of its core, nothing is slowed"
        elif not self.fsync_ms:
            short = "nothing slowed: the processor limits"
        return f"{short}; behind nginx, {self.behind_nginx} at a time" if self.behind_nginx else short


class Scene:
    """A running service, and people who have not claimed yet."""

    def __init__(self, ground: Ground, ours: Ours, slowness: Slowness, staff_key: str, port: int) -> None:
        self.ground = ground
        self.ours = ours
        self.slowness = slowness
        self.staff_key = staff_key
        self.port = port  # where everybody comes: nginx's, or the front's
        self.url = f"http://127.0.0.1:{port}"
        self.admin_url = ours.front.admin_url
        self._next = 0  # person

    def people(self, count: int) -> range:
        first, self._next = self._next, self._next + count
        return range(first, self._next)

    def requests(self, count: int) -> list[bytes]:
        return requests(self.people(count).start, count, self.ground.quotas)

    async def offer(self, rate_per_s: float, seconds: float, seed: int = 0) -> Outcomes:
        arrivals = poisson(rate_per_s, seconds, seed)
        return await OpenLoop(self.port, self.requests(len(arrivals)), arrivals, seconds).run()

    async def peak(self, seconds: float, rounds: int = PEAK_ROUNDS) -> float:
        """The most claims a second in a closed loop: the best of some rounds."""
        connections = self.slowness.connections
        probe = await run_load(self.port, self.requests(PROBE_CLAIMS), connections=connections, timeout_s=TIMEOUT_S)
        best = 0.0
        for _ in range(rounds):
            count = max(PROBE_CLAIMS, int(max(best, probe.claims_per_s) * seconds))
            load = await run_load(self.port, self.requests(count), connections=connections, timeout_s=TIMEOUT_S)
            best = max(best, load.claims_per_s)
            await self.ours.settle()
        return best

    def front_mib(self) -> float:
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in family(self.ours.pids["front"]))
        return pages * resource.getpagesize() / 2**20

    async def check(self) -> list[Finding]:
        await self.ours.settle()
        return await check(self.ground.redis_url, self.ground.postgres_dsn, programs=[PROGRAM])


@asynccontextmanager
async def open_scene(cores: Cores, slowness: Slowness, **settings: Any) -> AsyncIterator[Scene]:
    """A service with these settings, gone with its data when the block ends."""
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(prepared(cores, fsync_ms=slowness.fsync_ms))
        changed = ground.settings.model_copy(update={**slowness.settings, **settings})
        ground = dataclasses.replace(ground, settings=changed)
        ours = Ours(ground)
        stack.push_async_callback(ours.stop)
        await ours.start()
        async with open_operations(changed) as operations:
            staff_key = await add_staff(operations, "load test", StaffRole.OPERATOR)
        port = ours.port
        if slowness.behind_nginx:
            port = await stack.enter_async_context(_nginx(port, slowness.behind_nginx))
        scene = Scene(ground, ours, slowness, staff_key, port)
        if slowness.shares_core:
            await stack.enter_async_context(neighbours(cores))
        yield scene


@asynccontextmanager
async def neighbours(cores: Cores) -> AsyncIterator[None]:
    """Processes that never rest share the front's core; each is a session, by which Linux may share a core."""
    if not cores.separate:
        raise RuntimeError("the front needs a core of its own to be short of it")
    with pinned(cores.front):
        running = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "while True: pass"),
                start_new_session=True,
                preexec_fn=dies_with_us(signal.SIGKILL),
            )
            for _ in range(NEIGHBOURS)
        ]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            await each.wait()


def claims_at_a_time() -> int:
    """How many claims the shipped file of nginx lets through to a machine's fronts at a time."""
    match = re.search(r"max_conns=(\d+);", CONFIGURATION.read_text())
    assert match is not None
    return int(match[1])


@asynccontextmanager
async def _nginx(front_port: int, claims: int) -> AsyncIterator[int]:
    """nginx before the front; its limits for a single address are lifted, since all the load comes from one."""
    with tempfile.TemporaryDirectory(prefix="rv-nginx-") as directory:
        async with nginx(
            Path(directory),
            f"127.0.0.1:{front_port}",
            (f"max_conns={claims_at_a_time()};", f"max_conns={claims};"),
            ("rate=200r/s", "rate=1000000r/s"),
            ("limit_conn reservasi_connections 2000", "limit_conn reservasi_connections 65535"),
        ) as port:
            yield port
