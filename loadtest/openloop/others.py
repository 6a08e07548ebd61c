"""Requests that must be answered while a crowd is refused: those of place holders, of staff and of monitoring."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from loadtest.bench.ground import PROGRAM
from loadtest.checker.history import Exchange
from loadtest.crowd.crowd import open_client, send
from loadtest.crowd.scenario import Answered, Call, claim_call, managed_call
from loadtest.openloop.scene import Scene
from loadtest.stage.people import person

PAUSE_S = 0.1  # of staff, between two rounds
HOLDERS = 200
HOLDERS_PER_S = 20.0  # that begin to confirm
AT_ONCE = 16  # claims in flight beforehand
GOOD = frozenset({200, 202})  # 202: it is not in the records yet


class Others:
    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.history: list[Exchange] = []
        self.front_mib: list[float] = []  # of the front, meanwhile
        self._client = client

    @property
    def failed(self) -> list[str]:
        """Each answer that none of them may get."""
        counts = Counter((each.call, each.outcome) for each in self.history if each.outcome not in GOOD)
        return [f"{call}: {count} x {outcome or 'no answer'}" for (call, outcome), count in sorted(counts.items())]

    def quantile_ms(self, share: float) -> dict[str, float]:
        """By what was asked, of the good answers."""
        took: dict[str, list[float]] = defaultdict(list)
        for each in self.history:
            if each.outcome in GOOD:
                took[each.call].append(each.answered_ms - each.sent_ms)
        return {call: sorted(each)[min(len(each) - 1, int(len(each) * share))] for call, each in took.items()}

    async def ask(self, url: str, call: Call) -> Answered:
        answered, sent = await send(self._client, url, 0, call)
        self.history.append(sent)
        return answered


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


@asynccontextmanager
async def staff(scene: Scene) -> AsyncIterator[Others]:
    """Staff and monitoring ask again and again until the block ends; the front's memory is read meanwhile."""
    async with open_client() as client:
        others = Others(client)
        async with _meanwhile(_ask_as_staff(scene, others)):
            yield others


async def _ask_as_staff(scene: Scene, others: Others) -> None:
    key, quotas = {"X-API-Key": scene.staff_key}, "/v1/staff/quotas"
    change = {**key, "Content-Type": "application/json"}
    path, capacity = f"{quotas}/{scene.ground.read_quotas[0]}", 1
    while True:
        await others.ask(scene.admin_url, Call(name="livez", method="GET", path="/livez"))
        await others.ask(scene.admin_url, Call(name="metrics", method="GET", path="/metrics"))
        listed = f"{quotas}?program={PROGRAM}&office={scene.ground.read_office}"
        await others.ask(scene.url, Call(name="staff list", method="GET", path=listed, headers=key))
        body = msgspec.json.encode({"capacity": capacity})
        await others.ask(scene.url, Call(name="staff change", method="PUT", path=path, headers=change, body=body))
        capacity = 3 - capacity
        others.front_mib.append(scene.front_mib())
        await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def holders(scene: Scene, count: int = HOLDERS) -> AsyncIterator[Others]:
    """They have their places when the block begins, and confirm, read and cancel them one after the other."""
    async with open_client() as client:
        others, gate = Others(client), asyncio.Semaphore(AT_ONCE)

        async def claim(number: int, quota: str) -> dict[str, Any]:
            call = claim_call([person(number)], quota, f"holder-{scene.ours.port}-{number}")
            async with gate:
                answered, _ = await send(client, scene.url, number, call)
            if answered.outcome != 201:
                raise RuntimeError(f"no place beforehand: {answered.problem}")
            return answered.body

        quotas, people = scene.ground.quotas, scene.people(count)
        places = await asyncio.gather(*(claim(number, quotas[number % len(quotas)]) for number in people))
        async with _meanwhile(_come(scene.url, others, places)):
            yield others


async def _come(url: str, others: Others, places: list[dict[str, Any]]) -> None:
    async with asyncio.TaskGroup() as group:
        for held in places:
            group.create_task(_visit(url, others, held))
            await asyncio.sleep(1 / HOLDERS_PER_S)


async def _visit(url: str, others: Others, held: dict[str, Any]) -> None:
    for call in (
        managed_call("confirm", "POST", held, "/confirm"),
        managed_call("status", "GET", held),
        managed_call("cancel", "POST", held, "/cancel"),
    ):
        if (await others.ask(url, call)).outcome not in GOOD:
            return
