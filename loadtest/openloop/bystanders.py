"""Who must be answered while a crowd is refused, the admin port and staff; and the front's memory meanwhile."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from loadtest.bench.ground import PROGRAM
from loadtest.openloop.scene import Scene

PAUSE_S = 0.1
TIMEOUT_S = 10.0


@dataclass
class Bystanders:
    """What they met."""

    answered: dict[str, list[float]] = field(default_factory=dict)  # by what was asked: seconds of each good answer
    failed: list[str] = field(default_factory=list)  # what was asked, and what came instead
    rss_mib: list[float] = field(default_factory=list)

    def slowest_ms(self) -> dict[str, float]:
        """The longest good answer of each kind."""
        return {name: max(took) * 1000 for name, took in self.answered.items() if took}


@asynccontextmanager
async def bystanders(scene: Scene) -> AsyncIterator[Bystanders]:
    """They ask again and again until the block ends."""
    seen = Bystanders()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as client:
        stop = asyncio.Event()
        asking = asyncio.create_task(_ask(scene, client, seen, stop))
        try:
            yield seen
        finally:
            stop.set()
            await asking


async def _ask(scene: Scene, client: aiohttp.ClientSession, seen: Bystanders, stop: asyncio.Event) -> None:
    key = {"X-API-Key": scene.staff_key}
    quota = scene.ground.read_quotas[0]
    turn = 0
    while not stop.is_set():
        turn += 1
        await _one(client, seen, "livez", "GET", f"{scene.admin_url}/livez")
        await _one(client, seen, "metrics", "GET", f"{scene.admin_url}/metrics")
        listed = f"{scene.url}/v1/staff/quotas?program={PROGRAM}&office={scene.ground.read_office}"
        await _one(client, seen, "staff list", "GET", listed, headers=key)
        changed = f"{scene.url}/v1/staff/quotas/{quota}"
        await _one(client, seen, "staff change", "PUT", changed, headers=key, json={"capacity": 1 + turn % 2})
        seen.rss_mib.append(scene.front_rss_mib())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), PAUSE_S)


async def _one(
    client: aiohttp.ClientSession, seen: Bystanders, name: str, method: str, url: str, **options: object
) -> None:
    started_s = time.perf_counter()
    try:
        async with client.request(method, url, **options) as response:  # type: ignore[arg-type]  # plain options
            await response.read()
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        seen.failed.append(f"{name}: {type(error).__name__}")
        return
    if status == 200:
        seen.answered.setdefault(name, []).append(time.perf_counter() - started_s)
    else:
        seen.failed.append(f"{name}: {status}")
