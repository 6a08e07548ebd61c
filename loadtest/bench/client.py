"""A load generator that costs less than what it measures: prebuilt requests over kept-alive raw connections.

It reads just enough of HTTP/1.1 for answers with a Content-Length, which is all that the variants send.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from loadtest.stage.undisturbed import undisturbed

HOST = "127.0.0.1"
HEAD_BYTES_MAX = 16_384
LENGTH = b"content-length:"


class UnreadableAnswer(Exception):
    """The server closed the connection, or sent what this small client cannot read."""


@dataclass
class Load:
    """The answers of one measurement."""

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
        """All other answers."""
        return self.answers.total() - self.claimed

    @property
    def claims_per_s(self) -> float:
        return self.claimed / self.elapsed_s

    def latency_ms(self, share: float) -> float:
        """The latency that this share of the requests kept within."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class _Connection(asyncio.Protocol):
    """One connection that sends the next request as soon as its answer is complete."""

    def __init__(self, requests: Iterator[bytes], load: Load) -> None:
        self._requests = requests
        self._load = load
        self._received = b""
        self._sent_s = 0.0
        self._transport: asyncio.Transport | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP gives a Transport

    def send_next(self) -> None:
        """Send a request, or finish when there is none left."""
        request = next(self._requests, None)
        if self._transport is None or request is None:
            self._finish()
            return
        self._sent_s = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head_bytes = received.find(b"\r\n\r\n") + 4
        if head_bytes < 4:
            self._received = received
            if len(received) > HEAD_BYTES_MAX:
                self._finish(UnreadableAnswer("an answer's head does not end"))
            return
        total_bytes = head_bytes + _body_bytes(received[:head_bytes])
        if len(received) < total_bytes:
            self._received = received
            return
        self._received = b""
        self._count(int(received[9:12]), total_bytes)
        if len(received) > total_bytes:
            self._finish(UnreadableAnswer("more came than one answer"))
        else:
            self.send_next()

    def _count(self, status: int, total_bytes: int) -> None:
        load = self._load
        load.latencies_s.append(time.perf_counter() - self._sent_s)
        load.answers[status] += 1
        if status == load.wanted:
            load.answer_bytes.add(total_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(UnreadableAnswer("the server closed the connection"))

    def _finish(self, error: Exception | None = None) -> None:
        if not self.finished.done():
            if error is None:
                self.finished.set_result(None)
            else:
                self.finished.set_exception(error)

    def close(self) -> None:
        self.finished.cancel()
        if self._transport is not None:
            self._transport.close()


def _body_bytes(head: bytes) -> int:
    """The Content-Length of an answer; 0 when it names none."""
    at = head.lower().find(LENGTH)
    if at < 0:
        return 0
    return int(head[at + len(LENGTH) : head.index(b"\r", at)])


@asynccontextmanager
async def _opened(port: int, count: int, requests: Iterator[bytes], load: Load) -> AsyncIterator[list[_Connection]]:
    """So many connections, closed at the end of the block."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            _, connection = await loop.create_connection(lambda: _Connection(requests, load), HOST, port)
            stack.callback(connection.close)
            opened.append(connection)
        yield opened


async def run_load(
    port: int, requests: Sequence[bytes], *, connections: int, timeout_s: float, wanted: int = 201
) -> Load:
    """Send every request once over so many connections, each with one request in flight.

    Raises:
        UnreadableAnswer: a connection was lost, or an answer could not be read.
        TimeoutError: it took longer than `timeout_s`.
    """
    load = Load(wanted=wanted)
    async with _opened(port, min(connections, len(requests)), iter(requests), load) as opened:
        with undisturbed():
            async with asyncio.timeout(timeout_s):
                busy_before_s, started_s = time.process_time(), time.perf_counter()
                for connection in opened:
                    connection.send_next()
                await asyncio.gather(*(connection.finished for connection in opened))
                load.elapsed_s = time.perf_counter() - started_s
                load.busy_s = time.process_time() - busy_before_s
    return load


@asynccontextmanager
async def connected(port: int, connections: int, request: bytes) -> AsyncIterator[None]:
    """So many connections on which nothing is asked any more: each has had one answer."""
    async with _opened(port, connections, iter([request] * connections), Load()) as opened:
        for connection in opened:
            connection.send_next()
        await asyncio.gather(*(connection.finished for connection in opened))
        yield
