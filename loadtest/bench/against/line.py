"""One caller on one kept-alive connection, who asks one thing after the other."""

import gzip
import json
import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
TIMEOUT_S = 30.0
RECEIVE_BYTES = 65_536
HEAD_BYTES_MAX = 32_768
LANGUAGE = "id"
GZIP_MAGIC = b"\x1f\x8b"


class WrongAnswer(Exception):
    """An answer was not the one that is measured, so its cost says nothing."""


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    head: bytes
    body: bytes

    @property
    def content(self) -> bytes:
        """The body, not compressed any more."""
        return gzip.decompress(self.body) if self.body.startswith(GZIP_MAGIC) else self.body

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.content)


class Line:
    """The connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, content: bytes) -> None:
        """Ask, without waiting for the answer."""
        self._socket.sendall(content)

    def ask(self, content: bytes) -> Reply:
        """Ask, and wait for the whole answer.

        Raises:
            WrongAnswer: it is none that this small client can read.
        """
        self.send(content)
        return self.receive()

    def receive(self) -> Reply:
        """The next answer."""
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > HEAD_BYTES_MAX:
                raise WrongAnswer("an answer's head does not end")
            received += self._more()
        head, body = received[:end], received[end + 4 :]
        length = length_of(head)
        while len(body) < length:
            body += self._more()
        if len(body) > length:
            raise WrongAnswer("more came than one answer")
        return Reply(int(head[9:12]), head, body)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._socket.fileno()

    def _more(self) -> bytes:
        received = self._socket.recv(RECEIVE_BYTES)
        if not received:
            raise WrongAnswer("the front closed the connection")
        return received


def answered(lines: Sequence[Line]) -> list[Line]:
    """Those whose answer has begun to come."""
    waiting = {line.fileno(): line for line in lines}
    poll = select.poll()
    for number in waiting:
        poll.register(number, select.POLLIN)
    return [waiting[number] for number, _ in poll.poll(0)]


def length_of(head: bytes) -> int:
    """The Content-Length of an answer; 0 when it names none."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def check(reply: Reply, wanted: int, problem: str = "") -> Reply:
    """The answer, when it has that status, and is that problem.

    Raises:
        WrongAnswer: it has another.
    """
    if reply.status != wanted or (problem and f'"/problems/{problem}"'.encode() not in reply.content):
        said = reply.content[:300].decode(errors="replace")
        raise WrongAnswer(f"{reply.status} instead of {wanted} {problem}: {said}")
    return reply


def get(path: str, *headers: str, accept: str = "application/json", method: str = "GET") -> bytes:
    """A request without a body, as a browser sends it."""
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Accept: {accept}",
        f"Accept-Language: {LANGUAGE}",
        "Accept-Encoding: gzip",
        *headers,
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def send(path: str, content: object, *headers: str, method: str = "POST") -> bytes:
    """A request with JSON."""
    body = json.dumps(content, separators=(",", ":"))
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        "Accept: application/json",
        f"Accept-Language: {LANGUAGE}",
        *headers,
        f"Content-Length: {len(body.encode())}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
