"""The ledger's servers as their address names them: one, whoever Sentinel says is the primary, or a cluster."""

import redis.asyncio as redis_asyncio

from reservasi.ledger.cluster import SCHEME as CLUSTER
from reservasi.ledger.cluster import Cluster
from reservasi.ledger.connection import Server, open_client
from reservasi.ledger.primaries import SCHEME as SENTINEL
from reservasi.ledger.primaries import Primaries
from reservasi.ledger.server import connected_replicas

CLIENT_CONNECTIONS_MAX = 512  # one blocking reader a program, and a few for the rest


class Servers:
    """Where each program's ledger is, and clients for what is not a function call; belongs to one event loop.

    Raises:
        ValueError: the address cannot be used.
    """

    def __init__(self, url: str, *, replicas_min_ack: int | None = None) -> None:
        """`replicas_min_ack`, when given, is held against how many replicas there are."""
        self._cluster = Cluster(url) if url.startswith(CLUSTER) else None
        self._primaries = Primaries(url, replicas_min_ack=replicas_min_ack) if url.startswith(SENTINEL) else None
        self._url = url
        # For what is asked of a server itself; in a cluster of any.
        self.client = open_client(self.of(""), connections_max=CLIENT_CONNECTIONS_MAX)
        self._clients: dict[str, redis_asyncio.Redis] = {}

    def start(self) -> None:
        """Follow a primary that is replaced."""
        if self._primaries:
            self._primaries.start()

    async def close(self) -> None:
        """Close all clients."""
        for client in (self.client, *self._clients.values()):
            await client.aclose()
        for known in (self._primaries, self._cluster):
            if known:
                await known.close()

    async def promotable(self) -> int | None:
        """How many replicas may be promoted unasked; None where nobody would, or nobody says.

        Raises:
            LedgerUnreachable: no server of the cluster answers.
        """
        if self._primaries:
            return await self._primaries.promotable()
        return await connected_replicas(self.client) if self._cluster else None

    def of(self, program: str) -> Server:
        """Where a program's ledger is."""
        return self._cluster.route(program) if self._cluster else self._primaries or self._url

    def client_of(self, program: str) -> redis_asyncio.Redis:
        """A client of the server that has the program's ledger."""
        if not self._cluster:
            return self.client
        if program not in self._clients:
            self._clients[program] = open_client(self.of(program), connections_max=CLIENT_CONNECTIONS_MAX)
        return self._clients[program]
