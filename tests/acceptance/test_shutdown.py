"""A front that is told to stop finishes what it has begun, and ends its streams."""

import asyncio
import time
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_requests_in_flight_are_answered_and_streams_end(stack: Any, listening: Any) -> None:
    quota = await stack.quota(capacity=100)
    async with listening(stack.front) as url:
        stream = await stack.client.get(f"{url}/v1/availability/stream?program={stack.program}")
        assert (await stream.content.readline()) == b"event: availability\r\n"
        host, _, port = url.removeprefix("http://").partition(":")
        connections = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
        claims = [raw_claim(stack, quota, number) for number in range(50)]
        for (_, writer), claim in zip(connections, claims, strict=True):
            writer.write(claim)
        answers = [asyncio.ensure_future(reader.readline()) for reader, _ in connections]
        await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        started_s = time.monotonic()
    assert time.monotonic() - started_s < 5
    assert {await answer for answer in answers} == {b"HTTP/1.1 201 Created\r\n"}
    async with asyncio.timeout(5):
        await stream.read()
    assert (await stack.seen(quota, lambda q: q.counts.held == 50)).remaining == 50
    for _, writer in connections:
        writer.close()


def raw_claim(stack: Any, quota: str, number: int) -> bytes:
    applicant = stack.applicant()
    body = (
        f'{{"quota": "{quota}", "applicants": [{{"nik": "{applicant["nik"]}", "name": "Siti", '
        f'"birth_date": "1990-07-01"}}]}}'
    )
    head = (
        f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nIdempotency-Key: shutdown-{number}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()
