"""A proxy: connects each client with a server and passes on what either sends; subclasses interfere.

Each connection through it is cut as soon as either end has closed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 20

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect: TypeAlias = Callable[[], Awaitable[Streams]]  # opens a connection to the server


class Link:
    def __init__(self, source: str) -> None:
        self.source = source  # the client's address; "" behind a Unix socket


class Proxy:
    def __init__(self, connect: Connect) -> None:
        self.port = 0
        self.connect = connect
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str = HOST, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, host, port, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def start_at(self, socket: Path) -> None:
        self._server = await asyncio.start_unix_server(self._accept, socket, limit=CHUNK_BYTES)

    def cut(self) -> None:
        """Close every connection there is, with what waits in it."""
        for task in self._tasks:
            task.cancel()

    async def cut_and_wait(self) -> None:
        """Close every connection, and return when nothing can come out of them any more."""
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self.cut_and_wait()

    async def admit(self, link: Link) -> bool:
        return True

    async def upwards(self, link: Link, chunk: bytes) -> bool:
        """Whether a chunk from the client is passed on, and the connection goes on; empty: the client has closed."""
        return True

    async def downwards(self, link: Link, chunk: bytes) -> bool:
        """Whether a chunk from the server is."""
        return True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = writer.get_extra_info("peername")
        link = Link(str(peer[0]) if peer else "")
        try:
            if await self.admit(link):
                await self._connected(link, (reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # either end is away, or the proxy was cut
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _connected(self, link: Link, client: Streams) -> None:
        server = await self.connect()
        ways = [
            asyncio.create_task(_pass_on(client[0], server[1], lambda chunk: self.upwards(link, chunk))),
            asyncio.create_task(_pass_on(server[0], client[1], lambda chunk: self.downwards(link, chunk))),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            server[1].close()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may_pass: Callable[[bytes], Awaitable[bool]]
) -> None:
    while True:
        chunk = await reader.read(CHUNK_BYTES)
        if not await may_pass(chunk) or not chunk:
            return
        writer.write(chunk)
        await writer.drain()
