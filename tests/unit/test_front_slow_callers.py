"""Callers that read their answers slowly, or not at all: over real sockets, with both event loops."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiohttp import web

from reservasi.front.api.cors import NO_CORS
from reservasi.front.api.request import Request
from reservasi.front.http import connection
from tests.ledgers import eventually

ANSWER = b"x" * 4_000_000  # more than two sockets hold
KEEPALIVE_S = 0.2
LONG_S = 60.0
READ_BYTES_MAX = 262_144  # by the event loops, in one call
REQUEST = b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n"
Run = Callable[[Coroutine[Any, Any, None]], None]

both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


class Front:
    """What a connection asks of its process; answers at once, or when it is told to."""

    body_bytes_max = 1000
    cors = NO_CORS

    def __init__(self, answer: bytes | None) -> None:
        self.dispatcher = self
        self.stopping = asyncio.Event()
        self.connections: list[Any] = []
        self.requests = 0
        self.lost = False
        self._answer = answer

    def awaits_body(self, _method: str, _target: str) -> bool:
        return True

    def take(self, caller: Any, request: Request) -> bool:
        self.requests += 1
        if request.target == "/aiohttp":
            return False
        if self._answer is not None:
            caller.send(self._answer)
        return True

    def let_in(self, connection: Any) -> bool:
        self.connections.append(connection)
        return True

    def refusal(self, _data: bytes) -> None:
        return None

    def forget(self, _connection: object) -> None:
        self.lost = True

    def time(self, _connection: object, *, head: bool) -> None:
        pass


@asynccontextmanager
async def connected(
    answer: bytes | None, keepalive_s: float = KEEPALIVE_S
) -> AsyncIterator[tuple[Front, socket.socket]]:
    """A front with one caller, who reads nothing unless the test does."""

    async def handle(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=answer)

    loop, front, manager = asyncio.get_running_loop(), Front(answer), web.Server(handle)

    def new_connection() -> Any:
        return connection.Connection(manager, front, loop=loop, keepalive_timeout=keepalive_s)  # type: ignore[arg-type]

    listening = await loop.create_server(new_connection, "127.0.0.1", 0)
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        caller.setblocking(False)
        await loop.sock_connect(caller, listening.sockets[0].getsockname())
        yield front, caller
    listening.close()
    await listening.wait_closed()


async def taken(caller: socket.socket, size: int) -> int:
    """How many bytes come, at most so many, before the connection ends."""
    loop, count = asyncio.get_running_loop(), 0
    async with asyncio.timeout(20):
        while count < size and (data := await loop.sock_recv(caller, 65_536)):
            count += len(data)
    return count


def until(condition: Callable[[], bool]) -> Awaitable[None]:
    async def met() -> bool:
        return condition()

    return eventually(met)


@both_loops
def test_whoever_takes_nothing_is_answered_no_more(run: Run) -> None:
    async def ask() -> None:
        async with connected(ANSWER, LONG_S) as (front, caller):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(caller, REQUEST)
            await until(lambda: front.requests > 0)
            await loop.sock_sendall(caller, REQUEST)
            await until(lambda: front.connections[0]._received == REQUEST)  # read, and kept
            assert front.requests == 1
            assert await taken(caller, 2 * len(ANSWER)) == 2 * len(ANSWER)
            assert front.requests == 2

    run(ask())


@pytest.mark.parametrize("target", [b"/one", b"/aiohttp"])
@both_loops
def test_an_answer_that_is_left_lying_ends_the_connection(run: Run, target: bytes) -> None:
    async def ask() -> None:
        async with connected(ANSWER) as (front, caller):
            await asyncio.get_running_loop().sock_sendall(caller, REQUEST.replace(b"/one", target))
            await until(lambda: front.lost)
            assert front.requests == 1

    run(ask())


@both_loops
def test_shutting_down_waits_until_an_answer_was_taken(run: Run) -> None:
    async def ask() -> None:
        async with connected(ANSWER, LONG_S) as (front, caller):
            await asyncio.get_running_loop().sock_sendall(caller, REQUEST)
            await until(lambda: front.requests > 0)
            front.stopping.set()
            ending = asyncio.create_task(front.connections[0].shutdown(LONG_S))
            done, _ = await asyncio.wait([ending], timeout=KEEPALIVE_S)
            assert not done
            assert await taken(caller, 2 * len(ANSWER)) == len(ANSWER)
            await ending

    run(ask())


@both_loops
def test_a_connection_that_waited_for_its_answer_is_idle_afterwards(run: Run) -> None:
    async def ask() -> None:
        async with connected(None) as (front, caller):
            await asyncio.get_running_loop().sock_sendall(caller, REQUEST)
            await asyncio.sleep(3 * KEEPALIVE_S)  # in which it would be closed, did it not wait
            assert not front.lost
            front.connections[0].send(b"1")
            assert await taken(caller, 2) == 1
            await until(lambda: front.lost)

    run(ask())


@pytest.mark.parametrize("target", [b"/one", b"/aiohttp"])
@both_loops
def test_a_caller_who_goes_on_reading_gets_every_answer(run: Run, target: bytes) -> None:
    """Also where each check for idle connections finds more unsent than the one before, of a later answer."""

    async def ask() -> None:
        async with connected(ANSWER) as (front, caller):
            loop, count = asyncio.get_running_loop(), 4
            await loop.sock_sendall(caller, REQUEST.replace(b"/one", target) * count)
            read, whole = 0, count * len(ANSWER)
            async with asyncio.timeout(60):
                while read < whole and (data := await loop.sock_recv(caller, 1_000_000)):
                    read += len(data)
                    await asyncio.sleep(0.001)  # some checks long for all of them
            assert read >= whole
            assert front.requests == count

    run(ask())


@both_loops
def test_requests_that_are_sent_far_ahead_wait_in_the_socket(run: Run) -> None:
    async def ask() -> None:
        async with connected(b"1") as (front, caller):
            loop, count = asyncio.get_running_loop(), 40_000
            sending = asyncio.create_task(loop.sock_sendall(caller, REQUEST * count))  # 1.2 MB
            longest = 0

            def look() -> bool:
                nonlocal longest
                longest = max(longest, len(front.connections[0]._received) if front.connections else 0)
                return front.requests == count

            taking = asyncio.create_task(taken(caller, count))
            await until(look)
            await sending
            assert await taking == count
            assert longest < 2 * READ_BYTES_MAX

    run(ask())
