"""Requests on kept connections: pipelined, in pieces, rate-limited, counted, and half-closed."""

import asyncio
import dataclasses
import json
import re
import socket
import struct
from typing import Any

import pytest
from aiohttp import web

from reservasi.front.app import create_app
from reservasi.front.serving import create_runner
from tests.acceptance.lines import LONG_WAY, Line, connect, request

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_requests_sent_ahead_are_answered_in_order(stack: Any, line: Line) -> None:
    quota = await stack.quota(capacity=50)
    bodies = [stack.body(quota) for _ in range(20)]
    for number, body in enumerate(bodies):
        line.writer.write(request(stack, body, f"ahead-{number}", *([LONG_WAY] if number % 3 == 1 else [])))
        if number % 4 == 0:
            await line.writer.drain()
    answers = [await line.answer() for _ in bodies]
    assert [status for status, _, _ in answers] == ["HTTP/1.1 201 Created"] * len(bodies)
    for body, number, (_, _, content) in zip(bodies, range(20), answers, strict=True):
        line.writer.write(request(stack, body, f"ahead-{number}"))
        assert (await line.answer())[2] == content


async def test_a_request_in_single_bytes_is_answered(stack: Any, line: Line) -> None:
    for byte in request(stack, stack.body(await stack.quota()), "bytes"):
        line.writer.write(bytes([byte]))
        await line.writer.drain()
    assert (await line.answer())[0] == "HTTP/1.1 201 Created"


async def test_metrics_count_both_ways(stack: Any, line: Line, long_line: Line) -> None:
    async def counted() -> float:
        from reservasi import metrics  # noqa: PLC0415 - of the process that the front of this test runs in

        await asyncio.sleep(2 * metrics.LAG_S)  # as a scrape does
        match = re.search(
            r'reservasi_requests_total\{[^}]*method="POST",outcome="2xx"[^}]*route="/v1/reservations"\} ([0-9.]+)',
            metrics.exposition().decode(),
        )
        return float(match[1]) if match else 0.0

    before = await counted()
    for key, on, headers in (("one", line, ()), ("two", long_line, (LONG_WAY,))):
        on.writer.write(request(stack, stack.body(await stack.quota()), key, *headers))
        await on.answer()
    assert await counted() == before + 2


async def test_a_network_that_asks_too_often_is_told_when_to_come_again(stack: Any, listening: Any) -> None:
    changes = {"rate_network_burst": 20, "rate_network_per_s": 0.1}
    front = dataclasses.replace(stack.front, settings=stack.front.settings.model_copy(update=changes))
    quota = await stack.quota(capacity=0)
    async with listening(front) as url:
        line = await connect(url)
        for number in range(25):
            request_headers = [f"X-Forwarded-For: 203.0.113.{number}"]
            line.writer.write(request(stack, stack.body(quota), f"often-{number}", *request_headers))
            status, headers, body = await line.answer()
            assert status.split(" ")[1] == ("409" if number < 20 else "429")
        assert json.loads(body)["type"] == "/problems/rate-limited"
        assert 1 <= int(headers["Retry-After"]) <= 12
        line.writer.write(request(stack, stack.body(quota), "elsewhere", "X-Forwarded-For: 198.51.100.1"))
        assert (await line.answer())[0].split(" ")[1] == "409"
        line.writer.close()


async def test_a_person_who_asks_too_often_is_told_when_to_come_again(stack: Any, line: Line) -> None:
    body = stack.body(await stack.quota())
    content = request(stack, body, "again")
    statuses = []
    for _ in range(stack.front.settings.rate_person_burst + 5):
        line.writer.write(content)
        statuses.append((await line.answer())[0].split(" ")[1])
    assert statuses[0] == "201"
    assert set(statuses) == {"201", "429"}


@pytest.mark.parametrize("way", ["short", "long"])
async def test_claims_of_callers_who_send_no_more_are_answered(
    stack: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Also where the claim still waits for the batch before it."""
    quota = await stack.quota(capacity=200)
    connection = stack.front.reservations._groups[stack.program]._connection
    call = connection.call

    async def slow(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.2)
        return await call(*args, **options)

    async def claim(number: int) -> tuple[str, str]:
        opened = await connect(stack.url)
        headers = [LONG_WAY] if way == "long" else []
        await asyncio.sleep(number % 10 * 0.03)  # so that most find a batch under way
        opened.writer.write(request(stack, stack.body(quota), f"half-{way}-{number}", *headers))
        opened.writer.write_eof()
        status, _, body = await opened.answer()
        assert await asyncio.wait_for(opened.reader.read(), 10) == b"", "the connection is closed after its answer"
        opened.writer.close()
        return status, json.loads(body)["id"]

    with monkeypatch.context() as patched:
        patched.setattr(connection, "call", slow)
        answers = await asyncio.gather(*(claim(number) for number in range(100)))
    assert {status for status, _ in answers} == {"HTTP/1.1 201 Created"}
    assert len({reservation for _, reservation in answers}) == 100
    await stack.seen(quota, lambda view: view.counts.held == 100)


MAX_BACKLOG_AT = 28  # in Linux' `tcp_info` of a listening socket


async def test_a_socket_of_gunicorn_keeps_the_backlog_of_the_settings(stack: Any) -> None:
    """As gunicorn's worker of aiohttp starts one, which names no backlog."""
    settings = stack.front.settings.model_copy(update={"backlog": 300})
    runner = create_runner(create_app(stack.front), settings)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0), backlog=300) as listening:
        try:
            await web.SockSite(runner, listening).start()
            facts = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            assert struct.unpack_from("I", facts, MAX_BACKLOG_AT) == (300,)
        finally:
            await runner.cleanup()
