"""nginx with the shipped file limits claims and joins to the fronts, and refuses the others itself."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from loadtest.stage.http import HOST
from loadtest.stage.nginx import CONFIGURATION, nginx
from reservasi.front.api import problem_catalogue
from reservasi.front.api.languages import LANGUAGES
from reservasi.front.api.problem_type import MEDIA_TYPE
from reservasi.front.api.problems import RETRY_AFTER_S_MAX, Refused, problem_body
from reservasi.ledger.group_commit import GroupCommit
from tests.acceptance.conftest import Reply, Stack, eventually
from tests.acceptance.lines import connect, request
from tests.acceptance.waiting import Room, create_room

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("nginx_installed")]
AT_A_TIME = 2  # claims that nginx lets through here
REFUSED = 60  # claims: that all of them draw the same Retry-After has a chance of 5^-59
CROWD_LINE = "server 127.0.0.1:8080 max_fails=0 max_conns=256;"
CHUNK_BYTES = 65_536


class Door:
    """Stands between nginx and the front on the way of claims and joins; while it is shut, they are under way."""

    def __init__(self, host: str, port: int) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self._address = (host, port)

    async def let_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of nginx."""
        front_reader, front_writer = await asyncio.open_connection(*self._address)
        answers = asyncio.create_task(_copy(front_reader, writer))
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                self.waiting += 1
                await self.open.wait()
                self.waiting -= 1
                front_writer.write(chunk)
        except ConnectionError:
            pass  # nginx has ended
        finally:
            answers.cancel()
            for end in (writer, front_writer):
                end.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)


class Crowded:
    """nginx with `AT_A_TIME` claims under way, which wait at the door."""

    def __init__(self, stack: Stack, door: Door) -> None:
        self.stack = stack  # speaks through nginx
        self.door = door
        self._under_way: list[asyncio.Task[Reply]] = []

    async def fill(self, quota: str, count: int = AT_A_TIME) -> None:
        """So many claims are under way when this returns."""
        self.door.open.clear()
        claims = (self.stack.claim(self.stack.body(quota)) for _ in range(count))
        self._under_way = [asyncio.create_task(each) for each in claims]

        async def all_wait() -> bool:
            return self.door.waiting == count

        await eventually(all_wait)

    async def end(self) -> list[Reply]:
        """Open the door; the answers to those that were under way."""
        self.door.open.set()
        return await asyncio.gather(*self._under_way)


@pytest_asyncio.fixture(loop_scope="session")
async def crowded(stack: Stack, tmp_path: Path) -> AsyncIterator[Crowded]:
    origin = stack.url.removeprefix("http://")
    host, _, port = origin.partition(":")
    door = Door(host, int(port))
    async with await asyncio.start_server(door.let_through, HOST, 0) as server:
        doorway = "{}:{}".format(*server.sockets[0].getsockname()[:2])
        narrow = (CROWD_LINE, f"server {doorway} max_fails=0 max_conns={AT_A_TIME};")
        async with nginx(tmp_path, origin, narrow) as nginx_port:
            yield Crowded(stack.at(f"http://{HOST}:{nginx_port}"), door)
            door.open.set()


