"""A proxy between a client and the ledger's server that loses, delays and cuts what passes, on command."""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.ledgers import eventually

CHUNK_BYTES = 1 << 20
MARK = b"FCALL"  # only function calls are interfered with, never the handshake


class Halt:
    """A point at which nothing passes any more, so that whoever is on their way can be killed just there.

    The marks are looked for on the way to the server, one after the other, each in a chunk of its own. The chunk with the
    last one never arrives; `answered`: it does, and its reply never comes.
    """

    def __init__(self, *marks: bytes, answered: bool = False) -> None:
        self.reached = asyncio.Event()
        self.answered = answered
        self._marks = [re.compile(mark, re.DOTALL) for mark in marks]

    def is_at(self, chunk: bytes) -> bool:
        """Whether this chunk has the last mark."""
        if self._marks and self._marks[0].search(chunk):
            del self._marks[0]
            return not self._marks
        return False

    async def stay(self) -> None:
        """Let it be known, and go on no more."""
        self.reached.set()
        await asyncio.Event().wait()  # until the proxy is closed


class Proxy:
    """Listens on a unix socket and forwards to another one."""

    def __init__(self, target: str, socket: Path) -> None:
        userinfo, at, address = target.removeprefix("unix://").rpartition("@")
        self.url = f"unix://{userinfo}{at}{socket}"
        self.calls = 0  # chunks with function calls that passed on their way to the server
        self.lost = 0  # replies that never arrived
        self.replies_to_lose = 0  # the server has done its work; the reply is dropped and the connection cut
        self.requests_to_lose = 0  # the connection is cut before the server sees the call
        self.held = asyncio.Event()  # cleared: replies wait here
        self.held.set()
        self.waiting = 0  # replies that do so
        self.halt: Halt | None = None
        self.refusing = False  # new connections are closed at once
        self._target = address
        self._socket = socket
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._socket)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Close every connection there is."""
        for writer in self._writers:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.refusing:
                await self._forward(reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, server_writer}
        calling, halting = asyncio.Event(), asyncio.Event()
        up = self._upwards(reader, server_writer, calling, halting)
        down = self._downwards(server_reader, writer, calling, halting)
        ways = [asyncio.create_task(up), asyncio.create_task(down)]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for result in await asyncio.gather(*ways, return_exceptions=True):
                with suppress(OSError, asyncio.CancelledError):
                    if result is not None:
                        raise result
            for end in (writer, server_writer):
                self._writers.discard(end)
                end.close()

    async def _upwards(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, calling: asyncio.Event, halting: asyncio.Event
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self.halt and self.halt.is_at(chunk):
                if not self.halt.answered:
                    await self.halt.stay()
                halting.set()
            if MARK in chunk:
                calling.set()
                if self.requests_to_lose > 0:
                    self.requests_to_lose -= 1
                    return
                self.calls += 1
            writer.write(chunk)

    async def _downwards(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, calling: asyncio.Event, halting: asyncio.Event
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            self.waiting += 1
            await self.held.wait()
            self.waiting -= 1
            if self.halt and halting.is_set():
                await self.halt.stay()
            if calling.is_set() and self.replies_to_lose > 0:
                self.replies_to_lose -= 1
                self.lost += 1
                return
            writer.write(chunk)


@asynccontextmanager
async def open_proxy(target: str) -> AsyncIterator[Proxy]:
    """A proxy to the server behind a `unix://` URL."""
    with tempfile.TemporaryDirectory(prefix="rv-proxy-") as directory:
        proxy = Proxy(target, Path(directory) / "p.sock")
        await proxy.start()
        try:
            yield proxy
        finally:
            await proxy.close()


async def sent_after(proxy: Proxy, calls: int) -> None:
    """Wait until one more call is on its way to the server."""

    async def one_more() -> bool:
        return proxy.calls > calls

    await eventually(one_more)
