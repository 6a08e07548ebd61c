"""Finds the primary of a Redis or Valkey Cluster that has a program's ledger, and connections that follow it.

A cluster's address is written `cluster://host:port,host:port`, with `user:password@` before the hosts; any few of its
servers are enough. `clusters://` uses TLS (`tls.py`), to the names that the servers announce. A program has one hash
tag and so one slot, whose number is computed here: no command costs a look-up. When a connection is made, all known
servers are asked who serves the slot, and the answer with the highest configuration epoch counts, which is the
cluster's own rule. A server that answers MOVED, CLUSTERDOWN or READONLY is left; the caller gets a lost connection and
repeats.

While a slot migrates key by key, functions answer TRYAGAIN until all keys have arrived; single-key commands follow ASK.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from weakref import WeakSet

import msgspec
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as LostConnection

from reservasi.ledger import keys
from reservasi.ledger.topology.sentinel import UNREACHED, Address, PrimaryConnection
from reservasi.ledger.topology.tls import Tls, TlsConnection, is_anonymous, open_asker, reason, take_tls

SCHEMES = ("cluster://", "clusters://")
PORT = 6379
SLOTS = 16_384
ASK_TIMEOUT_S = 0.5  # of one server
FRESH_S = 0.05  # how long an answer is reused for other connections
UNUSABLE = ("fail", "noaddr", "handshake")  # flags of a server that cannot be asked; "fail?" is only one server's guess
LEAVE = (MovedError, ClusterDownError, ReadOnlyError)


class ClusterUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a `cluster://` address."""

    servers: tuple[Address, ...]
    tls: Tls | None = None
    username: str | None = None
    password: str | None = None


class Claimed(msgspec.Struct, frozen=True):
    """What one server says about a range of slots."""

    config_epoch: int  # grows with each failover and each slot migration
    first: int
    last: int
    address: Address


def parse_cluster_url(url: str) -> ClusterUrl:
    """Parse a `cluster://` address.

    Raises:
        ValueError: it cannot be used; the message says why and never repeats a password.
    """
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    tls = take_tls(parts.scheme == "clusters", options)
    if parts.path not in ("", "/") or options or parts.fragment:
        raise ValueError("nothing may follow the servers: cluster://host:port,host:port")
    return ClusterUrl(
        servers=tuple(_address(host) for host in hosts.split(",")),
        tls=tls,
        username=unquote(username) or None,
        password=unquote(password) or None,
    )


def _address(text: str) -> Address:
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname or parts.path:
        raise ValueError("a cluster needs hosts: cluster://host:port,host:port")
    return parts.hostname, parts.port or PORT


@lru_cache(maxsize=SLOTS)
def slot_of(program: str) -> int:
    """The slot of all keys of a program."""
    return int(key_slot(keys.meta(program).encode()))


