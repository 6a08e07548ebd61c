"""Claims of people of the fault's own, who come all at once beside the crowd and never ask a second time."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import aiohttp

from loadtest.checker.history import NO_ANSWER
from loadtest.crowd.scenario import Answered, claim_call, exchange, read_answer
from loadtest.faults.fault import Scene
from loadtest.stage.people import person

TIMEOUT_S = 15.0


async def quotas_left(scene: Scene, least: int = 1) -> list[str]:
    """The quotas in which so many places are left."""
    offered = await asyncio.to_thread(scene.service.get, f"/v1/availability?program={scene.program}")
    return [quota["id"] for quota in offered["quotas"] if quota["remaining"] >= least]


async def claim_at_once(scene: Scene, quotas: Sequence[str], people: range, answers: Counter[int]) -> None:
    """Let all of them claim at the same time; `answers` counts their answers as they come."""
    connector = aiohttp.TCPConnector(limit=len(people))
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as client:

        async def claim(number: int) -> None:
            group = [person(number, scene.crowd.plan.seed)]
            call = claim_call(group, quotas[number % len(quotas)], f"at-once-{number}")
            sent_ms = time.time() * 1000
            try:
                url = scene.service.url + call.path
                async with client.request(call.method, url, headers=call.headers, data=call.body) as response:
                    answered = read_answer(response.status, response.headers, await response.read())
            except (aiohttp.ClientError, OSError, TimeoutError):
                answered = Answered(outcome=NO_ANSWER)
            answers[answered.outcome] += 1
            scene.crowd.history.append(exchange(number, call, answered, sent_ms))

        await asyncio.gather(*map(claim, people))
