"""A network that can be cut: everybody comes to a server through its gate, which passes on, falls silent or goes away.

A silent gate is a network that drops packets: connections stay open, nothing arrives, not even that the other end has
gone, and what waited arrives once it is heard again, as TCP sends it anew. Whom it still hears goes by the address a
connection comes from. It needs no right on the machine's network, so it works wherever tests run.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

CHUNK_BYTES = 1 << 18
HOST = "127.0.0.1"

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Heard: TypeAlias = Callable[[str], bool]  # whether one who comes from that address


def everybody(_source: str) -> bool:
    """Nobody is cut off."""
    return True


def nobody(_source: str) -> bool:
    """Everybody is."""
    return False


class Gate:
    """One port that leads to a server."""

    def __init__(self, port: int, connect: Callable[[], Awaitable[Streams]]) -> None:
        self.port = port
        self._connect = connect
        self._heard: Heard = everybody
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    def to(cls, port: int, target: int) -> "Gate":
        """A gate to another port of this machine."""
        return cls(port, lambda: asyncio.open_connection(HOST, target))

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    def hear(self, heard: Heard) -> None:
        """Pass on for these only, from now on; nothing is lost for the others until `sever`."""
        self._heard = heard
        self._changed.set()
        self._changed = asyncio.Event()

    def sever(self) -> None:
        """Cut every connection, with what waited in it."""
        for task in self._tasks:
            task.cancel()

    def lead_to(self, target: int) -> None:
        """Lead elsewhere; connections to the former place are cut."""
        self._connect = lambda: asyncio.open_connection(HOST, target)
        self.sever()

    async def close(self) -> None:
        self.sever()
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either end is away
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = str(writer.get_extra_info("peername")[0])
        await self._passing(source)
        server_reader, server_writer = await self._connect()
        ways = [
            asyncio.create_task(self._pass_on(source, reader, server_writer)),
            asyncio.create_task(self._pass_on(source, server_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            server_writer.close()

    async def _pass_on(self, source: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            chunk = await reader.read(CHUNK_BYTES)
            await self._passing(source)
            if not chunk:
                return
            writer.write(chunk)
            await writer.drain()

    async def _passing(self, source: str) -> None:
        """Wait until the source is heard."""
        while not self._heard(source):
            await self._changed.wait()
