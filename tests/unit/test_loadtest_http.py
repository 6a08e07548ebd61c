"""Answers are read whole, one at a time, whatever the case of their headers; anything else is no answer."""

import asyncio

import pytest

from loadtest.stage.http import HEAD_BYTES_MAX, HOST, Answer, Connection, UnreadableAnswer, read_answer, request

WHOLE = b"HTTP/1.1 201 Created\r\ncontent-LENGTH: 2\r\nRetry-After: 3\r\nConnection: close\r\n\r\n{}"


def test_an_answer_is_read_when_all_of_it_is_there() -> None:
    assert all(read_answer(WHOLE[:count]) is None for count in range(len(WHOLE)))
    answer = read_answer(WHOLE)
    assert answer is not None
    assert (answer.status, answer.body, answer.is_last) == (201, b"{}", True)
    assert answer.headers["retry-after"] == "3"


def test_an_answer_without_a_length_has_no_body() -> None:
    answer = read_answer(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")
    assert answer is not None
    assert (answer.status, answer.body, answer.is_last) == (304, b"", False)


@pytest.mark.parametrize(
    "received",
    [
        WHOLE + b"H",
        b"HTTP/1.1 201 Created\r\nX: " + b"a" * HEAD_BYTES_MAX,
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    ],
)
def test_what_is_no_single_answer_is_refused(received: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        read_answer(received)


class Keeping(Connection):
    """Keeps what it is called back with."""

    def __init__(self) -> None:
        super().__init__()
        self.results: asyncio.Queue[int | str] = asyncio.Queue()

    def answered(self, answer: Answer) -> None:
        self.results.put_nowait(answer.status)

    def lost(self, error: UnreadableAnswer) -> None:
        self.results.put_nowait(str(error))


async def test_a_connection_hands_over_each_answer_and_says_when_none_will_come() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in (WHOLE[:30], WHOLE[30:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        await reader.readuntil(b"last")
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        _, connection = await asyncio.get_running_loop().create_connection(Keeping, HOST, port)
        assert connection.transport is not None
        connection.transport.write(request("GET", "/", {"Accept": "text/plain"}))
        assert await connection.results.get() == 201
        connection.transport.write(request("PUT", "/", {}, b"last"))
        assert await connection.results.get() == "the server closed the connection"
        assert connection.transport is None
