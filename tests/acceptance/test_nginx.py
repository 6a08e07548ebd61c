"""nginx with the shipped file before a front: reads of many people cause almost no requests to the front."""

import asyncio
import dataclasses
import gzip
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from loadtest.stage.http import HOST
from loadtest.stage.nginx import CONFIGURATION, nginx
from reservasi.front.api import problem_catalogue
from reservasi.front.api.languages import Language
from reservasi.front.api.problems import Refused, problem_body
from tests.acceptance.conftest import Stack, eventually
from tests.acceptance.waiting import create_room

CROWD = 200
UNCOMPRESSED = {"Accept-Encoding": "identity"}  # what nginx compresses has a weak entity tag
ANSWERED_IN: tuple[tuple[Language, str], ...] = (("en", "en-GB, id;q=0.5"), ("id", ""))

in_session = pytest.mark.asyncio(loop_scope="session")
pytestmark = pytest.mark.usefixtures("nginx_installed")


class Proxy:
    """nginx before a front of its own, which can be stopped alone."""

    def __init__(self, stack: Stack, front: AsyncExitStack) -> None:
        self.stack = stack  # speaks through nginx
        self._front = front

    async def stop_front(self) -> None:
        await self._front.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(stack: Stack, listening: type[Any], tmp_path: Path) -> AsyncIterator[Proxy]:
    async with AsyncExitStack() as front:
        origin = await front.enter_async_context(listening(stack.front))
        async with nginx(tmp_path, origin.removeprefix("http://")) as port:
            yield Proxy(stack.at(f"http://{HOST}:{port}"), front)


def answered(route: str, method: str = "GET") -> float:
    """How many requests of a route the fronts of this process have answered."""
    labels = ({"route": route, "method": method, "outcome": outcome} for outcome in ("2xx", "3xx", "4xx", "5xx"))
    return sum(REGISTRY.get_sample_value("reservasi_requests_total", each) or 0.0 for each in labels)


@in_session
async def test_a_crowd_costs_a_front_at_most_a_few_requests(proxy: Proxy) -> None:
    room = await create_room(proxy.stack)
    for path, route in (
        (f"/v1/openings/{room.id}/queue", "/v1/openings/{id}/queue"),
        ("/v1/openings", "/v1/openings"),
        (f"/v1/availability?program={proxy.stack.program}", "/v1/availability"),
    ):
        alone = await proxy.stack.request("GET", path)
        assert alone.status == 200
        before, started_s = answered(route), asyncio.get_running_loop().time()
        replies = await asyncio.gather(*(proxy.stack.request("GET", path) for _ in range(CROWD)))
        seconds = asyncio.get_running_loop().time() - started_s
        assert {reply.status for reply in replies} == {200}
        assert {reply.body for reply in replies} == {alone.body}
        assert {reply.headers["ETag"] for reply in replies} == {alone.headers["ETag"]}
        assert {reply.headers["X-Cache"] for reply in replies} <= {"HIT", "STALE", "UPDATING", "REVALIDATED", "EXPIRED"}
        assert answered(route) - before <= 2 + seconds


@in_session
async def test_all_spellings_of_gzip_share_one_cached_answer(proxy: Proxy) -> None:
    for _ in range(8):
        await proxy.stack.quota()
    path = f"/v1/availability?program={proxy.stack.program}"

    async def ask(accepted: str) -> tuple[bytes, str]:
        headers = {"Accept-Encoding": accepted}
        address = proxy.stack.url + path
        async with proxy.stack.client.get(address, headers=headers, auto_decompress=False) as response:
            assert "Accept-Encoding" in response.headers["Vary"]
            return await response.read(), response.headers.get("Content-Encoding", "")

    plain, _ = await ask("identity")
    before, started_s = answered("/v1/availability"), asyncio.get_running_loop().time()
    takes = [f"gzip, x{number};q=0.5" for number in range(20)] + ["br;q=1, gzip;q=0.8", "gzip;q=1.0", "deflate,gzip"]
    for body, coding in await asyncio.gather(*map(ask, takes)):
        assert (gzip.decompress(body), coding) == (plain, "gzip")
    for body, coding in await asyncio.gather(*map(ask, ["gzip;q=0", "identity", "br", "gzip; q=0.000, br"])):
        assert (body, coding) == (plain, "")
    seconds = asyncio.get_running_loop().time() - started_s
    assert answered("/v1/availability") - before <= 2 * (2 + seconds)


