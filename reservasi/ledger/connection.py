"""One connection to the ledger's server that sends several function calls at once and reads their replies.

redis-py repeats a command up to ten times by default after a lost reply. Here it never does: whether and how long to
repeat is decided by the caller, who knows the deadlines.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from reservasi.errors import LedgerFault, LedgerFenced, LedgerUnreachable, Overloaded, ReservasiError
from reservasi.ledger import keys, wire
from reservasi.ledger.library import Library
from reservasi.model import Position

# On a failover redis-py may also raise these, out of its own half-closed connection.
LOST = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError, AttributeError, TypeError)
CONNECT_TIMEOUT_S = 2.0
# A replica, a full disk, too few replicas, a cluster that lost a primary: it may be over in a moment.
REFUSES_WRITES = ("READONLY", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN")
ROUND_TRIPS_MAX = 3  # one that finds no functions, one that learns the epoch, one that counts


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One function call of a round trip."""

    command: str
    items: bytes  # packed


class LedgerMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Where a program's ledger is, and whether this run of the server is owned."""

    position: Position  # epoch 0, seq 0 when empty
    owned: bool


def open_client(redis_url: str, *, connections_max: int = 16) -> redis_asyncio.Redis:
    """A client for everything that is not on the claim path; a command waits when all connections are in use."""
    pool = redis_asyncio.BlockingConnectionPool.from_url(
        redis_url,
        max_connections=connections_max,
        timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=None,
    )
    return redis_asyncio.Redis(connection_pool=pool)


class LedgerConnection:
    """A single connection for the calls of one program; not for concurrent use."""

    def __init__(self, redis_url: str, program: str, library: Library) -> None:
        self._program = program
        self._library = library
        self._keys = keys.program_keys(program)
        pool = redis_asyncio.ConnectionPool.from_url(
            redis_url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=CONNECT_TIMEOUT_S
        )
        self._connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        self._epoch = 0  # the newest lineage seen; never goes back, so that an old primary stays fenced

    @property
    def connected(self) -> bool:
        """Whether the last round trip left the connection usable."""
        return bool(self._connection.is_connected)

    async def call(self, frames: Sequence[Frame], timeout_s: float) -> list[bytes | ReservasiError]:
        """Send all frames in one write and read all replies.

        A reply that says another, newer epoch is believed, and the frames are sent again under it; so they are when the
        server did not know the functions. Both happen on the first call after a deploy: hence the three round trips.

        Raises:
            LedgerUnreachable: no connection, or not every reply came in time; the calls may have been carried out.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if not self.connected:
                    await self._connection.connect()
                replies = await self._round_trip(frames)
                for _ in range(ROUND_TRIPS_MAX - 1):
                    if not (self._adopt_epoch(replies) or await self._load_where_missing(replies)):
                        break
                    replies = await self._round_trip(frames)
                self._adopt_epoch(replies)
                return replies
        except LOST as error:
            await self.drop()
            raise LedgerUnreachable(f"the ledger of {self._program} does not answer: {type(error).__name__}") from error
        except asyncio.CancelledError:
            await self.drop()  # replies may be on their way: the next call must not read them as its own
            raise

    async def snapshot(self, timeout_s: float) -> wire.Snapshot | None:
        """Every quota at one position; None while the ledger is fenced."""
        (reply,) = await self.call([Frame(command="snapshot", items=wire.pack([[]]))], timeout_s)
        if isinstance(reply, ReservasiError):
            raise reply
        return wire.decode_snapshot(reply)

    async def own(self, seen: Position, epoch: int, timeout_s: float) -> str:
        """Let this run of the server sell again under `epoch`, provided that the ledger still is where it was seen.

        Returns the outcome: "owned", "exists" or "moved".
        """
        items = wire.pack([[seen.epoch, seen.seq, seen.chain, epoch]])
        (reply,) = await self.call([Frame(command="own", items=items)], timeout_s)
        if isinstance(reply, ReservasiError):
            raise reply
        outcome: str = wire.decode_reply(reply).answers[0][0]
        return outcome

    async def meta(self, timeout_s: float) -> LedgerMeta:
        """Where the ledger is and whether this run of its server is owned.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if not self.connected:
                    await self._connection.connect()
                await self._connection.send_command("HMGET", self._keys[0], "epoch", "seq", "chain", "run_id")
                epoch, seq, chain, run_id = await self._connection.read_response()
                await self._connection.send_command("INFO", "server")
                server = text(await self._connection.read_response())
        except LOST as error:
            await self.drop()
            raise LedgerUnreachable(f"the ledger of {self._program} does not answer: {type(error).__name__}") from error
        position = Position(epoch=int(epoch or 0), seq=int(seq or 0), chain=text(chain or b""))
        owned = run_id is not None and f"run_id:{text(run_id)}\r\n" in server
        return LedgerMeta(position=position, owned=owned)

    async def drop(self) -> None:
        """Close the connection; the next call opens a new one."""
        try:
            await self._connection.disconnect(nowait=True)
        except LOST:
            return

    async def _round_trip(self, frames: Sequence[Frame]) -> list[bytes | ReservasiError]:
        commands = [
            ("FCALL", self._library.function(frame.command), len(self._keys), *self._keys, self._epoch, frame.items)
            for frame in frames
        ]
        connection = self._connection
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return [await self._read_reply() for _ in frames]

    async def _read_reply(self) -> bytes | ReservasiError:
        try:
            reply: bytes = await self._connection.read_response(disable_decoding=True)
            return reply
        except ResponseError as error:
            return _refusal(self._program, error)

    def _adopt_epoch(self, replies: Sequence[bytes | ReservasiError]) -> bool:
        newest = self._epoch
        for reply in replies:
            if not isinstance(reply, ReservasiError):
                newest = max(newest, wire.peek_epoch(reply))
        changed, self._epoch = newest > self._epoch, newest
        return changed

    async def _load_where_missing(self, replies: Sequence[bytes | ReservasiError]) -> bool:
        """A server that came up empty, or a first start, does not know the functions yet."""
        if not any(isinstance(reply, ReservasiError) and "Function not found" in str(reply) for reply in replies):
            return False
        await self._connection.send_command("FUNCTION", "LOAD", "REPLACE", self._library.source)
        loaded = await self._read_reply()
        if isinstance(loaded, ReservasiError):
            raise loaded
        return True


def _refusal(program: str, error: ResponseError) -> ReservasiError:
    """What a server's error means: full, not to be written to now, or a bug of ours."""
    message = str(error)
    if isinstance(error, OutOfMemoryError) or message.startswith("OOM"):
        return Overloaded(f"the memory of the ledger of {program} is full")
    if isinstance(error, ReadOnlyError) or message.startswith(REFUSES_WRITES):
        return LedgerFenced(f"the server of the ledger of {program} takes no writes: {message}")
    return LedgerFault(f"{program}: {message}")


def text(value: bytes | str) -> str:
    """A field as text, whichever way the client decodes."""
    return value.decode() if isinstance(value, bytes) else value
