"""Faults of callers: answers that are lost, half-closed and slow connections; and claims of a fault's own."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec

from loadtest.checker.history import NO_ANSWER
from loadtest.crowd.crowd import open_client
from loadtest.crowd.scenario import Answered, Call, claim_call, exchange, managed_call, read_answer
from loadtest.faults.fault import Fault, Missed, Scene, open_proxy
from loadtest.stage import http
from loadtest.stage.people import person
from loadtest.stage.proxy import Streams

TIMEOUT_S = 15.0
REPEATS = 20
STUBBORN = 10  # people whose every answer is lost so often
ROUNDS = 3
LOST_TIMEOUT_S = 20.0
HALF_CLOSING = 100
FIRST_STUBBORN, FIRST_HALF_CLOSING = 5_000_000, 9_000_000  # numbers of people
SLOW_S = 5.0  # for which slow callers are in the way
PACE_S = 0.2  # between two bytes of a slow one
WAIT_MAX_S = 3.0  # of a claim beside them
RECEIVE_BYTES = 2048  # of a caller who reads nothing: soon full
BUFFER_BYTES = 1 << 16


async def claim_at_once(scene: Scene, quotas: Sequence[str], people: range, answers: Counter[int]) -> None:
    """Let all of them claim at the same time, once; `answers` counts their answers as they come."""
    async with open_client() as client:

        async def claim(number: int) -> None:
            group = [person(number, scene.crowd.plan.seed)]
            call = claim_call(group, quotas[number % len(quotas)], f"at-once-{number}")
            answered = await scene.crowd.send(client, number, call)
            answers[answered.outcome] += 1

        await asyncio.gather(*map(claim, people))


async def _lose_behind_front(scene: Scene) -> str:
    """The ledger carries a batch out, and its answer is lost, again and again."""
    proxy = scene.proxy
    assert proxy is not None
    for number in range(ROUNDS):
        await scene.taken(0.1 + 0.2 * number)
        proxy.lose(REPEATS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(proxy.all_lost.wait(), LOST_TIMEOUT_S)
    if proxy.lost < ROUNDS * REPEATS:
        raise Missed(f"only {proxy.lost} answers were lost")
    return f"{proxy.lost} replies dropped by a proxy, {REPEATS} in a row"


async def _lose_before_front(scene: Scene) -> str:
    """Some people get no answer twenty times to each request, and then the answer that was given first."""
    await scene.mid_sale()
    quotas = await scene.quotas_left(STUBBORN)
    people = range(FIRST_STUBBORN, FIRST_STUBBORN + STUBBORN)
    lost = sum(await asyncio.gather(*(_stubborn(scene, number, quotas[number % len(quotas)]) for number in people)))
    return f"{lost} replies dropped by a proxy, retried {REPEATS} times"


async def _stubborn(scene: Scene, number: int, quota: str) -> int:
    """Claim, confirm and maybe cancel through a proxy; the number of answers that it lost."""
    address = urlsplit(scene.service.url)
    async with (
        open_proxy(lambda: asyncio.open_connection(address.hostname, address.port), b"HTTP/1.1") as proxy,
        open_client() as client,
    ):

        async def ask(call: Call, *expected: int) -> Answered:
            once = msgspec.structs.replace(call, headers={**call.headers, "Connection": "close"})
            for lost in (*[1] * REPEATS, 0):
                proxy.lose(lost)
                answered = await scene.crowd.send(client, number, once, f"http://{http.HOST}:{proxy.port}")
            if answered.outcome not in expected:
                raise Missed(f"a {call.name} was answered {answered.outcome} {answered.body.get('type', '')}")
            return answered

        group = [person(number, scene.crowd.plan.seed)]
        held = (await ask(claim_call(group, quota, f"stubborn-{number}"), 201)).body
        await ask(managed_call("confirm", "POST", held, "/confirm", {}), 200, 202)
        if number % 2:
            await ask(managed_call("cancel", "POST", held, "/cancel"), 200, 202)
        if proxy.lost < 2 * REPEATS:
            raise Missed(f"only {proxy.lost} answers were lost")
        return proxy.lost


async def _half_close(scene: Scene) -> str:
    """Callers who close their side of the connection behind the request are answered."""
    await scene.mid_sale()
    quotas = await scene.quotas_left()
    people = range(FIRST_HALF_CLOSING, FIRST_HALF_CLOSING + HALF_CLOSING)
    claims = (_claim_and_close(scene, number, quotas[number % len(quotas)]) for number in people)
    answers = Counter(await asyncio.gather(*claims))
    if answers[NO_ANSWER] or not answers[201]:
        raise Missed(f"the {HALF_CLOSING} who half-closed were answered {dict(answers)}")
    return f"{HALF_CLOSING} half-closed behind their claim, answered " + ", ".join(
        f"{count} x {outcome}" for outcome, count in sorted(answers.items())
    )


async def _claim_and_close(scene: Scene, number: int, quota: str) -> int:
    call = claim_call([person(number, scene.crowd.plan.seed)], quota, f"half-closing-{number}")
    sent_ms = time.time() * 1000
    answered = Answered(outcome=NO_ANSWER)
    async with _connected(scene) as (reader, writer):
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(call.encode())
            writer.write_eof()
            async with asyncio.timeout(TIMEOUT_S):
                answer = http.read_answer(await reader.read())
            if answer is not None:
                answered = read_answer(answer.status, answer.headers, answer.body)
    scene.crowd.history.append(exchange(number, call, answered, sent_ms))
    return answered.outcome


async def _stand_in_the_way(scene: Scene) -> str:
    """Three clients: one sends slowly, one does not read a long answer, one does not read a live stream."""
    await scene.mid_sale()
    path = f"?program={scene.program}"
    async with (
        _connected(scene) as slow,
        _connected(scene, RECEIVE_BYTES) as deaf,
        _connected(scene, RECEIVE_BYTES) as full,
    ):
        deaf[1].write(http.request("GET", f"/v1/availability{path}", {}) * 50)
        full[1].write(http.request("GET", f"/v1/availability/stream{path}", {}))
        since_ms = time.time() * 1000
        for byte in b"POST /v1/reservations HTTP/1.1\r\n"[: int(SLOW_S / PACE_S)]:
            slow[1].write(bytes([byte]))
            await asyncio.sleep(PACE_S)
        until_ms = time.time() * 1000
        if not (await full[0].read(len(b"HTTP/1.1 200"))).endswith(b" 200"):
            raise Missed("there was no stream to be filled")
    beside = [e for e in scene.exchanges(since_ms, until_ms) if e.call == "claim"]
    slowest_s = max((e.answered_ms - e.sent_ms for e in beside), default=0) / 1000
    if not beside or slowest_s > WAIT_MAX_S:
        raise Missed(f"{len(beside)} claims beside them, the slowest answered after {slowest_s:.1f} s")
    return f"a slow caller, one who reads nothing and a full stream; {len(beside)} claims beside them meanwhile"


@asynccontextmanager
async def _connected(scene: Scene, receive_bytes: int = 0) -> AsyncIterator[Streams]:
    """A connection to a front; one that may receive little takes nothing more until it is read."""
    address = urlsplit(scene.service.url)
    wire = socket.socket()
    wire.setblocking(False)
    if receive_bytes:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await asyncio.get_running_loop().sock_connect(wire, (address.hostname, address.port))
    reader, writer = await asyncio.open_connection(sock=wire, limit=receive_bytes or BUFFER_BYTES)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


FAULTS = (
    Fault(name="replies-lost-ledger", strike=_lose_behind_front, through_proxy=True, places=600, people=750),
    Fault(name="replies-lost-front", strike=_lose_before_front, places=600, people=750),
    Fault(name="half-closing-callers", strike=_half_close, places=600, people=700),
    Fault(name="slow-callers", strike=_stand_in_the_way, places=900, people=1200, at_once=30),
)
