"""Opens the ledger's servers, with clear messages for what cannot be used."""

import asyncio

from reservasi.bootstrap.addresses import redis_url, refuse_missing_files
from reservasi.errors import ConfigurationError, LedgerUnreachable
from reservasi.ledger.topology.clients import LOST
from reservasi.ledger.topology.server_facts import name_without_waitaof
from reservasi.ledger.topology.servers import Servers
from reservasi.settings import Settings

VERSION_TIMEOUT_S = 5.0  # for all servers of the ledger together


def open_servers(settings: Settings) -> Servers:
    """The ledger's servers, without a request to them yet.

    Raises:
        ConfigurationError: their address cannot be used.
    """
    refuse_missing_files("redis_url", redis_url(settings))
    try:
        return Servers(redis_url(settings), replicas_min_ack=settings.replicas_min_ack)
    except ValueError as error:
        raise ConfigurationError(f"redis_url cannot be used: {error}") from error


async def refuse_unacknowledged(settings: Settings, servers: Servers) -> None:
    """Refuse to start if a server can never satisfy `aof_ack`: each claim would wait for its record.

    A server that does not answer now may still be suitable.

    Raises:
        ConfigurationError: it does not know WAITAOF.
    """
    if settings.aof_ack == "off":
        return
    try:
        async with asyncio.timeout(VERSION_TIMEOUT_S):
            names = [await name_without_waitaof(each.client) for each in await servers.primaries()]
    except (LedgerUnreachable, *LOST):
        return
    if old := sorted({name for name in names if name}):
        raise ConfigurationError(
            f"aof_ack = {settings.aof_ack} needs WAITAOF, which {' and '.join(old)} does not have: run Redis 7.2 or "
            "newer, or any Valkey, or set aof_ack = off"
        )
