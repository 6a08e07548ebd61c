"""Finds the ledger's primary through Redis Sentinel, and connections that follow it at a failover.

A server's address is then written `sentinel://host:26379,host:26379/<name of the primary>`; `user:password@` before the
hosts is for the ledger's servers, `?sentinel_username=` and `sentinel_password=` for the sentinels. `sentinels://` uses
TLS to all of them (`tls.py`). Of the sentinels' answers the newest configuration counts, and an older one never again:
a sentinel that was cut off together with the old primary would name that one.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit
from weakref import WeakSet

import msgspec
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from reservasi.ledger.acknowledging import asks_enough
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.ledger.topology.tls import Tls, TlsConnection, is_anonymous, open_asker, reason, take_tls
from reservasi.logs import get_logger

SCHEMES = ("sentinel://", "sentinels://")
SENTINEL_PORT = 26379
ASK_TIMEOUT_S = 0.5  # of one sentinel
FRESH_S = 0.05  # how long an answer is reused for other connections
WATCH_INTERVAL_S = 0.5
REPLICAS_EVERY = 20  # polls of the primary between two polls of its replicas
MISREAD = (AttributeError, TypeError, ValueError, KeyError)  # raised by redis-py for an unexpected reply
UNREACHED = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError, *MISREAD)
NEVER_PROMOTED = 0  # a replica's priority
T = TypeVar("T")
Address = tuple[str, int]

log = get_logger()


class SentinelUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a `sentinel://` address."""

    sentinels: tuple[Address, ...]
    name: str  # the primary's name at the sentinels
    username: str | None = None  # at the ledger's servers
    password: str | None = None
    tls: Tls | None = None  # to all servers
    sentinel_username: str | None = None
    sentinel_password: str | None = None


class _Named(msgspec.Struct, frozen=True):
    """The primary that one sentinel names."""

    config_epoch: int  # grows with each failover
    address: Address


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Parse a `sentinel://` address.

    Raises:
        ValueError: it cannot be used; the message says why and never repeats a password.
    """
    scheme, _, rest = url.partition("://")
    address, _, query = rest.partition("?")  # urlsplit() accepts only one host
    authority, _, path = address.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    username, _, password = credentials.partition(":")
    name = unquote(path)
    if not name or "/" in name:
        raise ValueError("the primary's name must follow the sentinels: sentinel://host:26379,host:26379/<name>")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    tls = take_tls(scheme == "sentinels", options)
    if unknown := set(options) - {"sentinel_username", "sentinel_password"}:
        raise ValueError(f"unknown options of a sentinel address: {', '.join(sorted(unknown))}")
    return SentinelUrl(
        sentinels=tuple(_address(host) for host in hosts.split(",")),
        name=name,
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=tls,
        sentinel_username=options.get("sentinel_username") or None,
        sentinel_password=options.get("sentinel_password") or None,
    )


def _address(text: str) -> Address:
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname or parts.path:
        raise ValueError("a sentinel needs a host: sentinel://host:26379,host:26379/<name>")
    return parts.hostname, parts.port or SENTINEL_PORT


class Primaries:
    """The primary that the sentinels name now; belongs to one event loop."""

    def __init__(self, url: str, *, replicas_min_ack: int | None = None) -> None:
        """If `replicas_min_ack` is given, it is compared with the number of replicas."""
        self.parsed = parse_sentinel_url(url)
        self._replicas_min_ack = replicas_min_ack
        self._promotable = 0  # replicas, when last read
        self.generation = 0  # grows when the primary changes
        self.connections: WeakSet[PrimaryConnection] = WeakSet()
        self._address: Address | None = None
        self._trouble = ""  # error of a sentinel that did not answer when last asked
        self._config_epoch = -1
        self._asked_s = float("-inf")
        self._turn = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keep polling, so that a connection to a replaced primary is closed even if it still works."""
        self._watch = asyncio.create_task(self._ask_on())

    async def close(self) -> None:
        if self._watch is not None:
            await end_tasks([self._watch])

    async def find(self) -> Address:
        """The primary's address; the last known one if no sentinel answers.

        Raises:
            redis.ConnectionError: none was ever known.
        """
        async with self._turn:
            if asyncio.get_running_loop().time() - self._asked_s >= FRESH_S:
                clients = self._open_clients()
                try:
                    await self._ask(clients)
                finally:
                    await _close(clients)
        if self._address is None:
            raise LostConnection(f"no sentinel names a primary {self.parsed.name!r}; {self._trouble or 'all answer'}")
        return self._address

    async def promotable(self) -> int | None:
        """How many replicas the sentinels may promote: the largest answer; None if none answers."""
        clients = self._open_clients()
        try:
            return await self._count_promotable(clients)
        finally:
            await _close(clients)

    async def ask_each(self) -> dict[Address, Address | None]:
        """The primary that each sentinel names; None if it does not answer or does not know. Changes nothing."""
        clients = self._open_clients()
        try:
            answers = await asyncio.gather(*(_ask_sentinel(client, self.parsed.name) for client in clients))
        finally:
            await _close(clients)
        named = [answer.address if isinstance(answer, _Named) else None for answer in answers]
        return dict(zip(self.parsed.sentinels, named, strict=True))

    async def _ask_on(self) -> None:
        clients = self._open_clients()
        try:
            for turn in itertools.count():
                await self._ask(clients)
                if self._replicas_min_ack is not None and turn % REPLICAS_EVERY == 0:
                    self._warn(self._replicas_min_ack, await self._count_promotable(clients))
                await asyncio.sleep(WATCH_INTERVAL_S)
        finally:
            await _close(clients)

    async def _count_promotable(self, clients: Sequence[redis_asyncio.Redis]) -> int | None:
        answers = await asyncio.gather(*(_promotable(client, self.parsed.name) for client in clients))
        return max((count for count in answers if count is not None), default=None)

    def _warn(self, acks: int, promotable: int | None) -> None:
        """Log once that fewer acknowledgements are required than replicas may be promoted, and again when there are
        more.
        """
        if promotable is not None and promotable != self._promotable:
            self._promotable = promotable
            if not asks_enough(acks, promotable):
                log.warning("ledger_failover_may_forget", replicas=promotable, replicas_min_ack=acks)

    async def _ask(self, clients: Sequence[redis_asyncio.Redis]) -> None:
        answers = await asyncio.gather(*(_ask_sentinel(client, self.parsed.name) for client in clients))
        self._asked_s = asyncio.get_running_loop().time()
        faults = (answer for answer in answers if isinstance(answer, Exception))
        self._trouble = next((reason(fault, anonymous=is_anonymous(self.parsed.tls)) for fault in faults), "")
        self._believe([answer for answer in answers if isinstance(answer, _Named)])

    def _believe(self, answers: Sequence[_Named]) -> None:
        newest = max((answer.config_epoch for answer in answers), default=-1)
        if newest < 0 or newest < self._config_epoch:
            return
        named = Counter(answer.address for answer in answers if answer.config_epoch == newest)
        ((address, _),) = named.most_common(1)
        self._config_epoch = newest
        if address != self._address:
            log.warning("ledger_primary_changed", name=self.parsed.name, address=address, before=self._address)
            self._address = address
            self.generation += 1
            for connection in list(self.connections):
                connection.abort()

    def _open_clients(self) -> list[redis_asyncio.Redis]:
        parsed = self.parsed
        return [
            open_asker(
                address,
                parsed.tls,
                username=parsed.sentinel_username,
                password=parsed.sentinel_password,
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=ASK_TIMEOUT_S,
            )
            for address in parsed.sentinels
        ]


