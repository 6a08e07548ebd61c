"""A network that can be cut, and one way to cut it: in user space, every client comes to a server through its gate.

A network has two sides. The first primary, one front and the servers that stay with them are on the near side.
Everything else is on the far side, and so is the load test, which reaches the near front however the network is cut.

A gate passes on, is silent or goes away. A silent gate is a network that drops packets: connections stay open and
nothing arrives, not even that the other end has gone. What waited arrives once the gate hears it again, as TCP would
send it anew. Whom a gate hears depends on the address that a connection comes from. This needs no right on the
machine's network, so it works wherever tests run.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loadtest.stage.ports import free_port, free_ports
from loadtest.stage.processes import HERE, Host
from loadtest.stage.proxy import Connect, Link, Proxy

HOST = HERE.address


@dataclass(frozen=True, kw_only=True)
class Server:
    host: Host
    port: int  # its own
    public_port: int  # by which everything comes to it that is to be cut off
    source: str  # the address that its connections to others come from


class Gate(Proxy):
    """One port that leads to a server, for the clients whose address is heard; what others send waits."""

    def __init__(self, connect: Connect) -> None:
        super().__init__(connect)
        self._hears: Callable[[str], bool] = lambda source: True
        self._changed = asyncio.Event()

    @classmethod
    def to(cls, target: int, host: str = HOST) -> "Gate":
        """A gate to a port, also of another host."""
        return cls(lambda: asyncio.open_connection(host, target))

    def hear(self, hears: Callable[[str], bool]) -> None:
        """Pass on for these addresses only, from now on; nothing is lost for the others unless they are cut."""
        self._hears = hears
        self._changed.set()
        self._changed = asyncio.Event()

    def lead_to(self, target: int) -> None:
        """Lead elsewhere; connections to the former place are cut."""
        self.connect = lambda: asyncio.open_connection(HOST, target)
        self.cut()

    async def admit(self, link: Link) -> bool:
        while not self._hears(link.source):
            await self._changed.wait()
        return True

    async def upwards(self, link: Link, chunk: bytes) -> bool:
        return await self.admit(link)

    async def downwards(self, link: Link, chunk: bytes) -> bool:
        return await self.admit(link)


class Gates:
    """Servers of this machine, each of the ledger's behind a gate of its own.

    A client that knows a server's own port reaches it, however its gate is cut: the near front does, as if it stood on
    the same host. Each server speaks from an address of its own, by which a gate tells them apart.
    """

    near = HERE  # the host of the front that stays with the first primary
    sentinels_near = 0  # that are cut off with it; where none can be, the near front must not ask them

    def __init__(self) -> None:
        self._gates: dict[Server, Gate] = {}
        self._records: Gate | None = None

    async def add_ledger(self) -> Server:
        """A place for one more server of the ledger, behind a gate."""
        port, public_port = free_ports(2)
        server = Server(host=HERE, port=port, public_port=public_port, source=f"127.0.0.{11 + len(self._gates)}")
        self._gates[server] = gate = Gate.to(port)
        await gate.start(port=public_port)
        return server

    async def add_sentinel(self) -> Server:
        port = free_port()
        return Server(host=HERE, port=port, public_port=port, source=HOST)

    async def lead_to_records(self, connect: Connect) -> str:
        """Let the near front reach PostgreSQL, by a gate too; at which `host:port`."""
        self._records = Gate(connect)
        await self._records.start()
        return f"{HOST}:{self._records.port}"

    def part(self, staying: Collection[Server]) -> None:
        """Cut these and the near front off: each gate passes on only for the addresses of its server's side."""
        near = {server.source for server in staying}
        for server, gate in self._gates.items():
            gate.hear(near.__contains__ if server in staying else lambda source: source not in near)
        if self._records is not None:
            self._records.hear(lambda source: False)

    def hold_back(self, server: Server) -> None:
        """Let nothing that it sends from now on arrive anywhere."""
        self._gates[server].hear(lambda source: False)

    async def forget(self, server: Server) -> None:
        """Drop what it sent and was held back."""
        await self._gates[server].cut_and_wait()

    def join(self) -> None:
        for gate in self._all():
            gate.hear(lambda source: True)

    async def close(self) -> None:
        for gate in self._all():
            await gate.close()

    def _all(self) -> list[Gate]:
        return [*self._gates.values(), *([self._records] if self._records is not None else [])]


@asynccontextmanager
async def open_gates() -> AsyncIterator[Gates]:
    gates = Gates()
    try:
        yield gates
    finally:
        await gates.close()
