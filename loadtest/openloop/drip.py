"""Connections that send a request's head, or its body, a byte a second and never get to its end."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loadtest.stage.http import HOST, Answer, Connection, UnreadableAnswer

PACE_S = 1.0
POLL_S = 0.05
LEFT_S = 10.0  # beyond the service's own bound, until what is still open counts as left open
_BEGINNING = (
    b"POST /v1/reservations HTTP/1.1\r\nHost: slow.example\r\nContent-Type: application/json\r\n"
    b"Idempotency-Key: slow-slow-slow-slow\r\n"
)


@dataclass(frozen=True, kw_only=True)
class Slow:
    """What is sent slowly."""

    name: str
    at_once: bytes  # the first byte, or all that comes before the slow part
    rest: bytes


HEADS = Slow(name="heads", at_once=_BEGINNING[:1], rest=_BEGINNING[1:] + b"X-Patience: " + b"a" * 4096)
BODIES = Slow(name="bodies", at_once=_BEGINNING + b"Content-Length: 4096\r\n\r\n{", rest=b" " * 4000)


class Drips:
    """A number of slow connections: for each that the service closes another one is opened, until told to stop."""

    def __init__(self, port: int, slow: Slow) -> None:
        self.closed_after_s: list[float] = []  # since the first byte, by the service
        self.answers: Counter[int] = Counter()
        self.refused = 0  # connections that were not taken at all
        self.most_open = 0
        self.left_open = 0
        self.slow = slow
        self._port = port
        self._open: set[_Drip] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def open(self) -> None:
        """Open one more."""
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Drip(self), HOST, self._port)
        except OSError:
            self.refused += 1

    def opened(self, drip: "_Drip") -> None:
        self._open.add(drip)
        self.most_open = max(self.most_open, len(self._open))

    def closed(self, drip: "_Drip") -> None:
        """The service has closed one; one that we close ourselves was taken out before."""
        if drip not in self._open:
            return
        self._open.discard(drip)
        self.closed_after_s.append(time.monotonic() - drip.since_s)
        if not self._stopping:
            task = asyncio.create_task(self.open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def stop(self, bound_s: float) -> None:
        """Open no more, and wait whether the service ends those that are open."""
        self._stopping = True
        deadline = time.monotonic() + bound_s + LEFT_S
        while self._open and time.monotonic() < deadline:  # noqa: ASYNC110 - the service ends it
            await asyncio.sleep(POLL_S)
        self.left_open = len(self._open)
        self.close()

    def close(self) -> None:
        self._stopping = True
        while self._open:
            self._open.pop().close()


class _Drip(Connection):
    def __init__(self, drips: Drips) -> None:
        super().__init__()
        self._drips = drips
        self._rest = iter(drips.slow.rest)
        self.since_s = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._drips.opened(self)
        assert self.transport is not None
        self.transport.write(self._drips.slow.at_once)
        asyncio.get_running_loop().call_later(random.uniform(0, PACE_S), self._send_byte)  # not all at once

    def _send_byte(self) -> None:
        byte = next(self._rest, None)
        if self.transport is not None and self.is_open and byte is not None:
            self.transport.write(bytes((byte,)))
            asyncio.get_running_loop().call_later(PACE_S, self._send_byte)

    def answered(self, answer: Answer) -> None:
        self._drips.answers[answer.status] += 1

    def lost(self, error: UnreadableAnswer) -> None:
        self._drips.closed(self)


@asynccontextmanager
async def dripping(port: int, connections: int, timeout_s: float, slow: Slow = HEADS) -> AsyncIterator[Drips]:
    """All of them are open when the block begins, and keep dripping until it ends.

    Raises:
        TimeoutError: they could not all be opened.
    """
    drips = Drips(port, slow)
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(connections):
                await drips.open()
        yield drips
    finally:
        drips.close()