@in_session
async def test_a_cold_cache_lets_one_through(proxy: Proxy) -> None:
    room = await create_room(proxy.stack)
    path, route = f"/v1/openings/{room.id}/queue", "/v1/openings/{id}/queue"
    before, started_s = answered(route), asyncio.get_running_loop().time()
    replies = await asyncio.gather(*(proxy.stack.request("GET", path) for _ in range(CROWD)))
    seconds = asyncio.get_running_loop().time() - started_s
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert answered(route) - before <= 2 + seconds


@in_session
async def test_who_asks_after_a_pause_gets_no_old_answer(proxy: Proxy) -> None:
    quota = await proxy.stack.quota()
    path = f"/v1/availability?program={proxy.stack.program}"
    await proxy.stack.request("GET", path)
    await proxy.stack.held(quota)
    await proxy.stack.seen(quota, lambda each: each.counts.held == 1)
    await asyncio.sleep(2.0)  # what is good for a second has ended
    reply = await proxy.stack.request("GET", path)
    assert reply.headers["X-Cache"] in ("EXPIRED", "REVALIDATED")
    assert [each["remaining"] for each in reply.json["quotas"] if each["id"] == quota] == [9]


@in_session
async def test_it_says_what_a_front_says(proxy: Proxy, stack: Stack) -> None:
    await stack.quota(opens_at_ms=4_102_444_800_000)
    for path in ("/v1/openings", "/v1/programs", "/v1/openings?x=1", "/v1/nothing", "/openapi.json", "/openings"):
        direct, passed = [await each.request("GET", path, headers=UNCOMPRESSED) for each in (stack, proxy.stack)]
        assert (passed.status, passed.body) == (direct.status, direct.body)
        for name in ("Content-Type", "ETag", "Cache-Control", "Content-Security-Policy", "X-Content-Type-Options"):
            assert passed.headers.get(name) == direct.headers.get(name), (path, name)
        assert re.fullmatch(r"[0-9a-f]{32}", passed.headers["X-Request-Id"])  # nginx's, not a kept answer's
    for sent, expected in (("mine/1", "mine/1"), ("not usable", None)):
        named = await proxy.stack.request("GET", "/v1/openings", headers={"X-Request-Id": sent})
        refused = await proxy.stack.request("POST", "/v1/reservations", headers={"X-Request-Id": sent})
        for reply in (named, refused):
            assert len(reply.headers.getall("X-Request-Id")) == 1
            assert (reply.headers["X-Request-Id"] == expected) is (expected is not None)
    first = await proxy.stack.request("GET", "/v1/openings", headers=UNCOMPRESSED)
    again = await proxy.stack.request("GET", "/v1/openings", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


@in_session
async def test_claims_pass_through_and_are_never_cached(proxy: Proxy) -> None:
    quota = await proxy.stack.quota()
    replies = [await proxy.stack.claim(proxy.stack.body(quota)) for _ in range(3)]
    assert [reply.status for reply in replies] == [201] * 3
    assert len({reply.json["id"] for reply in replies}) == 3
    assert all("X-Cache" not in reply.headers for reply in replies)
    held = replies[0].json
    shown = [await proxy.stack.managed("GET", held)]
    assert (await proxy.stack.managed("POST", held, "/cancel")).status == 200
    shown.append(await proxy.stack.managed("GET", held))
    assert [reply.json["status"] for reply in shown] == ["held", "released"]
    assert (await proxy.stack.managed("GET", {**held, "manage_token": "x"})).status == 404


@in_session
async def test_an_old_answer_is_shown_while_no_front_is_there(proxy: Proxy) -> None:
    path = f"/v1/openings/{(await create_room(proxy.stack)).id}/queue"
    before = await proxy.stack.request("GET", path)
    await proxy.stop_front()

    async def stale() -> bool:
        reply = await proxy.stack.request("GET", path)
        assert (reply.status, reply.body) == (200, before.body)
        return bool(reply.headers["X-Cache"] in ("STALE", "UPDATING"))

    await eventually(stale)
    for language, content in ANSWERED_IN:
        headers = {"Accept-Language": content} if content else {}
        refused = await proxy.stack.claim(proxy.stack.body("nothing"), **headers)
        refused.is_problem("recovering", 503)
        assert refused.body == problem_body(Refused(problem_catalogue.RECOVERING), language)
        assert refused.headers["Content-Language"] == language
        assert 1 <= int(refused.headers["Retry-After"]) <= 5
        assert refused.headers["Cache-Control"] == "no-store"


@in_session
async def test_joins_pass_through_and_the_queue_moves(proxy: Proxy) -> None:
    room = dataclasses.replace(await create_room(proxy.stack, opens_in_ms=2000), stack=proxy.stack)
    people = [proxy.stack.applicant() for _ in range(3)]
    tickets = [await room.joined(person) for person in people]
    assert len({ticket["ticket"] for ticket in tickets}) == 3
    queue = await room.opened()
    assert queue["joined"] == 3
    refused = max(zip(people, tickets, strict=True), key=lambda each: room.number(queue, each[1]))
    await room.admit_all()
    assert (await room.claim(refused[0], refused[1]["ticket"])).status == 201


@in_session
async def test_changes_are_told_at_once(proxy: Proxy) -> None:
    quota = await proxy.stack.quota()
    url = f"{proxy.stack.url}/v1/availability/stream?program={proxy.stack.program}"
    async with proxy.stack.client.get(url) as stream, asyncio.timeout(60):
        assert stream.headers["Content-Type"] == "text/event-stream"
        data = b""
        while quota.encode() not in data:
            data += await stream.content.readany()
        held = await proxy.stack.held(quota)
        data = b""
        while b'"remaining":9' not in data:
            data += await stream.content.readany()
    assert held["places"] == 1


@in_session
async def test_large_bodies_are_refused_in_our_words(proxy: Proxy) -> None:
    for size in (20_000, 100_000):
        async with aiohttp.ClientSession() as client:  # nginx closes the connection after it
            url = f"{proxy.stack.url}/v1/reservations"
            headers = {"Accept-Language": "en", "Idempotency-Key": "a" * 16}
            async with client.post(url, data=b" " * size, headers=headers) as reply:
                assert reply.status == 413
                assert await reply.read() == problem_body(Refused(problem_catalogue.BODY_TOO_LARGE), "en")


@in_session
async def test_a_front_hears_who_asks_and_keeps_its_connection(tmp_path: Path) -> None:
    heads: list[str] = []
    connections = 0

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError):  # nginx has gone
            while True:
                heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(origin, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, nginx(tmp_path, f"{host}:{port}") as nginx_port, aiohttp.ClientSession() as client:
        for _ in range(3):
            async with client.get(
                f"http://{HOST}:{nginx_port}/v1/programs", headers={"X-Forwarded-For": "203.0.113.7"}
            ) as reply:
                assert reply.status == 200
    assert ["x-forwarded-for: 203.0.113.7, 127.0.0.1\r\n" in head for head in heads] == [True] * 3
    assert connections == 1


@in_session
async def test_who_asks_too_often_is_told_to_wait(stack: Stack, tmp_path: Path) -> None:
    origin = stack.url.removeprefix("http://")
    async with nginx(tmp_path, origin, ("rate=200r/s", "rate=1r/m"), ("burst=1000 ", "burst=1 ")) as port:
        limited = stack.at(f"http://{HOST}:{port}")
        replies = [await limited.request("GET", "/v1/openings") for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 429, 429]
    replies[-1].is_problem("rate-limited", 429)
    assert 1 <= int(replies[-1].headers["Retry-After"]) <= 5


def test_what_it_says_itself_is_what_fronts_say() -> None:
    text = CONFIGURATION.read_text().replace("\\'", "'")
    for kind in (
        problem_catalogue.RECOVERING,
        problem_catalogue.OVERLOADED,
        problem_catalogue.RATE_LIMITED,
        problem_catalogue.BODY_TOO_LARGE,
    ):
        for language in ("id", "en"):
            body = problem_body(Refused(kind), language).decode()
            assert f"{language} '{body}';" in text
    assert not re.search(r"proxy_cache_(min_uses|methods)|proxy_ignore_headers (?!Vary;)", text)


@in_session
async def test_callers_who_half_close_get_their_answer(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = await proxy.stack.quota(capacity=100)
    connection = proxy.stack.front.reservations._groups[proxy.stack.program]._connection
    call = connection.call

    async def slow(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.3)  # so that nginx notices the half-closing before the answer
        return await call(*args, **options)

    async def claim(number: int) -> bytes:
        host, _, port = proxy.stack.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps(proxy.stack.body(quota)).encode()
        head = (
            f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: half-{number}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(connection, "call", slow)
        answers = await asyncio.gather(*(claim(number) for number in range(50)))
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 201"}
    await proxy.stack.seen(quota, lambda view: view.counts.held == 50)