async def test_claims_beyond_the_bound_hear_what_a_front_would_say(
    crowded: Crowded, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = await stack.quota()
    body = stack.body(quota)
    await crowded.fill(quota)
    before = await stack.ledger_state()
    refused = {
        language: await crowded.stack.claim(body, "a" * 16, **{"Accept-Language": language}) for language in LANGUAGES
    }
    assert await stack.ledger_state() == before
    assert [reply.status for reply in await crowded.end()] == [201] * AT_A_TIME
    with monkeypatch.context() as busy:
        busy.setattr(GroupCommit, "admits_claims", property(lambda _: False))
        for language, reply in refused.items():
            reply.is_problem("overloaded", 503)
            expected = await stack.claim(body, "a" * 16, **{"Accept-Language": language})
            assert (reply.status, reply.body) == (expected.status, expected.body)
            for name in ("Content-Type", "Content-Language", "Cache-Control", "Vary"):
                assert reply.headers.get(name) == expected.headers.get(name), name
            assert 1 <= int(reply.headers["Retry-After"]) <= RETRY_AFTER_S_MAX
    assert (await crowded.stack.claim(body, "a" * 16)).status == 201  # the same key, once there is room


async def test_the_refused_come_back_at_different_moments(crowded: Crowded, stack: Stack) -> None:
    quota = await stack.quota()
    await crowded.fill(quota)
    replies = [await crowded.stack.claim({}) for _ in range(REFUSED)]
    assert {reply.status for reply in replies} == {503}
    waits = {int(reply.headers["Retry-After"]) for reply in replies}
    assert waits <= set(range(1, RETRY_AFTER_S_MAX + 1))
    assert len(waits) > 1
    await crowded.end()


async def test_whoever_holds_a_place_and_staff_are_served_meanwhile(crowded: Crowded, stack: Stack) -> None:
    quota = await stack.quota()
    held = [await stack.held(quota) for _ in range(2)]
    await crowded.fill(quota)
    through = crowded.stack
    (await through.claim(stack.body(quota))).is_problem("overloaded", 503)
    assert (await through.managed("POST", held[0], "/confirm")).status in (200, 202)
    assert (await through.managed("GET", held[0])).status == 200
    assert (await through.managed("POST", held[1], "/cancel")).status in (200, 202)
    assert (await through.request("GET", f"/v1/availability?program={stack.program}")).status == 200
    assert (await through.staff("GET", f"/v1/staff/quotas?program={stack.program}")).status == 200
    assert (await through.staff("PUT", f"/v1/staff/quotas/{quota}", json={"capacity": 20})).status == 200
    await crowded.end()


async def test_joins_are_counted_with_claims(crowded: Crowded, stack: Stack) -> None:
    room = await create_room(stack)
    through = Room(crowded.stack, room.id, room.quota, room.opens_at_ms)
    await crowded.fill(await stack.quota(), AT_A_TIME - 1)
    joining = asyncio.create_task(through.join(stack.applicant()))

    async def both_wait() -> bool:
        return crowded.door.waiting == AT_A_TIME

    await eventually(both_wait)
    (await through.join(stack.applicant())).is_problem("overloaded", 503)
    (await crowded.stack.claim({})).is_problem("overloaded", 503)
    assert (await through.queue())["state"] == "joining"
    await crowded.end()
    assert (await joining).status == 201


async def test_who_sends_slowly_takes_nobodys_room(crowded: Crowded, stack: Stack) -> None:
    quota = await stack.quota()
    slow = [await connect(crowded.stack.url) for _ in range(2 * AT_A_TIME)]
    for number, line in enumerate(slow):
        line.writer.write(request(stack, stack.body(quota), f"slow-{number:012d}", "Expect: 100-continue")[:-20])
        assert (await line.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")  # nginx waits for the rest
    assert [(await crowded.stack.claim(stack.body(quota))).status for _ in range(3)] == [201] * 3
    for line in slow:
        line.writer.close()


@pytest.mark.parametrize("seconds", [3, 17])
async def test_what_a_front_refuses_passes_unchanged(tmp_path: Path, seconds: int) -> None:
    body = problem_body(Refused(problem_catalogue.OVERLOADED), "en")
    lines = ("HTTP/1.1 503 Service Unavailable", f"Content-Type: {MEDIA_TYPE}", f"Retry-After: {seconds}")
    answer = "\r\n".join((*lines, f"Content-Length: {len(body)}")).encode() + b"\r\n\r\n" + body

    async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # nginx has gone
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        writer.close()

    async with await asyncio.start_server(front, HOST, 0) as server:
        origin = "{}:{}".format(*server.sockets[0].getsockname()[:2])
        async with nginx(tmp_path, origin) as port, aiohttp.ClientSession() as client:
            for path in ("/v1/reservations", "/v1/openings/x/tickets", "/v1/reservations/x/confirm"):
                async with client.post(f"http://{HOST}:{port}{path}") as reply:
                    assert (reply.status, await reply.read()) == (503, body)
                    assert reply.headers.getall("Retry-After") == [str(seconds)]


async def test_without_a_front_claims_are_not_called_too_many(crowded: Crowded, tmp_path: Path, stack: Stack) -> None:
    async with await asyncio.start_server(lambda *_: None, HOST, 0) as nobody:
        origin = "{}:{}".format(*nobody.sockets[0].getsockname()[:2])
    (tmp_path / "alone").mkdir()
    async with nginx(tmp_path / "alone", origin) as port:
        alone = crowded.stack.at(f"http://{HOST}:{port}")
        for reply in (await alone.claim({}), await alone.request("POST", "/v1/openings/x/tickets", json={})):
            reply.is_problem("recovering", 503)


async def test_both_ways_lead_to_the_same_fronts() -> None:
    groups: dict[str, list[Any]] = {
        name: re.findall(r"^    server (\S+) ", text, re.MULTILINE)
        for name, text in re.findall(r"^upstream (\S+) \{(.*?)^\}", CONFIGURATION.read_text(), re.MULTILINE | re.DOTALL)
    }
    assert set(groups) == {"reservasi", "reservasi_crowd"}
    assert groups["reservasi"] == groups["reservasi_crowd"] != []
