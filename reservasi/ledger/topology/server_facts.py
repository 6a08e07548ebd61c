"""Which server the ledger runs on, and whether its settings keep what it accepted."""

from typing import Any

import msgspec
import redis.asyncio as redis_asyncio
from redis.exceptions import NoPermissionError, ResponseError

from reservasi.errors import LedgerUnreachable
from reservasi.ledger import keys
from reservasi.ledger.topology.clients import LOST
from reservasi.ledger.topology.tls import reason

VERSION_MIN = (7, 0, 15)  # Redis; every Valkey reports 7.2 or newer for compatibility
VERSION_OF_WAITAOF = (7, 2, 0)
REPLAY_WORDS = (
    "the default user has the rights of the ledger: a restart can replay the whole file",
    (
        "the default user lacks rights, and as that user many servers replay their file: a restart may forget all "
        "changes; set user default off ... allkeys allchannels +@all"
    ),
)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a server on which promises depend."""

    name: str
    well: bool | None  # None: the server does not let us read it
    said: str  # what is right; or the consequence and the remedy


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A server's version and the settings on which promises depend; None where it does not say."""

    version: str
    recent_enough: bool
    append_only: bool | None
    fsync: str | None  # appendfsync; only "always" survives power loss, the others a crash
    snapshots: str | None  # snapshot schedule, such as "3600 1 300 100"; empty: never
    policy: str | None  # maxmemory-policy; a ledger must not lose keys when memory is short
    replicas: int  # connected now
    waits_for_files: bool  # whether it knows WAITAOF
    replays: bool | None  # whether its default user, as which many servers replay their file, may do what functions do
    libraries: tuple[str, ...] | None  # names of function libraries

    def checks(self) -> list[Check]:
        """Whether the server keeps what it accepts, as messages."""
        return [
            Check(name="server version", well=self.recent_enough, said=self._version_words()),
            Check(name="append-only file", well=self.append_only, said=self._append_only_words()),
            Check(name="replay", well=self.replays, said=_words(self.replays, *REPLAY_WORDS)),
            Check(name="fsync", well=self._synced, said=self._fsync_words()),
            Check(name="eviction", well=self._keeps, said=self._eviction_words()),
        ]

    @property
    def _synced(self) -> bool | None:
        if self.append_only is False:  # there is nothing to sync
            return False
        return None if self.fsync is None else self.fsync == "always"

    @property
    def _keeps(self) -> bool | None:
        return None if self.policy is None else self.policy == "noeviction"

    def _version_words(self) -> str:
        if self.recent_enough:
            return f"{self.version} has what the ledger needs"
        return f"{self.version} is too old: run Redis 7.0.15 or newer, or any Valkey"

    def _append_only_words(self) -> str:
        kept = (
            f"snapshots alone (save {self.snapshots}) lose changes after the last one"
            if self.snapshots
            else ("a restart loses everything")
        )
        return _words(
            self.append_only,
            "appendonly is yes: a restart keeps what was promised",
            f"appendonly is no: {kept}; set appendonly yes",
        )

    def _fsync_words(self) -> str:
        if self.append_only is False:
            return "there is no append-only file to sync: set appendonly yes and appendfsync always"
        return _words(
            self._synced,
            "appendfsync is always: power loss loses nothing",
            f"appendfsync is {self.fsync}: power loss loses promises of the last seconds; set appendfsync always",
        )

    def _eviction_words(self) -> str:
        return _words(
            self._keeps,
            "maxmemory-policy is noeviction: no promise is lost when memory is short",
            f"maxmemory-policy is {self.policy}: promises are lost when memory is short; set noeviction",
        )


async def read_facts(client: redis_asyncio.Redis) -> ServerFacts:
    """Read the facts from the server.

    Raises:
        LedgerUnreachable: it does not answer.
    """
    name, version = _version(await _info(client, "server"))
    replication = await _info(client, "replication")
    policy = await _setting(client, "maxmemory-policy") or (await _info(client, "memory")).get("maxmemory_policy")
    append_only = await _setting(client, "appendonly")
    if append_only is None and "aof_enabled" in (persistence := await _info(client, "persistence")):
        append_only = "yes" if int(persistence["aof_enabled"]) else "no"
    sync = await _setting(client, "appendfsync")
    return ServerFacts(
        version=name,
        recent_enough=version >= VERSION_MIN,
        append_only=None if append_only is None else append_only == "yes",
        fsync=sync,
        snapshots=await _setting(client, "save"),
        policy=policy,
        replicas=int(replication["connected_slaves"]),
        waits_for_files=version >= VERSION_OF_WAITAOF,
        replays=await _replays(client),
        libraries=await _libraries(client),
    )


async def name_without_waitaof(client: redis_asyncio.Redis) -> str:
    """Name and version of a server that does not know WAITAOF; empty if it does.

    Raises:
        LedgerUnreachable: it does not answer.
    """
    name, version = _version(await _info(client, "server"))
    return "" if version >= VERSION_OF_WAITAOF else name


async def connected_replicas(client: redis_asyncio.Redis) -> list[str]:
    """The addresses of the replicas that follow the server, according to it.

    Raises:
        LedgerUnreachable: it does not answer.
    """
    info = await _info(client, "replication")
    replicas = [info[f"slave{number}"] for number in range(int(info["connected_slaves"]))]
    return [f"{each['ip']}:{each['port']}" for each in replicas]


async def rewrite_append_only_file(client: redis_asyncio.Redis) -> bool:
    """Start a rewrite of the append-only file, without deleted data; False if we may not.

    Raises:
        LedgerUnreachable: the server does not answer.
    """
    try:
        await client.bgrewriteaof()
    except NoPermissionError:
        return False
    except ResponseError as error:
        if "in progress" in str(error):  # a rewrite that began before the deletion is not enough
            return False
        raise LedgerUnreachable(f"the append-only file cannot be rewritten: {error}") from error
    except LOST as error:
        raise LedgerUnreachable(f"the ledger's server does not answer: {reason(error)}") from error
    return True


async def _info(client: redis_asyncio.Redis, section: str) -> dict[str, Any]:
    try:
        info: dict[str, Any] = await client.info(section)
    except LOST as error:
        raise LedgerUnreachable(f"the ledger's server does not answer: {reason(error)}") from error
    return info


def _version(info: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    """A server's name and version as text, and the Redis version with which it is compatible."""
    version = str(info["redis_version"])
    name = f"valkey {info['valkey_version']}" if "valkey_version" in info else f"redis {version}"
    return name, tuple(int(part) for part in version.split(".")[:3])


async def _replays(client: redis_asyncio.Redis) -> bool | None:
    """Whether the default user may write to a ledger; None if we may not ask."""
    try:
        reply: Any = await client.acl_dryrun("default", "HSET", keys.meta("any"), "epoch", "0")
    except LOST:
        return None
    return _text(reply) == "OK"


async def _libraries(client: redis_asyncio.Redis) -> tuple[str, ...] | None:
    """Names of the server's function libraries; None if we may not ask."""
    try:
        libraries: Any = await client.function_list()
    except LOST:
        return None
    return tuple(_text(name) for _, name, *_ in libraries)


async def _setting(client: redis_asyncio.Redis, name: str) -> str | None:
    """A server's setting; None if we may not ask, as on managed services."""
    try:
        reply: dict[Any, Any] = await client.config_get(name)
    except LOST:
        return None
    values = [_text(value) for value in reply.values()]
    return values[0] if values else None


def _words(well: bool | None, fine: str, otherwise: str) -> str:
    if well is None:
        return f"the server does not let us read it; needed: {fine}"
    return fine if well else otherwise


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
