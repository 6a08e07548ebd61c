"""Round trips over a connection that redis-py has opened: all commands in one write, all replies to one caller.

redis-py finds the server, connects and authenticates. Its streams would wake a task for every reply; here replies are
read in the turn of the event loop in which they arrive, and the caller is woken once.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import InvalidResponse, ResponseError

from reservasi.ledger.topology.sentinel import PrimaryConnection

_INCOMPLETE = object()  # no complete reply has arrived


class RoundTrips(asyncio.Protocol):
    """Both ends of one open connection, for one round trip at a time."""

    def __init__(self, connection: Any) -> None:
        """Take the transport over from redis-py through private attributes."""
        self._guided = connection if isinstance(connection, PrimaryConnection) else None
        self._transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001
        self._streams: Any = self._transport.get_protocol()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001
            notEnoughData=_INCOMPLETE,
        )
        self._loop = asyncio.get_running_loop()
        self._due_s = 0.0  # when the replies must be there
        # one timer for many round trips, since setting and cancelling one is expensive
        self._watch: asyncio.TimerHandle | None = None
        self._watch_s = 0.0  # when it is due; uvloop's handles do not always report it
        self._answered: asyncio.Future[list[Any]] | None = None  # the waiting caller of `ask`
        self._replies: list[Any] = []
        self._wanted = 0
        # Nothing more can be sent. A connection loss that redis-py has already seen is not reported again.
        self.ended = has_ended(connection)
        self._transport.set_protocol(self)

    def give_back(self) -> None:
        """Give the transport back to redis-py."""
        self._end()
        self._transport.set_protocol(self._streams)

    async def ask(self, commands: bytes, count: int, due_s: float, sent: Callable[[], None]) -> list[Any]:
        """Write commands, call `sent`, and wait for `count` replies, errors included.

        `due_s` is by the event loop's clock. A caller that is interrupted must drop the connection.

        Raises:
            TimeoutError: not all replies came in time.
            OSError, redis.RedisError: the connection is lost, or the server must not be asked.
        """
        if self._guided is not None:
            await self._guided.leave_old()
        if self.ended or self._reader.has_data():
            raise LostConnection("the connection has ended, or is out of step")
        self._replies, self._wanted = [], count
        answered: asyncio.Future[list[Any]] = self._loop.create_future()
        self._answered = answered
        self._due_s = due_s
        if self._watch is None or due_s < self._watch_s:
            self._watch_until(due_s)
        try:
            self._transport.write(commands)
            sent()
            replies = await answered
        except BaseException:  # its replies may still arrive
            self._end()
            answered.cancel()
            raise
        finally:
            self._answered = None
        for reply in replies:
            if isinstance(reply, Exception):
                await self._note_error(reply)
        if self._guided is not None:
            self._guided.note_replied()
        return replies

    async def _note_error(self, error: Exception) -> None:
        """Handle an error reply: it answers one command, unless it says that this is the wrong server."""
        if not isinstance(error, ResponseError):
            raise error
        if self._guided is not None:
            await self._guided.note_refusal(error)

    def _watch_until(self, due_s: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch, self._watch_s = self._loop.call_at(due_s, self._check_due), due_s

    def _check_due(self) -> None:
        """The timer is due: end the round trip under way if its time is over."""
        self._watch = None
        if self._answered is None:
            return
        if self._loop.time() < self._due_s:
            self._watch_until(self._due_s)
        else:
            self._fail(TimeoutError("no reply in time"))

    def _end(self) -> None:
        self.ended = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _fail(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)

    # -- called by the transport ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read replies; the last expected one wakes the caller."""
        self._reader.feed(data)
        try:
            reply = self._reader.gets()
            while reply is not _INCOMPLETE:
                if not isinstance(reply, hiredis.PushNotification):
                    self._replies.append(reply)
                reply = self._reader.gets()
        except InvalidResponse as error:
            self._end()
            self._fail(error)
            return
        if len(self._replies) > self._wanted:
            self._end()
            self._fail(LostConnection("more replies than commands"))
        elif self._answered is not None and len(self._replies) == self._wanted and not self._answered.done():
            self._answered.set_result(self._replies)
            self._replies, self._wanted = [], 0

    def connection_lost(self, exc: Exception | None) -> None:
        """End the round trip and tell redis-py's streams."""
        self._end()
        self._fail(LostConnection("the server closed the connection") if exc is None else exc)
        self._streams.connection_lost(exc)

    def pause_writing(self) -> None:
        """Nothing to do: a round trip begins only after the previous one."""

    def resume_writing(self) -> None:
        """Nothing to do."""


def has_ended(connection: Any) -> bool:
    """Whether redis-py's open connection has reached its end."""
    reader: asyncio.StreamReader = connection._reader  # noqa: SLF001 - as above
    is_closing = connection._writer.transport.is_closing()  # noqa: SLF001
    return is_closing or reader.at_eof() or reader.exception() is not None
