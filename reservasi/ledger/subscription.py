"""A subscription to one channel: each message is delivered in the turn of the event loop in which it arrives.

redis-py wakes a task for each message; a front gets one message for every recorded batch.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import redis.asyncio as redis_asyncio
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import InvalidResponse

from reservasi.ledger.round_trips import has_ended
from reservasi.ledger.topology.clients import READ_TIMEOUT_S

_INCOMPLETE = object()  # the message is not complete yet
MESSAGE = b"message"  # first element of a published message


class Subscription(asyncio.Protocol):
    """The reading end of one connection that has subscribed."""

    def __init__(self, connection: Any, on_message: Callable[[bytes], None]) -> None:
        """Take the transport over from redis-py through private attributes; `on_message` gets each message."""
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001
        self._streams: Any = self._transport.get_protocol()
        self._reader = hiredis.Reader(protocolError=InvalidResponse, notEnoughData=_INCOMPLETE)
        self._on_message = on_message
        self._received = 0
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if has_ended(connection):
            self._lose(LostConnection("the connection has ended"))
        self._transport.set_protocol(self)

    async def wait_for_silence(self, silent_s: float) -> None:
        """Return once no message has come for `silent_s`, at most twice that.

        Raises:
            OSError, redis.RedisError: the connection is lost.
            Exception: raised by `on_message`.
        """
        received = -1
        while received != self._received:
            received = self._received
            await asyncio.wait([self._lost], timeout=silent_s)
            if self._lost.done():
                self._lost.result()

    def _lose(self, error: Exception) -> None:
        if not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()  # marks the exception as retrieved: nobody may be waiting

    # -- called by the transport ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Deliver the complete messages."""
        self._reader.feed(data)
        try:
            reply = self._reader.gets()
            while reply is not _INCOMPLETE:
                if isinstance(reply, Exception):
                    self._lose(reply)
                elif isinstance(reply, list) and reply[0] == MESSAGE:
                    self._received += 1
                    self._on_message(reply[2])
                reply = self._reader.gets()
        except Exception as error:
            self._lose(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait and tell redis-py's streams."""
        self._lose(LostConnection("the server closed the connection") if exc is None else exc)
        self._streams.connection_lost(exc)


@asynccontextmanager
async def subscribed(
    client: redis_asyncio.Redis, channel: str, on_message: Callable[[bytes], None]
) -> AsyncIterator[Subscription]:
    """A subscription during the block.

    Raises:
        OSError, TimeoutError, redis.RedisError: the server cannot be reached, or refuses.
    """
    pool: Any = client.connection_pool
    async with asyncio.timeout(READ_TIMEOUT_S):
        connection = await pool.get_connection()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            await connection.send_command("SUBSCRIBE", channel)
            await connection.read_response(push_request=True)  # under RESP3 the confirmation is a push message
        yield Subscription(connection, on_message)
    finally:
        await connection.disconnect(nowait=True)
        await pool.release(connection)
