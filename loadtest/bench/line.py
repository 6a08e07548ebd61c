"""One caller on one kept-alive connection, who asks one thing after the other."""

import gzip
import json
import select
import socket
from collections.abc import Sequence
from typing import Any

from loadtest.bench.turns import WrongResult
from loadtest.stage.http import HOST, Answer, UnreadableAnswer, read_answer

TIMEOUT_S = 30.0
RECEIVE_BYTES = 65_536
GZIP_MAGIC = b"\x1f\x8b"


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

    def receive(self) -> Answer:
        """The next answer."""
        received = b""
        while (answer := read_answer(received)) is None:
            more = self._socket.recv(RECEIVE_BYTES)
            if not more:
                raise UnreadableAnswer("the front closed the connection")
            received += more
        return answer

    def ask(self, content: bytes) -> Answer:
        self.send(content)
        return self.receive()

    def json(self, content: bytes, wanted: int = 200) -> Any:
        """What the answer says, when it has that status."""
        return json.loads(plain(check(self.ask(content), wanted)))

    def fileno(self) -> int:
        return self._socket.fileno()


def answered(lines: Sequence[Line]) -> int:
    """How many have an answer that has begun to come."""
    poll = select.poll()
    for line in lines:
        poll.register(line, select.POLLIN)
    return len(poll.poll(0))


def plain(answer: Answer) -> bytes:
    """The body, decompressed."""
    return gzip.decompress(answer.body) if answer.body.startswith(GZIP_MAGIC) else answer.body


def check(answer: Answer, wanted: int, problem: str = "") -> Answer:
    """The answer, when it has that status, and is that problem."""
    if answer.status != wanted or (problem and f'"/problems/{problem}"'.encode() not in plain(answer)):
        text = plain(answer)[:300].decode(errors="replace")
        raise WrongResult(f"{answer.status} instead of {wanted} {problem}: {text}")
    return answer
