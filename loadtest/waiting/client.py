"""Asks over a few kept-alive raw connections, and hands back whole answers: tickets are in their bodies."""

import asyncio
import time
from collections import deque
from typing import Any

import msgspec

from loadtest.bench.client import HOST

TIMEOUT_S = 30.0
LENGTH = b"\r\nContent-Length: "
RETRY_AFTER = b"\r\nretry-after: "
ETAG = b"\r\netag: "
NO_ANSWER = 0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer; status `NO_ANSWER` when there is none."""

    status: int
    sent_ms: float  # since the Unix epoch
    answered_ms: float
    head: bytes = b""
    content: bytes = b""

    @property
    def body(self) -> dict[str, Any]:
        """The body, decoded; empty where there is none."""
        found: dict[str, Any] = msgspec.json.decode(self.content) if self.content else {}
        return found

    @property
    def problem(self) -> str:
        """The status, and with a refusal the last part of its type and its reason, as `403 not-admitted`."""
        if self.status < 400:
            return str(self.status)
        body = self.body
        words = [str(self.status), body.get("type", "").rpartition("/")[2], body.get("reason", "")]
        return " ".join(filter(None, words))

    def field(self, name: bytes) -> str:
        """A header's value by `ETAG` or `RETRY_AFTER`; "" where it is not."""
        at = self.head.lower().find(name)
        return "" if at < 0 else self.head[at + len(name) :].partition(b"\r\n")[0].decode()


class _Connection(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: asyncio.Future[tuple[bytes, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP gives a Transport

    def ask(self, request: bytes) -> "asyncio.Future[tuple[bytes, bytes]]":
        """Send a request; its head and body."""
        assert self.transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        self._received = received
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        at = received.find(LENGTH, 0, end)
        length = int(received[at + len(LENGTH) : received.index(b"\r", at + 2)]) if at >= 0 else 0
        if len(received) < end + 4 + length:
            return
        self._received = b""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((received[: end + 2], received[end + 4 :]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError("the connection was lost"))


class Client:
    """At most so many requests at once; whoever comes later waits for one to be answered."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._room = asyncio.Semaphore(connections)
        self._idle: deque[_Connection] = deque()

    async def ask(self, request: bytes) -> Reply:
        """Send one request and wait for its answer; its time counts from the sending."""
        async with self._room:
            sent_ms = time.time() * 1000
            try:
                connection = await self._connection()
                async with asyncio.timeout(TIMEOUT_S):
                    head, content = await connection.ask(request)
            except (OSError, TimeoutError):  # its connection is not used again
                return Reply(status=NO_ANSWER, sent_ms=sent_ms, answered_ms=time.time() * 1000)
            if b"\r\nConnection: close\r\n" in head and connection.transport is not None:
                connection.transport.close()
            else:
                self._idle.append(connection)
            return Reply(
                status=int(head[9:12]), sent_ms=sent_ms, answered_ms=time.time() * 1000, head=head, content=content
            )

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        _, opened = await asyncio.get_running_loop().create_connection(_Connection, HOST, self._port)
        return opened

    def close(self) -> None:
        """Close what is open."""
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        self._idle.clear()


def get(path: str, etag: str = "") -> bytes:
    """A GET request."""
    known = f"If-None-Match: {etag}\r\n" if etag else ""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\n{known}\r\n".encode()


def post(path: str, body: Any, *lines: str) -> bytes:
    """A POST request with a JSON body."""
    content = msgspec.json.encode(body)
    fields = "".join(f"{line}\r\n" for line in lines)
    return (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        f"{fields}Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content
