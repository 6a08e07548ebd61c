"""Connections that send a request's head, or its body, a byte a second and never get to its end."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loadtest.bench.client import HOST

SLICES = 20  # a second's bytes are not sent all at once
OPENING_AT_ONCE = 50
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
    """So many connections at a time: whoever is closed by the service comes again, until told to stop."""

    def __init__(self, port: int, connections: int, slow: Slow) -> None:
        self.closed_after_s: list[float] = []  # since the first byte, by the service
        self.answers: Counter[int] = Counter()
        self.refused = 0  # connections that were not taken at all
        self.most_open = 0
        self.left_open = 0
        self.slow = slow
        self._port = port
        self._connections = connections
        self._open: set[_Drip] = set()
        self._stopping = False

    @property
    def open(self) -> int:
        """Connections that drip now."""
        return len(self._open)

    async def run(self) -> None:
        """Keep their number, and send everybody's next byte once a second; cancel it to stop."""
        turn = 0
        while True:
            started_s = time.perf_counter()
            missing = 0 if self._stopping else self._connections - len(self._open)
            for _ in range(min(OPENING_AT_ONCE, missing)):
                await self._connect()
            for drip in list(self._open):
                if drip.slice == turn % SLICES:
                    drip.send()
            self.most_open = max(self.most_open, len(self._open))
            turn += 1
            await asyncio.sleep(max(0.0, 1 / SLICES - (time.perf_counter() - started_s)))

    async def _connect(self) -> None:
        try:
            _, drip = await asyncio.get_running_loop().create_connection(lambda: _Drip(self), HOST, self._port)
        except OSError:
            self.refused += 1
            return
        drip.slice = len(self._open) % SLICES
        self._open.add(drip)
        drip.send()

    async def stop(self, bound_s: float) -> None:
        """Come no more, drip on, and see whether the service ends everybody."""
        self._stopping = True
        deadline = time.monotonic() + bound_s + LEFT_S
        while self._open and time.monotonic() < deadline:  # noqa: ASYNC110 - the service ends it
            await asyncio.sleep(1 / SLICES)
        self.left_open = len(self._open)
        for drip in list(self._open):
            drip.abort()

    def lost(self, drip: "_Drip") -> None:
        """The service has closed one."""
        if drip in self._open:
            self._open.discard(drip)
            if not drip.aborted:
                self.closed_after_s.append(time.monotonic() - drip.since_s)


class _Drip(asyncio.Protocol):
    def __init__(self, drips: Drips) -> None:
        self._drips = drips
        self._sent = 0
        self._transport: asyncio.Transport | None = None
        self.slice = 0
        self.since_s = 0.0
        self.aborted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP gives a Transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):
            self._drips.answers[int(data[9:12])] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._drips.lost(self)

    def send(self) -> None:
        """The next byte."""
        if self._transport is None or self._transport.is_closing():
            return
        slow = self._drips.slow
        if not self.since_s:
            self.since_s = time.monotonic()
            self._transport.write(slow.at_once)
            return
        self._transport.write(slow.rest[self._sent : self._sent + 1])
        self._sent += 1

    def abort(self) -> None:
        """Close it ourselves."""
        self.aborted = True
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def dripping(port: int, connections: int, timeout_s: float, slow: Slow = HEADS) -> AsyncIterator[Drips]:
    """All of them are open when the block begins, and keep dripping until it ends.

    Raises:
        TimeoutError: they could not all be opened.
    """
    drips = Drips(port, connections, slow)
    running = asyncio.create_task(drips.run())
    try:
        async with asyncio.timeout(timeout_s):
            while drips.open < connections * 0.95:  # noqa: ASYNC110 - some are closed meanwhile
                await asyncio.sleep(1 / SLICES)
        yield drips
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
