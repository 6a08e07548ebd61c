"""TLS to servers whose addresses are learned at run time: `sentinels://` and `clusters://`, options as in
`rediss://`.
"""

import ssl
from functools import cache
from typing import Any

import msgspec
import redis.asyncio as redis_asyncio

from reservasi.errors import described

HUNG_UP = ("while reading", "while writing", "closed", "Connection reset", "Broken pipe")  # in messages of redis-py
OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Trusted authorities and our certificate; the same for sentinels and the ledger's servers."""

    ssl_ca_certs: str | None = None  # file; None: the system's authorities
    ssl_certfile: str | None = None  # our certificate, if servers require one
    ssl_keyfile: str | None = None


class TlsConnection(redis_asyncio.SSLConnection):
    """A connection with a shared TLS context, since making one may take longer than a sentinel's time limit."""

    def __init__(self, *, tls: Tls, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = _context(tls)
        self.ssl_context.certfile = tls.ssl_certfile


def take_tls(secure: bool, options: dict[str, str]) -> Tls | None:
    """Take the TLS options of an address out of its options; None without TLS.

    Raises:
        ValueError: a file cannot be used.
    """
    if not secure:
        return None
    tls = Tls(**{name: options.pop(name) for name in OPTIONS if name in options})
    try:
        _context(tls)
    except OSError as error:  # ssl.SSLError is an OSError
        raise ValueError(f"a file of the TLS options cannot be used: {error}") from error
    return tls


def open_asker(address: tuple[str, int], tls: Tls | None, **options: Any) -> redis_asyncio.Redis:
    """A client of one server."""
    kind = TlsConnection if tls else redis_asyncio.Connection
    secure: dict[str, Any] = {"tls": tls} if tls else {}
    pool = redis_asyncio.ConnectionPool(connection_class=kind, host=address[0], port=address[1], **secure, **options)
    return redis_asyncio.Redis.from_pool(pool)


def is_anonymous(tls: Tls | None) -> bool:
    """Whether TLS is used without a client certificate."""
    return tls is not None and tls.ssl_certfile is None


def shows_no_certificate(connection: redis_asyncio.Connection) -> bool:
    """Whether a connection uses TLS without a client certificate."""
    return isinstance(connection, redis_asyncio.SSLConnection) and connection.ssl_context.certfile is None


def reason(error: Exception, *, anonymous: bool = False) -> str:
    """Why a server was not reached, as a message.

    A server that requires a client certificate closes an `anonymous` connection after the handshake, and its message
    may be lost with the connection.
    """
    message = described(error)
    if anonymous and any(words in message for words in HUNG_UP):
        message += "; it may require a client certificate (ssl_certfile, ssl_keyfile)"
    return message


@cache
def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ssl_ca_certs)  # checks host names
    if tls.ssl_certfile:
        context.load_cert_chain(tls.ssl_certfile, tls.ssl_keyfile)
    return context
