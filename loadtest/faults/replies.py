"""Lost answers: between front and ledger, and between people and front; whoever hears nothing asks again."""

import asyncio
import contextlib
import time
from urllib.parse import urlsplit

import aiohttp

from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.proxy import open_proxy
from loadtest.history import NO_ANSWER
from loadtest.people import person
from loadtest.program import PROGRAM
from loadtest.scenario import Answered, Call, claim_call, exchange, managed_call, read_answer

REPEATS = 20
STUBBORN = 10  # people whose every answer is lost so often
FIRST_STUBBORN = 5_000_000
ROUNDS = 3
WAIT_S = 20.0


async def _behind_front(scene: Scene) -> str:
    """The ledger carries a batch out, and its answer is lost, again and again."""
    proxy = scene.proxy
    assert proxy is not None
    for number in range(ROUNDS):
        await scene.taken(0.1 + 0.2 * number)
        proxy.lose(REPEATS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(proxy.all_lost.wait(), WAIT_S)
    if proxy.lost < ROUNDS * REPEATS:
        raise Missed(f"only {proxy.lost} answers were lost")
    return f"{proxy.lost} answers of the ledger lost, {REPEATS} in a row"


async def _before_front(scene: Scene) -> str:
    """Some people hear nothing twenty times whatever they ask, and then the answer that they were given first."""
    await scene.mid_sale()
    address = urlsplit(scene.service.url)
    offered = await asyncio.to_thread(scene.service.get, f"/v1/availability?program={PROGRAM}")
    quotas = [quota["id"] for quota in offered["quotas"] if quota["remaining"] > STUBBORN]
    async with open_proxy(b"HTTP/1.1") as proxy, aiohttp.ClientSession(trust_env=False) as client:
        proxy.open = lambda: asyncio.open_connection(address.hostname, address.port)
        url = f"http://127.0.0.1:{proxy.port}"

        async def ask(number: int, call: Call) -> Answered:
            for attempt in range(REPEATS + 1):
                proxy.lose(int(attempt < REPEATS))
                sent_ms = time.time() * 1000
                headers = {**call.headers, "Connection": "close"}
                try:
                    async with client.request(
                        call.method, url + call.path, headers=headers, data=call.body or None
                    ) as response:
                        answered = read_answer(response.status, response.headers, await response.read())
                except (aiohttp.ClientError, OSError):
                    answered = Answered(outcome=NO_ANSWER)
                scene.crowd.history.append(exchange(number, call, answered, sent_ms))
            return answered

        for number in range(FIRST_STUBBORN, FIRST_STUBBORN + STUBBORN):
            group = [person(number, scene.crowd.plan.seed)]
            held = await ask(number, claim_call(group, quotas[number % len(quotas)], f"stubborn-{number}"))
            _expect(held.outcome == 201, "a claim", held)
            confirmed = await ask(number, managed_call("confirm", "POST", held.body, "/confirm", {}))
            _expect(confirmed.outcome in (200, 202), "a confirmation", confirmed)
            if number % 2:
                cancelled = await ask(number, managed_call("cancel", "POST", held.body, "/cancel"))
                _expect(cancelled.outcome == 200, "a cancellation", cancelled)
    if proxy.lost < STUBBORN * 2 * REPEATS:
        raise Missed(f"only {proxy.lost} answers were lost")
    return f"{proxy.lost} answers of fronts lost, {REPEATS} for each request"


def _expect(condition: bool, what: str, answered: Answered) -> None:
    if not condition:
        raise Missed(f"{what} was answered {answered.outcome} {answered.body}")


FAULTS = (
    Fault(name="replies-lost-ledger", strike=_behind_front, through_proxy=True, places=600, people=750),
    Fault(name="replies-lost-front", strike=_before_front, places=600, people=750, short=True),
)
