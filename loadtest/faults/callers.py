"""Callers who are not as most are, beside many: who half-closes is answered, who is slow keeps nobody waiting."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from loadtest.checker.history import NO_ANSWER
from loadtest.crowd.scenario import Answered, Call, claim_call, exchange, read_answer
from loadtest.faults.claims import quotas_left
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.proxy import Streams
from loadtest.stage.people import person

HALF_CLOSING = 100
FIRST_HALF_CLOSING = 9_000_000
TIMEOUT_S = 15.0
SLOW_S = 5.0  # for which they are in the way
PACE_S = 0.2  # between two bytes of who is slow
WAIT_MAX_S = 3.0  # of a claim beside them
RECEIVE_BYTES = 2048  # of who reads nothing: soon full
BUFFER_BYTES = 1 << 16
HEAD_END = b"\r\n\r\n"


async def _half_close(scene: Scene) -> str:
    await scene.mid_sale()
    quotas = await quotas_left(scene)
    people = range(FIRST_HALF_CLOSING, FIRST_HALF_CLOSING + HALF_CLOSING)
    told = await asyncio.gather(*(_claim_and_close(scene, number, quotas[number % len(quotas)]) for number in people))
    answers = Counter(told)
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
            writer.write(_request(scene, call))
            writer.write_eof()
            async with asyncio.timeout(TIMEOUT_S):
                answered = _answer(await reader.read())
    scene.crowd.history.append(exchange(number, call, answered, sent_ms))
    return answered.outcome


async def _stand_in_the_way(scene: Scene) -> str:
    """One sends a byte now and then, one reads nothing of a long answer, one nothing of a live stream that goes on."""
    await scene.mid_sale()
    path = f"?program={scene.program}"
    async with (
        _connected(scene) as slow,
        _connected(scene, RECEIVE_BYTES) as deaf,
        _connected(scene, RECEIVE_BYTES) as full,
    ):
        deaf[1].write(_request(scene, Call(name="", method="GET", path=f"/v1/availability{path}")) * 50)
        full[1].write(_request(scene, Call(name="", method="GET", path=f"/v1/availability/stream{path}")))
        since_ms = time.time() * 1000
        for byte in b"POST /v1/reservations HTTP/1.1\r\n"[: int(SLOW_S / PACE_S)]:
            slow[1].write(bytes([byte]))
            await asyncio.sleep(PACE_S)
        until_ms = time.time() * 1000
        if not (await full[0].read(len(b"HTTP/1.1 200"))).endswith(b" 200"):
            raise Missed("there was no stream to be filled")
    beside = [e for e in scene.crowd.history if e.call == "claim" and e.sent_ms > since_ms and e.answered_ms < until_ms]
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


def _request(scene: Scene, call: Call) -> bytes:
    headers: Mapping[str, str] = {
        "Host": urlsplit(scene.service.url).netloc,
        **call.headers,
        **({"Content-Length": str(len(call.body))} if call.body else {}),
    }
    lines = [f"{call.method} {call.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + HEAD_END + call.body


def _answer(raw: bytes) -> Answered:
    """Read a connection's bytes, up to its close, as one HTTP response; `NO_ANSWER` where the head is not whole."""
    head, found, body = raw.partition(HEAD_END)
    if not found:
        return Answered(outcome=NO_ANSWER)
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return read_answer(int(first.split()[1]), headers, body)


FAULTS = (
    Fault(name="half-closing-callers", strike=_half_close, places=600, people=700, short=True),
    Fault(name="slow-callers", strike=_stand_in_the_way, places=900, people=1200, at_once=30, short=True),
)
