"""A network cut in user space: everybody comes to a server through its gate, which passes on, is silent or goes away.

A silent gate is a network that drops packets: connections stay open, nothing arrives, not even that the other end has
gone, and what waited arrives once it is heard again, as TCP sends it anew. Whom it still hears goes by the address a
connection comes from. It needs no right on the machine's network, so it works wherever tests run.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import TypeAlias

from loadtest.ha.network import Connect, Server
from loadtest.stage.ports import free_port, free_ports
from loadtest.stage.processes import HERE

CHUNK_BYTES = 1 << 18
HOST = HERE.address

Heard: TypeAlias = Callable[[str], bool]  # whether one who comes from that address


def everybody(_source: str) -> bool:
    """Nobody is cut off."""
    return True


def nobody(_source: str) -> bool:
    """Everybody is."""
    return False


class Gate:
    """One port that leads to a server."""

    def __init__(self, port: int, connect: Connect, host: str = HOST) -> None:
        self.port = port
        self._host = host
        self._connect = connect
        self._heard: Heard = everybody
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    def to(cls, port: int, target: int, host: str = HOST) -> "Gate":
        """A gate to another port, also of another host."""
        return cls(port, lambda: asyncio.open_connection(host, target))

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, self._host, self.port)

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

    async def severed(self) -> None:
        """Cut every connection, and return when nothing can come out of them any more, whoever is heard then."""
        self.sever()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self.severed()

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


class Gates:
    """Servers of this machine, each of the ledger's behind a gate of its own.

    Whoever knows a server's own port stays with it, however its gate is cut: so does the near front, as if it stood on
    the same host. Each server speaks from an address of its own, by which a gate tells them apart.
    """

    near = HERE
    sentinels_near = 0

    def __init__(self) -> None:
        self._gates: dict[Server, Gate] = {}
        self._records: Gate | None = None

    async def add_ledger(self) -> Server:
        """A place behind a gate."""
        port, public_port = free_ports(2)
        server = Server(host=HERE, port=port, public_port=public_port, source=f"127.0.0.{11 + len(self._gates)}")
        self._gates[server] = gate = Gate.to(public_port, port)
        await gate.start()
        return server

    async def add_sentinel(self) -> Server:
        """A place that everybody reaches."""
        port = free_port()
        return Server(host=HERE, port=port, public_port=port, source=HOST)

    async def lead_to_records(self, connect: Connect) -> str:
        """By a gate too."""
        self._records = Gate(free_port(), connect)
        await self._records.start()
        return f"{HOST}:{self._records.port}"

    def part(self, staying: Collection[Server]) -> None:
        """Let each gate pass on for those of its own side only."""
        sources = {server.source for server in staying}
        for server, gate in self._gates.items():
            gate.hear(_of_one_side(sources, server in staying))
        if self._records is not None:
            self._records.hear(nobody)

    def hold_back(self, server: Server) -> None:
        """What that one says from now on arrives nowhere."""
        self._gates[server].hear(nobody)

    async def forget(self, server: Server) -> None:
        """What it said and was held back will never arrive."""
        await self._gates[server].severed()

    def join(self) -> None:
        """Pass on for everybody."""
        for gate in self._all():
            gate.hear(everybody)

    async def close(self) -> None:
        for gate in self._all():
            await gate.close()

    def _all(self) -> list[Gate]:
        return [*self._gates.values(), *([self._records] if self._records is not None else [])]


def _of_one_side(sources: Collection[str], near: bool) -> Heard:
    """Whoever is on the same side: the one of these sources, or the other."""
    return lambda source: (source in sources) is near


@asynccontextmanager
async def open_gates() -> AsyncIterator[Gates]:
    """A network without any right on the machine's."""
    gates = Gates()
    try:
        yield gates
    finally:
        await gates.close()
