"""HTTP/1.1 over kept-alive raw connections: a load generator must cost less than what it measures.

Answers are found by their Content-Length, which every answer of the service has that is not a stream.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from multidict import CIMultiDict

HOST = "127.0.0.1"
HEAD_BYTES_MAX = 16_384
HEAD_END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"


class UnreadableAnswer(Exception):
    """The server closed the connection, or sent what is no answer with a Content-Length."""


class Answer(NamedTuple):
    status: int
    head: bytes  # without the empty line at its end
    body: bytes

    @property
    def headers(self) -> CIMultiDict[str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return CIMultiDict((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))

    @property
    def is_last(self) -> bool:
        """Whether the server closes the connection behind it."""
        return b"\r\nConnection: close" in self.head


def read_answer(received: bytes) -> Answer | None:
    """The answer that was received; None while it is not complete.

    Raises:
        UnreadableAnswer: its head does not end, or is none, or more came than one answer.
    """
    end = received.find(HEAD_END)
    if end < 0:
        if len(received) > HEAD_BYTES_MAX:
            raise UnreadableAnswer("an answer's head does not end")
        return None
    head, body = received[:end], end + len(HEAD_END)
    at = head.lower().find(LENGTH)
    try:
        length = int(head[at + len(LENGTH) :].partition(b"\r\n")[0]) if at >= 0 else 0
        status = int(head[9:12])
    except ValueError as error:
        raise UnreadableAnswer(f"no answer: {head[:40]!r}") from error
    if len(received) > body + length:
        raise UnreadableAnswer("more came than one answer")
    return Answer(status, head, received[body:]) if len(received) == body + length else None


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"", host: str = HOST) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + HEAD_END + body


class Connection(asyncio.Protocol):
    """One connection with at most one request in flight; a subclass says what becomes of the answer.

    It is called back rather than awaited: a future for each answer costs more than all else that a generator does.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._received = b""

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def answered(self, answer: Answer) -> None:
        raise NotImplementedError

    def lost(self, error: UnreadableAnswer) -> None:
        """The connection is closed, or what came is no answer; it may be called twice."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP gives a Transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.lost(UnreadableAnswer("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        self._received = b""
        try:
            answer = read_answer(received)
        except UnreadableAnswer as error:
            self.close()
            self.lost(error)
            return
        if answer is None:
            self._received = received
        else:
            self.answered(answer)
