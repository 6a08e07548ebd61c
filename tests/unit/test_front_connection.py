"""Connections with bytes that come in pieces, before an answer, or after one."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from reservasi.errors import Overloaded
from reservasi.front.api.cors import NO_CORS
from reservasi.front.api.request import Request
from reservasi.front.http import connection
from reservasi.front.http.request_head import Incomplete, read_request
from reservasi.ledger.submitted import Submitted
from reservasi.model import Find


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = self.aborted = False
        self.unsent = 0

    def write(self, data: Any) -> None:
        self.sent.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class LaterDispatcher:
    """Takes every request, and answers when the test says so."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    def awaits_body(self, _method: str, _target: str) -> bool:
        return True

    def take(self, _caller: object, request: Request) -> bool:
        self.targets.append(request.target)
        return True


class Gates:
    body_bytes_max = 1000
    cors = NO_CORS

    def __init__(self, dispatcher: LaterDispatcher) -> None:
        self.dispatcher = dispatcher
        self.stopping = asyncio.Event()

    def let_in(self, _connection: object) -> bool:
        return True

    def refusal(self, _data: bytes) -> None:
        return None

    def forget(self, _connection: object) -> None:
        pass

    def time(self, _connection: object, *, head: bool) -> None:
        pass


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


Opened = tuple[Any, LaterDispatcher, FakeTransport]


@pytest.fixture
def open_connection() -> Callable[[], Opened]:
    def opened() -> Opened:
        async def nobody(_request: web.BaseRequest) -> web.StreamResponse:
            raise AssertionError("aiohttp is not asked")

        dispatcher, transport = LaterDispatcher(), FakeTransport()
        protocol: Any = connection.Connection(web.Server(nobody), Gates(dispatcher), loop=asyncio.get_running_loop())  # type: ignore[arg-type]
        protocol.connection_made(transport)
        return protocol, dispatcher, transport

    return opened


async def turn() -> None:
    """Let what is due run."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_what_comes_between_an_answer_and_what_was_sent_ahead_stays_behind_it(
    open_connection: Callable[[], Opened],
) -> None:
    protocol, dispatcher, transport = open_connection()
    protocol.data_received(get("/one"))
    protocol.data_received(get("/two")[:10])
    protocol.send(b"1")
    protocol.data_received(get("/two")[10:])  # before the loop has taken up the first ten bytes
    await turn()
    assert dispatcher.targets == ["/one", "/two"]
    protocol.send(b"2")
    assert transport.sent == [b"1", b"2"]
    protocol.connection_lost(None)


async def test_a_request_has_one_answer(open_connection: Callable[[], Opened]) -> None:
    protocol, _, transport = open_connection()
    protocol.data_received(get("/one"))
    protocol.send(b"1")
    protocol.send(b"again")
    assert transport.sent == [b"1"]
    protocol.connection_lost(None)


async def test_an_answer_at_shutdown_closes_the_connection(open_connection: Callable[[], Opened]) -> None:
    protocol, _, transport = open_connection()
    protocol.data_received(get("/one"))
    ending = asyncio.create_task(protocol.shutdown(5))
    await turn()
    assert transport.sent == []
    protocol._arrivals.stopping.set()
    protocol.send(b"1")
    await ending
    assert transport.sent == [b"1"]
    assert transport.closed
    protocol.connection_lost(None)


async def test_what_a_lost_connection_waited_for_is_given_up(open_connection: Callable[[], Opened]) -> None:
    protocol, _, _ = open_connection()
    protocol.data_received(get("/one"))
    answers: list[object] = []
    submitted = Submitted(Find(reservation_id="x"), answers.append, 0.0, 1.0)
    protocol.waits_for(submitted)
    protocol.connection_lost(None)
    assert submitted.done
    submitted.finish(Overloaded("late"))
    assert answers == []


async def test_nothing_is_sent_for_a_connection_that_was_lost_before(open_connection: Callable[[], Opened]) -> None:
    """Who had to wait for the view may have gone meanwhile."""
    protocol, _, _ = open_connection()
    protocol.data_received(get("/one"))
    protocol.connection_lost(None)
    submitted = Submitted(Find(reservation_id="x"), lambda _: None, 0.0, 1.0)
    protocol.waits_for(submitted)
    assert submitted.done


async def test_a_body_that_drips_is_read_once_it_is_whole(
    open_connection: Callable[[], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def reading(data: bytes, most: int) -> Request | Incomplete:
        read.append(len(data))
        return read_request(data, most)

    monkeypatch.setattr(connection, "read_request", reading)
    protocol, dispatcher, _ = open_connection()
    whole = b"POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n" + b"b" * 40
    for _ in range(2):  # the second one over the same connection
        read.clear()
        protocol.data_received(whole[:-38])
        for at in range(len(whole) - 38, len(whole)):
            assert not read[1:]
            protocol.data_received(whole[at : at + 1])
        assert read == [len(whole) - 38, len(whole)]
        protocol.send(b"1")
    assert dispatcher.targets == ["/one", "/one"]
    protocol.data_received(whole[:-1])
    protocol.data_received(b"b" + get("/two"))  # the rest, and more
    assert dispatcher.targets == ["/one"] * 3
    protocol.send(b"1")
    await turn()
    assert dispatcher.targets == ["/one", "/one", "/one", "/two"]
    protocol.connection_lost(None)
