"""The ledger's servers by their address: one, the primary that Sentinel names, or a cluster."""

import msgspec
import redis.asyncio as redis_asyncio
from redis.exceptions import ConnectionError as LostConnection

from reservasi.ledger.topology.clients import Server, open_client
from reservasi.ledger.topology.cluster import SCHEMES as CLUSTER
from reservasi.ledger.topology.cluster import SLOTS, Cluster, slot_of
from reservasi.ledger.topology.sentinel import SCHEMES as SENTINEL
from reservasi.ledger.topology.sentinel import Address, Primaries
from reservasi.ledger.topology.server_facts import connected_replicas

CLIENT_CONNECTIONS_MAX = 512  # one blocking reader per program, and a few for the rest


class Primary(msgspec.Struct, frozen=True, kw_only=True):
    """A server that has ledgers."""

    name: str  # its address; empty if there is only one that never changes
    client: redis_asyncio.Redis  # closed with the servers
    slots: int  # in a cluster: number of its slots; otherwise all


class Servers:
    """Where each program's ledger is, and clients for what is not a function call; belongs to one event loop.

    Raises:
        ValueError: the address cannot be used.
    """

    def __init__(self, url: str, *, replicas_min_ack: int | None = None) -> None:
        """If `replicas_min_ack` is given, it is compared with the number of replicas."""
        self._cluster = Cluster(url) if url.startswith(CLUSTER) else None
        self._primaries = Primaries(url, replicas_min_ack=replicas_min_ack) if url.startswith(SENTINEL) else None
        self._url = url
        # For commands to a server itself; in a cluster to any server.
        self.client = open_client(self.of(""), connections_max=CLIENT_CONNECTIONS_MAX)
        self._clients: dict[str, redis_asyncio.Redis] = {}

    def start(self) -> None:
        """Begin to follow a primary that may be replaced."""
        if self._primaries:
            self._primaries.start()

    async def close(self) -> None:
        for client in (self.client, *self._clients.values()):
            await client.aclose()
        for each in (self._primaries, self._cluster):
            if each:
                await each.close()

    async def promotable(self) -> int | None:
        """How many replicas may be promoted automatically; None if none would be, or the number is unknown.

        Raises:
            LedgerUnreachable: no server of the cluster answers.
        """
        if self._primaries:
            return await self._primaries.promotable()
        return len(await connected_replicas(self.client)) if self._cluster else None

    @property
    def is_cluster(self) -> bool:
        """Whether programs are spread over several primaries."""
        return self._cluster is not None

    def of(self, program: str) -> Server:
        """Where a program's ledger is."""
        return self._cluster.route(program) if self._cluster else self._primaries or self._url

    def name_of(self, program: str) -> str:
        """The address of the primary that had a program's ledger when last asked; empty if there is only one.

        If it is unknown, the program's own name, so that it is not asked together with others.
        """
        if not self._cluster:
            return ""
        address = self._cluster.last_known(slot_of(program))
        return _written(address) if address else program

    async def primaries(self) -> list[Primary]:
        """All servers that have a program's ledger, or may get one.

        Raises:
            redis.ConnectionError: no sentinel names a primary, or no server of a cluster answers.
        """
        if self._cluster:
            served = await self._cluster.primaries()
            if not served:
                raise LostConnection("no server of the cluster answers")
            return [
                Primary(name=_written(address), client=self._cluster.client(address), slots=slots)
                for address, slots in served.items()
            ]
        name = _written(await self._primaries.find()) if self._primaries else ""
        return [Primary(name=name, client=self.client, slots=SLOTS)]

    async def sentinels(self) -> dict[str, str]:
        """Each sentinel with the primary that it names (empty: no answer); empty without Sentinel."""
        if not self._primaries:
            return {}
        named = await self._primaries.ask_each()
        return {_written(sentinel): _written(primary) if primary else "" for sentinel, primary in named.items()}

    def client_of(self, program: str) -> redis_asyncio.Redis:
        """A client of the server that has the program's ledger."""
        if not self._cluster:
            return self.client
        if program not in self._clients:
            self._clients[program] = open_client(self.of(program), connections_max=CLIENT_CONNECTIONS_MAX)
        return self._clients[program]


def _written(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
