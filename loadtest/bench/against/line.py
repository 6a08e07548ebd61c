"""One caller on one kept-alive connection, who asks one thing after the other."""

import gzip
import json
import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.stage.http import HOST, UnreadableAnswer, read_answer, request

TIMEOUT_S = 30.0
RECEIVE_BYTES = 65_536
GZIP_MAGIC = b"\x1f\x8b"


class WrongAnswer(Exception):
    """An answer was not the one that is measured, so its cost says nothing."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes

    @property
    def content(self) -> bytes:
        """The body, decompressed."""
        return gzip.decompress(self.body) if self.body.startswith(GZIP_MAGIC) else self.body

    @property
    def json(self) -> Any:
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

    def receive(self) -> Reply:
        """The next answer.

        Raises:
            WrongAnswer: it is none that can be read.
        """
        received = b""
        try:
            while (answer := read_answer(received)) is None:
                more = self._socket.recv(RECEIVE_BYTES)
                if not more:
                    raise WrongAnswer("the front closed the connection")
                received += more
        except UnreadableAnswer as error:
            raise WrongAnswer(str(error)) from error
        return Reply(answer.status, answer.body)

    def ask(self, content: bytes) -> Reply:
        self.send(content)
        return self.receive()

    def fileno(self) -> int:
        return self._socket.fileno()


def answered(lines: Sequence[Line]) -> list[Line]:
    """Those whose answer has begun to come."""
    waiting = {line.fileno(): line for line in lines}
    poll = select.poll()
    for number in waiting:
        poll.register(number, select.POLLIN)
    return [waiting[number] for number, _ in poll.poll(0)]


def check(reply: Reply, wanted: int, problem: str = "") -> Reply:
    """The answer, when it has that status, and is that problem.

    Raises:
        WrongAnswer: it has another.
    """
    if reply.status != wanted or (problem and f'"/problems/{problem}"'.encode() not in reply.content):
        text = reply.content[:300].decode(errors="replace")
        raise WrongAnswer(f"{reply.status} instead of {wanted} {problem}: {text}")
    return reply


def get(path: str, bearer: str = "", *, accept: str = "application/json", method: str = "GET") -> bytes:
    """A request without a body, as a browser sends it."""
    headers = {"Accept": accept, "Accept-Language": "id", "Accept-Encoding": "gzip"}
    return request(method, path, headers | _authorization(bearer))


def send(path: str, content: object, bearer: str = "", *, key: str = "", method: str = "POST") -> bytes:
    """A request with JSON; `key` is its Idempotency-Key."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Language": "id"}
    headers |= {"Idempotency-Key": key} if key else {}
    return request(method, path, headers | _authorization(bearer), json.dumps(content, separators=(",", ":")).encode())


def _authorization(bearer: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {bearer}"} if bearer else {}
