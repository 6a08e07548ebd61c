"""A caller that half-closes after a complete request gets its answer, on both transports and event loops."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from aiohttp import web
from structlog.testing import capture_logs

from reservasi.front.api.request import Request
from reservasi.front.http import connection
from tests.unit.test_front_connection import FakeTransport, Gates, get

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS: dict[str, Run] = {"asyncio": asyncio.run, "uvloop": uvloop.run}
LATER_S = 0.05  # long after the end of the request was read


class SlowDispatcher:
    """Takes what is plain and begins with /plain, and answers a while after it was asked."""

    def awaits_body(self, _method: str, _target: str) -> bool:
        return True

    def take(self, caller: Any, request: Request) -> bool:
        if not request.target.startswith("/plain"):
            return False
        body = f"{request.target} {len(request.body)}"
        answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        asyncio.get_running_loop().call_later(LATER_S, caller.send, answer)
        return True


async def slow(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(LATER_S)
    return web.Response(text=f"{request.path} {len(await request.read())}")


class Served:
    """A listening socket of our connections."""

    def __init__(self) -> None:
        self.web = web.Server(slow)
        self.gates = Gates(SlowDispatcher())  # type: ignore[arg-type]

    async def __aenter__(self) -> "Served":
        loop = asyncio.get_running_loop()
        self.listening = await loop.create_server(
            lambda: connection.Connection(self.web, self.gates, loop=loop),  # type: ignore[arg-type]
            "127.0.0.1",
            0,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listening.close()
        await self.web.shutdown(1)

    async def ask(self, *sent: bytes) -> bytes:
        """All that is answered to a caller that sends these pieces and then no more."""
        port = self.listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in sent:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()

    async def all_closed(self) -> None:
        async with asyncio.timeout(10):
            while self.web.connections:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.01)


def chunked(target: str, *, complete: bool = True) -> bytes:
    end = b"0\r\n\r\n" if complete else b"3\r\nab"
    return f"POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n".encode() + end


CLOSING = b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
OLD = b"GET /long HTTP/1.0\r\n\r\n"
POSTED = b"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        ((get("/plain"),), ["/plain 0"]),
        ((POSTED,), ["/plain 4"]),
        ((POSTED[:-2], POSTED[-2:]), ["/plain 4"]),
        ((get("/plain"), POSTED, get("/plain")), ["/plain 0", "/plain 4", "/plain 0"]),
        ((get("/plain") + POSTED,), ["/plain 0", "/plain 4"]),
        ((get("/long"),), ["/long 0"]),
        ((get("/long"), get("/long")), ["/long 0"] * 2),
        ((get("/long"), get("/plain")), ["/long 0", "/plain 0"]),
        ((get("/plain"), get("/long")), ["/plain 0", "/long 0"]),
        ((chunked("/plain"),), ["/plain 2"]),
        ((CLOSING,), ["/long 0"]),
        ((OLD,), ["/long 0"]),
        ((get("/plain"), get("/plain")[:-2]), ["/plain 0"]),  # what is not complete is not answered
        ((get("/plain"), chunked("/long", complete=False)), ["/plain 0"]),
        ((get("/long"), chunked("/long", complete=False)), ["/long 0"]),
        ((chunked("/long", complete=False),), []),
        ((POSTED[:-1],), []),
        ((), []),
    ],
)
@pytest.mark.parametrize("loop", LOOPS)
def test_what_was_asked_for_completely_is_answered_in_order_and_the_connection_ends(
    loop: str, sent: tuple[bytes, ...], answers: list[str]
) -> None:
    async def many() -> None:
        async with Served() as served:
            for answered in await asyncio.gather(*(served.ask(*sent) for _ in range(20))):
                bodies = [part.partition(b"\r\n\r\n")[2].decode() for part in answered.split(b"HTTP/1.")[1:]]
                assert bodies == answers, answered
            await served.all_closed()

    with capture_logs():  # of requests that are not complete; a traceback takes half a second to draw
        LOOPS[loop](many())


KINDS = {
    "/plain 0": get("/plain"),
    "/plain 4": POSTED,
    "/long 0": get("/long"),
    "/long 4": POSTED.replace(b"/plain", b"/long"),
    "/plain 2": chunked("/plain"),
    "/long 6": chunked("/long").replace(b"2\r\nhi", b"6\r\n\r\n\r\n--"),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_requests_of_all_kinds_are_answered_in_order_wherever_their_bytes_are_cut(loop: str) -> None:
    async def ask(served: Served, seed: int) -> None:
        rng = random.Random(seed)
        answers = rng.choices(list(KINDS), k=20)
        sent = b"".join(KINDS[each] + rng.choice([b"", b"\r\n"]) for each in answers)
        cuts = sorted(rng.sample(range(len(sent)), rng.choice([0, 5, 300])))
        answered = await served.ask(*(sent[begin:end] for begin, end in pairwise([0, *cuts, len(sent)])))
        bodies = [part.partition(b"\r\n\r\n")[2].decode() for part in answered.split(b"HTTP/1.")[1:]]
        assert bodies == answers, seed

    async def many() -> None:
        async with Served() as served:
            await asyncio.gather(*(ask(served, seed) for seed in range(50)))
            await served.all_closed()

    LOOPS[loop](many())


async def test_a_request_stays_behind_one_that_aiohttp_has_not_begun() -> None:
    """Between taking a request from its parser and beginning it, aiohttp looks idle."""

    async def nobody(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    loop = asyncio.get_running_loop()
    protocol: Any = connection.Connection(web.Server(nobody), Gates(SlowDispatcher()), loop=loop)  # type: ignore[arg-type]
    protocol.connection_made(FakeTransport())
    await asyncio.sleep(0)
    protocol.data_received(get("/long"))
    await asyncio.sleep(0)
    assert not protocol._messages
    protocol.data_received(get("/plain"))
    assert protocol._state is connection.State.AIOHTTP, "it would be answered before the first one"
    protocol.connection_lost(None)
