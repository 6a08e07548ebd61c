"""Blocking reads of a journal over a connection that is kept between reads.

A follower reads again after each read. redis-py takes a connection out of its pool, checks it and wakes a task for each
part of a reply; here a read is one round trip (`ledger/round_trips.py`).
"""

import asyncio
from typing import Any

import redis.asyncio as redis_asyncio
from hiredis import pack_command
from redis.exceptions import ResponseError

from reservasi.ledger.round_trips import RoundTrips

Entries = list[tuple[bytes, dict[bytes, bytes]]]


class EntryReader:
    """Reads one program's stream; one read at a time."""

    def __init__(self, client: redis_asyncio.Redis, stream: str) -> None:
        self._pool: Any = client.connection_pool
        self._stream = stream
        self._connection: Any = None
        self._trips: RoundTrips | None = None

    async def read(self, since: str, count: int, block_ms: int, timeout_s: float) -> Entries:
        """Entries after an id, at most `count`, waiting up to `block_ms` for the first one.

        Raises:
            TimeoutError: no reply in time.
            OSError, redis.RedisError: the server cannot be reached, or refuses.
        """
        due_s = asyncio.get_running_loop().time() + timeout_s
        question: Any = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", self._stream, since)
        try:
            trips = self._trips or await self._open(due_s)
            (reply,) = await trips.ask(pack_command(question), 1, due_s, lambda: None)
        except BaseException:
            await self.close()
            raise
        if isinstance(reply, ResponseError):
            raise reply
        return entries_of(reply)

    async def _open(self, due_s: float) -> RoundTrips:
        async with asyncio.timeout_at(due_s):
            self._connection = await self._pool.get_connection()
        self._trips = RoundTrips(self._connection)
        return self._trips

    async def close(self) -> None:
        """Close the connection; the next read opens another one."""
        connection, self._connection, self._trips = self._connection, None, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)


def entries_of(reply: Any) -> Entries:
    """The entries in XREAD's reply, whose form depends on the protocol version."""
    if not reply:
        return []
    (of_stream,) = reply.values() if isinstance(reply, dict) else (reply[0][1],)
    return [(entry_id, dict(zip(fields[::2], fields[1::2], strict=True))) for entry_id, fields in of_stream]