async def _ask_sentinel(client: redis_asyncio.Redis, name: str) -> _Named | Exception:
    """The primary that a sentinel names, or the fault if it does not answer or does not know."""
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            # The epoch first: an address that changes in between is then newer than the epoch.
            state: Any = await client.sentinel_master(name)
            address: Any = await client.sentinel_get_master_addr_by_name(name)
            return _Named(int(state["config-epoch"]), (_text(address[0]), int(address[1])))
    except UNREACHED as error:
        return error


async def _promotable(client: redis_asyncio.Redis, name: str) -> int | None:
    """How many replicas one sentinel may promote; None if it does not answer or does not know."""
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            replicas: Any = await client.sentinel_slaves(name)
            return sum(int(replica["slave-priority"]) != NEVER_PROMOTED for replica in replicas)
    except UNREACHED:
        return None


async def _close(clients: Iterable[redis_asyncio.Redis]) -> None:
    for client in clients:
        with suppress(*UNREACHED):
            await client.aclose()


class Guide(Protocol):
    """An object that knows the current server."""

    generation: int  # grows when the server changes
    connections: "WeakSet[PrimaryConnection]"  # connections that it led to

    async def find(self) -> Address:
        """The server's address."""


class PrimaryConnection(redis_asyncio.Connection):
    """A connection that asks for the primary before it connects, and is closed when another server is the primary."""

    def __init__(self, *, primaries: Guide, **options: Any) -> None:
        super().__init__(**options)
        self._primaries = primaries
        self._generation = -1
        primaries.connections.add(self)

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect to the current primary."""
        if self.is_connected and self._is_old:
            await self.disconnect(nowait=True)
        if not self.is_connected:
            self.host, self.port = await self._primaries.find()
            self._generation = self._primaries.generation
        await _faithful(super().connect_check_health(check_health, retry_socket_connect))

    def abort(self) -> None:
        """Close at once, so that nobody waits for an answer: a server that was cut off would never give one."""
        writer = getattr(self, "_writer", None)  # redis-py has no public access to it
        if writer is not None:
            writer.transport.abort()

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, unless another server is the primary by now."""
        await self.leave_old()
        await _faithful(super().send_packed_command(command, check_health))

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply; a server that refuses writes gets no further command."""
        await self.leave_old()
        try:
            return await _faithful(super().read_response(*args, **options))
        except ResponseError as error:
            await self.note_refusal(error)
            raise

    def note_replied(self) -> None:
        """A command has been answered."""

    async def note_refusal(self, error: ResponseError) -> None:
        """Leave a server that refuses writes before the next command."""
        if isinstance(error, ReadOnlyError):
            self._generation = -1

    @property
    def _is_old(self) -> bool:
        return self._generation != self._primaries.generation

    async def leave_old(self) -> None:
        """Leave a server that is not the primary any more.

        Raises:
            redis.ConnectionError: it was left.
        """
        if self.is_connected and self._is_old:
            await self.disconnect(nowait=True)
            raise LostConnection("another server is the primary now")


class SecurePrimaryConnection(PrimaryConnection, TlsConnection):
    """A `PrimaryConnection` over TLS."""


async def _faithful(call: Awaitable[T]) -> T:
    """The result of one of redis-py's calls, which may raise anything when its connection ends."""
    try:
        return await call
    except (AttributeError, TypeError) as error:
        raise LostConnection(f"half-closed: {error}") from error


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
