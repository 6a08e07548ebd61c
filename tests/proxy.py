"""A proxy between a client and the ledger's server that loses, delays and cuts traffic on command."""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from loadtest.stage import proxy as stage
from tests.ledgers import eventually

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


class Proxy(stage.Proxy):
    """Listens on a unix socket and forwards to another one."""

    def __init__(self, target: str, socket: Path) -> None:
        userinfo, at, address = target.removeprefix("unix://").rpartition("@")
        super().__init__(lambda: asyncio.open_unix_connection(address))
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
        self._calling: set[stage.Link] = set()
        self._halting: set[stage.Link] = set()

    async def admit(self, link: stage.Link) -> bool:
        return not self.refusing

    async def upwards(self, link: stage.Link, chunk: bytes) -> bool:
        if self.halt and self.halt.is_at(chunk):
            if not self.halt.answered:
                await self.halt.stay()
            self._halting.add(link)
        if MARK in chunk:
            self._calling.add(link)
            if self.requests_to_lose > 0:
                self.requests_to_lose -= 1
                return False
            self.calls += 1
        return True

    async def downwards(self, link: stage.Link, chunk: bytes) -> bool:
        if not chunk:
            return True
        self.waiting += 1
        await self.held.wait()
        self.waiting -= 1
        if self.halt and link in self._halting:
            await self.halt.stay()
        if link in self._calling and self.replies_to_lose > 0:
            self.replies_to_lose -= 1
            self.lost += 1
            return False
        return True


@asynccontextmanager
async def open_proxy(target: str) -> AsyncIterator[Proxy]:
    """A proxy to the server behind a `unix://` URL."""
    with tempfile.TemporaryDirectory(prefix="rv-proxy-") as directory:
        socket = Path(directory) / "p.sock"
        proxy = Proxy(target, socket)
        await proxy.start_at(socket)
        try:
            yield proxy
        finally:
            await proxy.close()


async def sent_after(proxy: Proxy, calls: int) -> None:
    """Wait until one more call is on its way to the server."""

    async def one_more() -> bool:
        return proxy.calls > calls

    await eventually(one_more)
