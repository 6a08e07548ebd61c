"""Replies are read as they arrive; the caller gets one result, for every way in which a connection ends."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from redis.exceptions import BusyLoadingError, InvalidResponse, ResponseError
from redis.exceptions import ConnectionError as LostConnection

from reservasi.ledger.round_trips import RoundTrips

LATE_S = 60.0


class Streams(asyncio.Protocol):
    """What redis-py reads by."""

    def __init__(self) -> None:
        self.lost: list[Exception | None] = []

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Transport:
    """What is written, and who reads."""

    def __init__(self) -> None:
        self.protocol: Any = Streams()
        self.written: list[bytes] = []
        self.write = self.written.append
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


def _error(text: str) -> Exception:
    return BusyLoadingError(text) if text.startswith("LOADING") else ResponseError(text)


class Line:
    """Round trips, and the other end."""

    def __init__(self, reader: asyncio.StreamReader | None = None, *, closing: bool = False) -> None:
        self.transport = Transport()
        self.transport.closing = closing
        self.streams = self.transport.protocol
        connection = SimpleNamespace(
            _writer=SimpleNamespace(transport=self.transport),
            _reader=reader or asyncio.StreamReader(),
            _parser=SimpleNamespace(parse_error=_error),
        )
        self.trips = RoundTrips(connection)
        self.sent = 0

    def ask(self, count: int, within_s: float = LATE_S) -> "asyncio.Task[list[Any]]":
        def sent() -> None:
            assert self.transport.written
            self.sent += 1

        due_s = asyncio.get_running_loop().time() + within_s
        return asyncio.create_task(self.trips.ask(b"x", count, due_s, sent))


async def test_all_replies_come_together_however_they_arrive() -> None:
    line = Line()
    for _ in range(3):
        replies = line.ask(3)
        await asyncio.sleep(0)
        for part in (b"$2\r\nh", b"i\r\n:5\r", b"\n-ERR no", b" such\r\n"):
            assert not replies.done()
            line.trips.data_received(part)
        first, second, third = await replies
        assert (first, second, str(third), type(third)) == (b"hi", 5, "ERR no such", ResponseError)
    assert (line.sent, line.transport.written) == (3, [b"x"] * 3)


async def test_what_a_server_pushes_is_no_reply() -> None:
    line = Line()
    line.trips.data_received(b">2\r\n+message\r\n+1\r\n")
    replies = line.ask(1)
    await asyncio.sleep(0)
    line.trips.data_received(b">2\r\n+message\r\n+2\r\n+OK\r\n")
    assert await replies == [b"OK"]


async def test_a_reply_that_does_not_come_in_time() -> None:
    line = Line()
    early = line.ask(1)
    await asyncio.sleep(0)
    line.trips.data_received(b"+OK\r\n")
    await early
    with pytest.raises(TimeoutError):  # earlier than the round trip before would have been over
        await line.ask(2, within_s=0.01)


async def test_a_later_round_trip_has_its_own_time() -> None:
    line = Line()
    short = line.ask(1, within_s=0.01)
    await asyncio.sleep(0)
    line.trips.data_received(b"+OK\r\n")
    await short
    long = line.ask(1, within_s=0.1)
    _, pending = await asyncio.wait([long], timeout=0.03)
    assert pending
    with pytest.raises(TimeoutError):
        await long


@pytest.mark.parametrize("error", [None, ConnectionResetError("reset")])
async def test_whoever_waits_hears_that_the_connection_is_lost(error: Exception | None) -> None:
    line = Line()
    replies = line.ask(1)
    await asyncio.sleep(0)
    line.trips.connection_lost(error)
    with pytest.raises((LostConnection, ConnectionResetError)):
        await replies
    assert line.trips.ended
    assert line.streams.lost == [error]
    with pytest.raises(LostConnection):
        await line.ask(1)


async def test_a_reply_that_nobody_asked_for_ends_the_round_trips() -> None:
    line = Line()
    line.trips.data_received(b"+late\r\n")
    with pytest.raises(LostConnection):
        await line.ask(1)


async def test_more_replies_than_commands() -> None:
    line = Line()
    replies = line.ask(1)
    await asyncio.sleep(0)
    line.trips.data_received(b"+OK\r\n+late\r\n")
    with pytest.raises(LostConnection):
        await replies


@pytest.mark.parametrize("half", [b"+lat", b"$5\r\nla"])
async def test_half_a_reply_that_nobody_asked_for(half: bytes) -> None:
    line = Line()
    line.trips.data_received(half)
    with pytest.raises(LostConnection):
        await line.ask(1)
    assert not line.transport.written


async def test_bytes_that_are_no_reply() -> None:
    line = Line()
    replies = line.ask(1)
    await asyncio.sleep(0)
    line.trips.data_received(b"hello\r\n")
    with pytest.raises(InvalidResponse):
        await replies
    assert line.trips.ended


async def test_an_error_that_is_no_answer_ends_the_call() -> None:
    line = Line()
    replies = line.ask(1)
    await asyncio.sleep(0)
    line.trips.data_received(b"-LOADING the dataset\r\n")
    with pytest.raises(BusyLoadingError):
        await replies


async def test_redis_py_reads_again_afterwards() -> None:
    line = Line()
    line.trips.give_back()
    assert line.transport.protocol is line.streams
    assert line.trips.ended


async def test_a_connection_that_had_ended_before_is_not_waited_for() -> None:
    at_its_end, broken = asyncio.StreamReader(), asyncio.StreamReader()
    at_its_end.feed_eof()
    broken.set_exception(ConnectionResetError())
    for line in (Line(at_its_end), Line(broken), Line(closing=True)):
        with pytest.raises(LostConnection):
            await line.ask(1)


def test_a_second_round_trip_under_a_deadline_that_is_all_but_over() -> None:
    """What uvloop gives for a timer that is due within half a millisecond does not say when."""
    uvloop.run(_asked_twice_under_one_deadline())


async def _asked_twice_under_one_deadline() -> None:
    for _ in range(20):
        line = Line()
        due_s = asyncio.get_running_loop().time() + 0.0004
        first, second = (line.trips.ask(b"x", 1, due_s, lambda: None) for _ in range(2))
        first.send(None)  # by hand, since a turn of the loop takes too long
        line.trips.data_received(b"+OK\r\n")
        with pytest.raises(StopIteration):
            first.send(None)
        second.send(None)
        second.close()


async def test_a_caller_that_fails_behind_its_commands_leaves_no_question() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    line = Line()
    with pytest.raises(ZeroDivisionError):
        await line.trips.ask(b"x", 1, asyncio.get_running_loop().time() + LATE_S, fail)
    line.trips.data_received(b"+late\r\n")
    with pytest.raises(LostConnection):
        await line.ask(1)
