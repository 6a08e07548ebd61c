"""SIGTERM to a front that has 500 requests in flight: each of them gets its answer."""

import asyncio
import os
import signal
import time
from collections import Counter

import aiohttp

from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.history import NO_ANSWER
from loadtest.people import person
from loadtest.program import PROGRAM
from loadtest.scenario import Answered, claim_call, exchange, read_answer
from loadtest.service import Part

IN_FLIGHT = 500
FIRST = 6_000_000
HELD_BACK_S = 1.5  # less than a command's deadline
TIMEOUT_S = 15.0


async def _terminate(scene: Scene) -> str:
    """The ledger stands still, so that all of them wait; then it goes on."""
    await scene.mid_sale()
    offered = await asyncio.to_thread(scene.service.get, f"/v1/availability?program={PROGRAM}")
    quotas = [quota["id"] for quota in offered["quotas"]]
    (valkey,) = scene.service.pids(Part.VALKEY)
    (front,) = scene.service.pids(Part.FRONT)
    answers: Counter[int] = Counter()
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as client:

        async def claim(number: int) -> None:
            group = [person(number, scene.crowd.plan.seed)]
            call = claim_call(group, quotas[number % len(quotas)], f"in-flight-{number}")
            sent_ms = time.time() * 1000
            try:
                url = scene.service.url + call.path
                async with client.request(call.method, url, headers=call.headers, data=call.body) as response:
                    answered = read_answer(response.status, response.headers, await response.read())
            except (aiohttp.ClientError, OSError, TimeoutError):
                answered = Answered(outcome=NO_ANSWER)
            answers[answered.outcome] += 1
            scene.crowd.history.append(exchange(number, call, answered, sent_ms))

        os.kill(valkey, signal.SIGSTOP)
        try:
            asked = [asyncio.create_task(claim(number)) for number in range(FIRST, FIRST + IN_FLIGHT)]
            await asyncio.sleep(HELD_BACK_S)
            waiting = IN_FLIGHT - answers.total()
            os.kill(front, signal.SIGTERM)
            await asyncio.sleep(HELD_BACK_S / 5)
        finally:
            os.kill(valkey, signal.SIGCONT)
        await asyncio.gather(*asked)
    if waiting < IN_FLIGHT:
        raise Missed(f"only {waiting} requests were in flight")
    if answers[NO_ANSWER] or not set(answers) <= {201, 409, 503}:
        raise Missed(f"the {IN_FLIGHT} were answered {dict(answers)}")
    told = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(answers.items()))
    return f"{waiting} in flight, answered {told}"


FAULTS = (Fault(name="terminate-front", strike=_terminate, processes=1, places=1200, people=1300, short=True),)
