"""Overload of a front: slow callers, too many connections, more claims than the ledger can take."""

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from reservasi.bootstrap.fronts import open_front
from reservasi.front.services import FrontServices

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLOW = 300
CROWD = 300


def with_settings(front: FrontServices, **changes: Any) -> FrontServices:
    return dataclasses.replace(front, settings=front.settings.model_copy(update=changes))


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


def content(stack: Any, quota: str, key: str) -> bytes:
    body = json.dumps(stack.body(quota)).encode()
    head = f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split(" ")[1]), headers, json.loads(await reader.readexactly(int(headers["Content-Length"])))


async def drip(url: str, request: bytes) -> tuple[int, bool]:
    """Send a byte now and then; the answer's status, and whether the connection was closed after it."""
    reader, writer = await connect(url)
    answered = asyncio.create_task(answer(reader))
    try:
        for byte in request:
            if answered.done():
                break
            writer.write(bytes([byte]))
            await asyncio.wait([answered], timeout=0.1)
        status, _, _ = await answered
        return status, await ended(reader)
    finally:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether nothing comes any more; a byte that crossed the close on its way makes the kernel say it by a reset."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("part", ["head", "body"])
async def test_slow_callers_are_timed_out_and_disturb_nobody(stack: Any, listening: Any, part: str) -> None:
    quota = await stack.quota(capacity=100)
    slow = content(stack, quota, "slow")
    if part == "body":
        head_bytes = slow.index(b"\r\n\r\n") + 4
        slow = slow[head_bytes:]
    times = {"head_timeout_ms": 60_000, "body_timeout_ms": 60_000, f"{part}_timeout_ms": 700}
    front = with_settings(stack.front, **times)
    async with listening(front) as url, asyncio.timeout(30):
        if part == "body":
            dripping = [asyncio.create_task(drip_after(url, content(stack, quota, "x"), 40)) for _ in range(SLOW)]
        else:
            dripping = [asyncio.create_task(drip(url, slow)) for _ in range(SLOW)]
        others = 0
        reader, writer = await connect(url)
        while not all(task.done() for task in dripping):
            writer.write(content(stack, quota, f"other-{others}"))
            status, _, _ = await answer(reader)
            assert status in (201, 409)
            others += 1
        writer.close()
        assert set(await asyncio.gather(*dripping)) == {(408, True)}
        assert others > 10


async def drip_after(url: str, request: bytes, kept_back: int) -> tuple[int, bool]:
    """Send all but the end of the body at once, and then nothing more."""
    reader, writer = await connect(url)
    try:
        writer.write(request[:-kept_back])
        status, _, _ = await answer(reader)
        return status, await ended(reader)
    finally:
        writer.close()


async def test_one_connection_too_many_is_told_so(stack: Any, listening: Any) -> None:
    quota = await stack.quota()
    async with listening(with_settings(stack.front, connections_max=16)) as url, asyncio.timeout(30):
        opened = [await connect(url) for _ in range(16)]
        for number, (reader, writer) in enumerate(opened):
            writer.write(content(stack, quota, f"in-{number}"))
            assert (await answer(reader))[0] in (201, 409)
        reader, writer = await connect(url)
        status, headers, problem = await answer(reader)
        assert (status, problem["type"], headers["Connection"]) == (503, "/problems/overloaded", "close")
        assert await reader.read() == b""
        opened.pop()[1].close()
        writer.close()

        async def let_in() -> bool:
            return await one(url, content(stack, quota, "again")) in (201, 409)

        await stack.eventually(let_in)
        for _, each in opened:
            each.close()


async def one(url: str, request: bytes) -> int:
    reader, writer = await connect(url)
    writer.write(request)
    status, _, _ = await answer(reader)
    writer.close()
    return status


@asynccontextmanager
async def narrow_front(stack: Any) -> AsyncIterator[FrontServices]:
    """A front of its own that takes few claims at once."""
    settings = stack.front.settings.model_copy(update={"batch_items_max": 4, "queue_delay_target_ms": 1})
    async with open_front(settings) as front:
        assert await front.availability.wait_ready(10)
        yield front


async def test_a_crowd_is_served_or_told_to_come_again(stack: Any, listening: Any) -> None:
    quota = await stack.quota(capacity=100_000)
    held = await stack.held(quota)
    statuses: Counter[int] = Counter()
    managed = {"Authorization": f"Bearer {held['manage_token']}"}
    stop = asyncio.Event()

    async def caller(url: str, number: int) -> None:
        reader, writer = await connect(url)
        turn = 0
        while not stop.is_set():
            writer.write(content(stack, quota, f"crowd-{number}-{turn}"))
            status, headers, body = await answer(reader)
            statuses[status] += 1
            if status == 503:
                assert body["type"] == "/problems/overloaded"
                assert 1 <= int(headers["Retry-After"]) <= 5
            turn += 1
        writer.close()

    async with narrow_front(stack) as front, listening(front) as url, asyncio.timeout(60):
        callers = [asyncio.create_task(caller(url, number)) for number in range(CROWD)]
        try:
            while not (statuses[503] > 100 and statuses[201] > 100):
                # Who has a place already is answered meanwhile.
                async with stack.client.get(f"{url}/v1/reservations/{held['id']}", headers=managed) as response:
                    assert response.status == 200
        finally:
            stop.set()
            await asyncio.gather(*callers)
        assert set(statuses) == {201, 503}
        # Once the crowd has gone, everybody is taken again.

        async def taken() -> bool:
            return await one(url, content(stack, quota, "after")) == 201

        await stack.eventually(taken)
        await stack.seen(quota, lambda q: q.counts.held > statuses[201])  # every 201 is a place
