"""Prebuilt requests over raw keep-alive connections: a closed loop of many callers, or one caller."""

import asyncio
import gzip
import json
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from loadtest.bench.figures import WrongResult
from loadtest.stage.http import HEAD_END, HOST, Answer, Connection, UnreadableAnswer, read_answer
from loadtest.stage.undisturbed import undisturbed

LINE_TIMEOUT_S = 30.0
RECEIVE_BYTES = 65_536
GZIP_MAGIC = b"\x1f\x8b"


@dataclass
class Load:
    wanted: int = 201  # the HTTP status that is a success here
    answers: Counter[int] = field(default_factory=Counter)  # by HTTP status
    latencies_s: list[float] = field(default_factory=list)
    answer_bytes: set[int] = field(default_factory=set)  # every size of a wanted answer, head and body
    elapsed_s: float = 0.0
    busy_s: float = 0.0  # processor time that the load generator itself used

    @property
    def claimed(self) -> int:
        """Wanted answers; of claims, those that succeeded."""
        return self.answers[self.wanted]

    @property
    def refused(self) -> int:
        return self.answers.total() - self.claimed

    def check(self, name: str) -> None:
        if self.refused:
            raise WrongResult(f"{name} answered {dict(self.answers)}, not always {self.wanted}")

    @property
    def claims_per_s(self) -> float:
        return self.claimed / self.elapsed_s

    def latency_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class _Sender(Connection):
    """One connection that sends the next request as soon as its answer is complete."""

    def __init__(self, requests: Iterator[bytes], load: Load) -> None:
        super().__init__()
        self._requests = requests
        self._load = load
        self._sent_s = 0.0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send_next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.finished.set_result(None)
        elif self.transport is None:
            self.lost(UnreadableAnswer("the connection is closed"))
        else:
            self._sent_s = time.perf_counter()
            self.transport.write(request)

    def answered(self, answer: Answer) -> None:
        load = self._load
        load.latencies_s.append(time.perf_counter() - self._sent_s)
        load.answers[answer.status] += 1
        if answer.status == load.wanted:
            load.answer_bytes.add(len(answer.head) + len(HEAD_END) + len(answer.body))
        self.send_next()

    def lost(self, error: UnreadableAnswer) -> None:
        if not self.finished.done():
            self.finished.set_exception(error)

    def close(self) -> None:
        self.finished.cancel()
        super().close()


async def run_load(
    port: int, requests: Sequence[bytes], *, connections: int, timeout_s: float, wanted: int = 201
) -> Load:
    """Send every request once over so many connections, each with one request in flight."""
    loop, load, source = asyncio.get_running_loop(), Load(wanted=wanted), iter(requests)
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(min(connections, len(requests))):
            _, connection = await loop.create_connection(lambda: _Sender(source, load), HOST, port)
            stack.callback(connection.close)
            opened.append(connection)
        with undisturbed():
            async with asyncio.timeout(timeout_s):
                busy_before_s, started_s = time.process_time(), time.perf_counter()
                for connection in opened:
                    connection.send_next()
                await asyncio.gather(*(connection.finished for connection in opened))
                load.elapsed_s = time.perf_counter() - started_s
                load.busy_s = time.process_time() - busy_before_s
    return load


class Line:
    """One keep-alive connection, for requests one after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), LINE_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, content: bytes) -> None:
        """Send a request without waiting for its answer."""
        self._socket.sendall(content)

    def receive(self) -> Answer:
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
        return json.loads(plain(check(self.ask(content), wanted)))

    def fileno(self) -> int:
        return self._socket.fileno()


def answered(lines: Sequence[Line]) -> int:
    """How many connections have received the beginning of an answer."""
    poll = select.poll()
    for line in lines:
        poll.register(line, select.POLLIN)
    return len(poll.poll(0))


def plain(answer: Answer) -> bytes:
    return gzip.decompress(answer.body) if answer.body.startswith(GZIP_MAGIC) else answer.body


def check(answer: Answer, wanted: int, problem: str = "") -> Answer:
    if answer.status != wanted or (problem and f'"/problems/{problem}"'.encode() not in plain(answer)):
        text = plain(answer)[:300].decode(errors="replace")
        raise WrongResult(f"{answer.status} instead of {wanted} {problem}: {text}")
    return answer