class Cluster:
    """The cluster's servers, and which server has which slot; belongs to one event loop."""

    def __init__(self, url: str) -> None:
        self.parsed = parse_cluster_url(url)
        self._servers: set[Address] = set(self.parsed.servers)
        self._clients: dict[Address, redis_asyncio.Redis] = {}
        self._claims: list[Claimed] = []  # highest configuration epoch first
        self._asked_s = float("-inf")
        self._trouble = ""  # error of a server that did not answer when last asked
        self._turn = asyncio.Lock()

    def route(self, program: str) -> "Route":
        """The route to a program's ledger."""
        return Route(self, slot_of(program))

    async def close(self) -> None:
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            with suppress(*UNREACHED):
                await client.aclose()

    async def primaries(self) -> dict[Address, int]:
        """Every primary that has slots now, and how many."""
        await self._refresh()
        owners: dict[int, Address] = {}
        for claim in self._claims:
            for slot in range(claim.first, claim.last + 1):
                owners.setdefault(slot, claim.address)
        return dict(sorted(Counter(owners.values()).items()))

    async def find(self, slot: int) -> Address:
        """The primary of a slot; the last known one if no server answers.

        Raises:
            redis.ConnectionError: none was ever known.
        """
        await self._refresh()
        address = self.last_known(slot)
        if address is None:
            raise LostConnection(f"no server of the cluster serves slot {slot}; {self._trouble or 'all answer'}")
        return address

    def last_known(self, slot: int) -> Address | None:
        """The primary of a slot when it was last asked for."""
        return next((claim.address for claim in self._claims if claim.first <= slot <= claim.last), None)

    async def _refresh(self) -> None:
        async with self._turn:
            if asyncio.get_running_loop().time() - self._asked_s < FRESH_S:
                return
            addresses = sorted(self._servers)
            self._trouble = ""
            answers = await asyncio.gather(*(self._ask(address) for address in addresses))
            self._asked_s = asyncio.get_running_loop().time()
            claims = [claim for answer in answers for claim in answer[0]]
            if claims:
                self._claims = sorted(claims, key=lambda claim: -claim.config_epoch)
                self._servers = {*self.parsed.servers, *(address for answer in answers for address in answer[1])}

    async def _ask(self, address: Address) -> tuple[list[Claimed], list[Address]]:
        """Ask one server: the primaries of the slots, and all servers."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                client: Any = self.client(address)
                text = await client.execute_command("CLUSTER NODES")
        except UNREACHED as error:
            self._trouble = reason(error, anonymous=is_anonymous(self.parsed.tls))
            return [], []
        return read_nodes(text, address, by_name=self.parsed.tls is not None)

    def client(self, address: Address) -> redis_asyncio.Redis:
        """A client for commands to this server itself; closed with the cluster."""
        if address not in self._clients:
            client = self._clients[address] = open_asker(
                address,
                self.parsed.tls,
                username=self.parsed.username,
                password=self.parsed.password,
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=ASK_TIMEOUT_S,
                max_connections=2,
            )
            client.response_callbacks.pop("CLUSTER NODES", None)  # the lines are parsed here
        return self._clients[address]


def read_nodes(
    nodes: bytes | str, address_asked: Address, *, by_name: bool = False
) -> tuple[list[Claimed], list[Address]]:
    """The slots' primaries and all servers in a reply to `CLUSTER NODES`; `by_name` prefers announced host names.

    A line: `<id> <ip:port@cport[,hostname]> <flags> <primary> <ping> <pong> <config epoch> <link> <slot>...`.
    """
    claims: list[Claimed] = []
    servers: list[Address] = []
    text = nodes.decode() if isinstance(nodes, bytes) else nodes
    for line in text.splitlines():
        fields = line.split()
        flags = fields[2].split(",") if len(fields) >= 8 else UNUSABLE
        if any(flag in UNUSABLE for flag in flags):
            continue
        host, _, port = fields[1].partition("@")[0].rpartition(":")
        name = fields[1].partition(",")[2].partition(",")[0] if by_name else ""  # the names in the certificates
        address = (name or host or address_asked[0], int(port) or address_asked[1])
        servers.append(address)
        if "master" in flags:
            claims += [Claimed(int(fields[6]), first, last, address) for first, last in _ranges(fields[8:])]
    return claims, servers


def _ranges(fields: Iterable[str]) -> Iterable[tuple[int, int]]:
    for field in fields:
        if not field.startswith("["):  # a migrating slot still belongs to its owner
            first, _, last = field.partition("-")
            yield int(first), int(last or first)


class Route:
    """The route to the primary of one slot, as `PrimaryConnection` needs it."""

    def __init__(self, cluster: Cluster, slot: int) -> None:
        self.parsed = cluster.parsed
        self.generation = 0  # grows when another server has the slot
        self.connections: WeakSet[PrimaryConnection] = WeakSet()
        self._cluster = cluster
        self._slot = slot
        self._address: Address | None = None
        self._detour: Address | None = None

    async def find(self) -> Address:
        """The primary of the slot now.

        Raises:
            redis.ConnectionError: no server was ever reached.
        """
        address = await self._cluster.find(self._slot)
        if address != self._address:
            self._address = address
            self.generation += 1
        return address

    def ask_next(self, address: Address) -> None:
        """Send the next command to a server that already has its key, although it does not have the slot yet."""
        self._detour = address

    def take_detour(self) -> Address | None:
        """The server for the next command, if it is not the slot's primary."""
        detour, self._detour = self._detour, None
        return detour


class RoutedConnection(PrimaryConnection):
    """A connection to the primary of a slot; closed as soon as that server says that it is not."""

    def __init__(self, *, primaries: Route, **options: Any) -> None:
        super().__init__(primaries=primaries, **options)
        self._route = primaries
        self._asking = False

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect to the slot's primary, or for one command to the server to which the slot migrates."""
        detour = None if self.is_connected and not self._is_old else self._route.take_detour()
        if detour is None:
            await super().connect_check_health(check_health, retry_socket_connect)
            return
        await self.disconnect(nowait=True)
        self.host, self.port = detour
        self._generation = self._route.generation
        await redis_asyncio.Connection.connect_check_health(self, check_health, retry_socket_connect)
        self._asking = True

    async def disconnect(self, *args: Any, **options: Any) -> None:
        """Disconnect; a detour ends with it."""
        self._asking = False
        await super().disconnect(*args, **options)

    async def send_command(self, *args: Any, **options: Any) -> None:
        """Send one command, after ASKING on a detour."""
        if self._asking:
            await super().send_command("ASKING", **options)
            await super().read_response()
        await super().send_command(*args, **options)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply; a redirection is a lost connection."""
        reply = await super().read_response(*args, **options)
        self.note_replied()
        return reply

    def note_replied(self) -> None:
        """End the detour, which is for one command only."""
        if self._asking:
            self._generation = -1

    async def note_refusal(self, error: ResponseError) -> None:
        """Leave a server that does not have the slot.

        Raises:
            redis.ConnectionError: it was left.
        """
        await super().note_refusal(error)
        if not isinstance(error, (AskError, *LEAVE)):
            return
        if isinstance(error, AskError) and not isinstance(error, MovedError):
            self._route.ask_next((error.host or self.host, error.port))
        await self.disconnect(nowait=True)
        raise LostConnection(f"the slot is served elsewhere: {type(error).__name__}") from error


class SecureRoutedConnection(RoutedConnection, TlsConnection):
    """A `RoutedConnection` over TLS."""
