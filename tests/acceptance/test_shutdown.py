"""A front that is stopped finishes its requests and ends its streams."""

import asyncio
import contextlib
import re
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
    async with asyncio.timeout(60):
        await stream.read()
    assert (await stack.seen(quota, lambda q: q.counts.held == 50)).remaining == 50
    for _, writer in connections:
        writer.close()


async def test_whoever_was_accepted_a_moment_before_is_answered(
    stack: Any, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = await stack.quota()
    loop: Any = asyncio.get_running_loop()
    accept, accepting = loop._accept_connection, loop.create_future()

    def noted(*arguments: Any) -> None:
        if not accepting.done():
            accepting.set_result(None)  # first, so that the front stops before the loop takes up what it accepts now
        accept(*arguments)

    monkeypatch.setattr(loop, "_accept_connection", noted)

    async def claim(host: str, port: int) -> bytes:
        reader, writer = await asyncio.open_connection(host, port)
        with contextlib.closing(writer):
            writer.write(raw_claim(stack, quota, 0))
            return await reader.readline()

    async with asyncio.timeout(60):
        async with listening(stack.front) as url:
            host, _, port = url.removeprefix("http://").partition(":")
            answer = asyncio.ensure_future(claim(host, int(port)))
            await accepting
        assert await answer == b"HTTP/1.1 201 Created\r\n"


@pytest.mark.parametrize("kept", [True, False])
async def test_whoever_is_connected_gets_an_answer(stack: Any, listening: Any, kept: bool) -> None:
    quota = await stack.quota(capacity=100_000)
    answers: list[bytes] = []

    async def keep_claiming(host: str, port: int, client: int) -> None:
        for number in range(100_000):
            try:
                reader, writer = await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                return
            with contextlib.closing(writer):
                closing = False
                while not closing:
                    writer.write(raw_claim(stack, quota, number * 100 + client))
                    head = await reader.readuntil(b"\r\n\r\n")  # an answer that is cut off fails the test
                    length = re.search(rb"Content-Length: ([0-9]+)", head)
                    assert length is not None
                    await reader.readexactly(int(length[1]))
                    answers.append(head[:12])
                    closing = not kept or b"Connection: close" in head

    async with asyncio.timeout(100):
        async with listening(stack.front) as url:
            host, _, port = url.removeprefix("http://").partition(":")
            clients = [asyncio.ensure_future(keep_claiming(host, int(port), client)) for client in range(24)]
            await stack.seen(quota, lambda q: q.counts.held > 500)
        await asyncio.gather(*clients)
    assert len(answers) > 500
    assert set(answers) <= {b"HTTP/1.1 201"}


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
