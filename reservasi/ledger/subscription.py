"""Messages of one channel, each handed over in the turn of the loop in which it arrives.

redis-py wakes a task for each message, through a dozen calls, and a front hears one for every batch that is recorded.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import redis.asyncio as redis_asyncio
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import InvalidResponse

_NO_REPLY = object()  # none is there as a whole
MESSAGE = b"message"  # how one begins that was published


class Subscription(asyncio.Protocol):
    """The bytes of one connection that has subscribed."""

    def __init__(self, connection: Any, hear: Callable[[bytes], None]) -> None:
        """Take the bytes over from redis-py, which has no public way to its transport; `hear` gets each message."""
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001
        self._streams: Any = self._transport.get_protocol()
        self._reader = hiredis.Reader(protocolError=InvalidResponse, notEnoughData=_NO_REPLY)
        self._hear = hear
        self._heard = 0
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport.set_protocol(self)

    async def until_silent(self, silent_s: float) -> None:
        """Return once no message has come for so long, at most twice that.

        Raises:
            OSError, redis.RedisError: the connection is lost.
            Exception: what `hear` raised.
        """
        heard = -1
        while heard != self._heard:
            heard = self._heard
            await asyncio.wait([self._lost], timeout=silent_s)
            if self._lost.done():
                self._lost.result()

    def _lose(self, error: Exception) -> None:
        if not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()  # nobody may be waiting, and that is no fault

    # -- what the transport calls ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Hand over what has come."""
        self._reader.feed(data)
        try:
            said = self._reader.gets()
            while said is not _NO_REPLY:
                if isinstance(said, Exception):
                    self._lose(said)
                elif isinstance(said, list) and said[0] == MESSAGE:
                    self._heard += 1
                    self._hear(said[2])
                said = self._reader.gets()
        except Exception as error:
            self._lose(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits hears of it, and redis-py's streams as well."""
        self._lose(LostConnection("the server closed the connection") if exc is None else exc)
        self._streams.connection_lost(exc)


@asynccontextmanager
async def subscribed(
    client: redis_asyncio.Redis, channel: str, hear: Callable[[bytes], None]
) -> AsyncIterator[Subscription]:
    """A subscription for as long as the block lasts.

    Raises:
        OSError, redis.RedisError: the server is not reached, or refuses.
    """
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_command("SUBSCRIBE", channel)
        await connection.read_response(push_request=True)  # under RESP3 the confirmation is a push as well
        yield Subscription(connection, hear)
    finally:
        await connection.disconnect(nowait=True)
        await pool.release(connection)
