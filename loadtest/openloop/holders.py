"""People who hold a place already, and confirm, read and cancel it while a crowd claims: they come before the crowd."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from loadtest.openloop.scene import Scene

HOLDERS = 200
RATE_PER_S = 20.0  # who begins to confirm
AT_ONCE = 16  # claims in flight beforehand
TIMEOUT_S = 15.0
FINISHED = {"confirm": (200, 202), "status": (200,), "cancel": (200, 202)}  # 202: it is not in the records yet


@dataclass
class Holders:
    """What they met; every latency counts from the moment at which the request was sent."""

    answered_s: dict[str, list[float]] = field(default_factory=dict)  # by what was asked
    failed: list[str] = field(default_factory=list)  # what was asked, and what came instead

    def p99_ms(self) -> dict[str, float]:
        """Of each kind."""
        return {name: sorted(took)[int(len(took) * 0.99)] * 1000 for name, took in self.answered_s.items()}


@asynccontextmanager
async def holders(scene: Scene, count: int = HOLDERS) -> AsyncIterator[Holders]:
    """They have their places when the block begins, and come one after the other until it ends.

    Raises:
        RuntimeError: one of them got no place beforehand.
    """
    seen = Holders()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as client:
        places = await _places(scene, client, count)
        coming = asyncio.create_task(_come(scene.url, client, places, seen))
        try:
            yield seen
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def _places(scene: Scene, client: aiohttp.ClientSession, count: int) -> list[tuple[str, str]]:
    """Ids and secrets of so many new reservations."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def claim(number: int, request: bytes) -> tuple[str, str]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"holder-{scene.ours.port}-{number:08d}"}
        body = request.partition(b"\r\n\r\n")[2]
        async with gate, client.post(f"{scene.url}/v1/reservations", data=body, headers=headers) as response:
            if response.status != 201:
                raise RuntimeError(f"no place beforehand: {response.status}")
            held = await response.json()
            return held["id"], held["manage_token"]

    return await asyncio.gather(*(claim(number, each) for number, each in enumerate(scene.requests(count))))


async def _come(url: str, client: aiohttp.ClientSession, places: list[tuple[str, str]], seen: Holders) -> None:
    async with asyncio.TaskGroup() as group:
        for id_, token in places:
            group.create_task(_one(f"{url}/v1/reservations/{id_}", token, client, seen))
            await asyncio.sleep(1 / RATE_PER_S)


async def _one(place: str, token: str, client: aiohttp.ClientSession, seen: Holders) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    for name, method, url in (
        ("confirm", "POST", f"{place}/confirm"),
        ("status", "GET", place),
        ("cancel", "POST", f"{place}/cancel"),
    ):
        started_s = time.perf_counter()
        try:
            async with client.request(method, url, headers=headers) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            seen.failed.append(f"{name}: {type(error).__name__}")
            return
        if status not in FINISHED[name]:
            seen.failed.append(f"{name}: {status}")
            return
        seen.answered_s.setdefault(name, []).append(time.perf_counter() - started_s)
