"""Lost answers: between front and ledger, and between people and front; whoever hears nothing asks again."""

import asyncio
import contextlib
import time
from urllib.parse import urlsplit

import aiohttp

from loadtest.checker.history import NO_ANSWER
from loadtest.crowd.scenario import Answered, Call, claim_call, exchange, managed_call, read_answer
from loadtest.faults.claims import quotas_left
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.proxy import open_proxy
from loadtest.stage.people import person

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
    return f"{proxy.lost} replies dropped by a proxy, {REPEATS} in a row"


async def _before_front(scene: Scene) -> str:
    """Some people hear nothing twenty times whatever they ask, and then the answer that they were given first."""
    await scene.mid_sale()
    quotas = await quotas_left(scene, STUBBORN)
    people = range(FIRST_STUBBORN, FIRST_STUBBORN + STUBBORN)
    lost = sum(await asyncio.gather(*(_stubborn(scene, number, quotas[number % len(quotas)]) for number in people)))
    return f"{lost} replies dropped by a proxy, retried {REPEATS} times"


async def _stubborn(scene: Scene, number: int, quota: str) -> int:
    """Claim, confirm and maybe cancel behind a proxy of one's own; how many answers were lost."""
    address = urlsplit(scene.service.url)
    async with open_proxy(b"HTTP/1.1") as proxy, aiohttp.ClientSession(trust_env=False) as client:
        proxy.open = lambda: asyncio.open_connection(address.hostname, address.port)
        url = f"http://127.0.0.1:{proxy.port}"

        async def send(call: Call) -> Answered:
            headers = {**call.headers, "Connection": "close"}
            sent_ms = time.time() * 1000
            try:
                async with client.request(
                    call.method, url + call.path, headers=headers, data=call.body or None
                ) as response:
                    answered = read_answer(response.status, response.headers, await response.read())
            except (aiohttp.ClientError, OSError):
                answered = Answered(outcome=NO_ANSWER)
            scene.crowd.history.append(exchange(number, call, answered, sent_ms))
            return answered

        async def ask(call: Call, expected: frozenset[int]) -> Answered:
            for _ in range(REPEATS):
                proxy.lose(1)
                await send(call)
            proxy.lose(0)
            answered = await send(call)
            if answered.outcome not in expected:
                raise Missed(f"a {call.name} was answered {answered.outcome} {answered.body.get('type', '')}")
            return answered

        group = [person(number, scene.crowd.plan.seed)]
        held = (await ask(claim_call(group, quota, f"stubborn-{number}"), frozenset({201}))).body
        await ask(managed_call("confirm", "POST", held, "/confirm", {}), frozenset({200, 202}))
        if number % 2:
            await ask(managed_call("cancel", "POST", held, "/cancel"), frozenset({200, 202}))
        if proxy.lost < 2 * REPEATS:
            raise Missed(f"only {proxy.lost} answers were lost")
        return proxy.lost


FAULTS = (
    Fault(name="replies-lost-ledger", strike=_behind_front, through_proxy=True, places=600, people=750),
    Fault(name="replies-lost-front", strike=_before_front, places=600, people=750, short=True),
)
