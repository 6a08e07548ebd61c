"""Clients of the ledger's servers, and the errors of a lost one.

redis-py repeats a command up to ten times by default after a lost reply. Here it never does: whether and how long to
repeat is decided by the caller, who knows the deadlines.
"""

import asyncio
from typing import Any, TypeAlias

import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reservasi.ledger.topology.cluster import Route, RoutedConnection, SecureRoutedConnection
from reservasi.ledger.topology.sentinel import SCHEMES, Primaries, PrimaryConnection, SecurePrimaryConnection

LOST = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError)
CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 5.0  # after which a broken route without an error is noticed

Server: TypeAlias = str | Primaries | Route  # an address, or an object that knows the current one


def open_client(server: Server, *, connections_max: int = 16) -> redis_asyncio.Redis:
    """A client for everything outside the claim path; a command waits when all connections are in use.

    Raises:
        ValueError: the address cannot be used.
    """
    pool = open_pool(
        server,
        redis_asyncio.BlockingConnectionPool,
        max_connections=connections_max,
        timeout=CONNECT_TIMEOUT_S,
        socket_timeout=None,  # every call has its own time limit
    )
    return redis_asyncio.Redis(connection_pool=pool)


def open_pool(server: Server, kind: type[redis_asyncio.ConnectionPool], **options: Any) -> Any:
    """A pool of connections to the server's current address; redis-py never repeats a command in it."""
    options |= {"retry": Retry(NoBackoff(), 0), "socket_connect_timeout": CONNECT_TIMEOUT_S}
    if isinstance(server, str) and not server.startswith(SCHEMES):
        return kind.from_url(server, **options)
    primaries = Primaries(server) if isinstance(server, str) else server
    parsed = primaries.parsed
    plain, secure = (
        (RoutedConnection, SecureRoutedConnection)
        if isinstance(primaries, Route)
        else (PrimaryConnection, SecurePrimaryConnection)
    )
    if parsed.tls:
        options["tls"] = parsed.tls
    return kind(
        connection_class=secure if parsed.tls else plain,
        primaries=primaries,
        username=parsed.username,
        password=parsed.password,
        **options,
    )


def text(value: bytes | str) -> str:
    """A field as text, whether or not the client decodes."""
    return value.decode() if isinstance(value, bytes) else value
