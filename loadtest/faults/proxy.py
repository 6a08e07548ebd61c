"""A TCP proxy that loses answers on command: the request is carried out, its answer never arrives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

CHUNK_BYTES = 1 << 20
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Listens on a free port of the loopback and passes everything on."""

    def __init__(self, mark: bytes) -> None:
        self.port = 0
        self.open: Callable[[], Awaitable[Streams]] | None = None  # how the server is reached, set before anyone comes
        self.lost = 0  # answers so far
        self.all_lost = asyncio.Event()  # of those that were to be lost
        self._to_lose = 0
        self._mark = mark
        self._tasks: set[asyncio.Task[None]] = set()

    def lose(self, count: int) -> None:
        """Lose so many of the next answers to a request with the mark."""
        self._to_lose = count
        self.all_lost.clear()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody has connected."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cut everybody."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            assert self.open is not None
            server_reader, server_writer = await self.open()
            ends.append(server_writer)
            await self._pass((reader, writer), (server_reader, server_writer))
        except OSError:
            pass  # either end is away: the other one is cut as well
        finally:
            for end in ends:
                end.close()

    async def _pass(self, client: Streams, server: Streams) -> None:
        asked = False

        async def upwards() -> None:
            nonlocal asked
            while chunk := await client[0].read(CHUNK_BYTES):
                asked = asked or self._mark in chunk
                server[1].write(chunk)

        async def downwards() -> None:
            nonlocal asked
            while chunk := await server[0].read(CHUNK_BYTES):
                if asked and self._to_lose > 0:
                    self._to_lose -= 1
                    self.lost += 1
                    if not self._to_lose:
                        self.all_lost.set()
                    return
                asked = False
                client[1].write(chunk)

        ways = [asyncio.ensure_future(upwards()), asyncio.ensure_future(downwards())]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


@asynccontextmanager
async def open_proxy(mark: bytes) -> AsyncIterator[Proxy]:
    """A proxy, until the block ends; only answers to what contains the mark are ever lost."""
    proxy = Proxy(mark)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0, limit=CHUNK_BYTES)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
