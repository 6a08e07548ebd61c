"""Round trips over a connection that redis-py has opened: all commands in one write, all replies to one caller.

redis-py finds the server, connects and authenticates. Its streams then wake a task for every reply, through a dozen
calls; here replies are read in the turn in which they arrive, and the caller is woken once.
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
        """Take the transport over from redis-py, which has no public name for it, nor for its classes of errors."""
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
        self._watch: asyncio.TimerHandle | None = None  # one for many round trips: to set one and to cancel it is dear
        self._watch_s = 0.0  # when it is due; uvloop's handles do not always say
        self._answered: asyncio.Future[list[Any]] | None = None  # the caller of `ask`
        self._replies: list[Any] = []
        self._wanted = 0
        # Nothing more can be asked. What redis-py has heard of the connection's end nobody is told again.
        self.ended = has_ended(connection)
        self._transport.set_protocol(self)

    def give_back(self) -> None:
        """Let redis-py read again."""
        self._end()
        self._transport.set_protocol(self._streams)

    async def ask(self, commands: bytes, count: int, due_s: float, sent: Callable[[], None]) -> list[Any]:
        """Write commands, call `sent`, and wait for as many replies; errors are among them.

        `due_s` is by the event loop's clock. A caller that is interrupted drops the connection.

        Raises:
            TimeoutError: not all replies came in time.
            OSError, redis.RedisError: the connection is lost, or the server is not the one to ask.
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
        except BaseException:  # its replies may come yet
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
        """An answer to one command, unless it says that the server is not the one to ask."""
        if not isinstance(error, ResponseError):
            raise error
        if self._guided is not None:
            await self._guided.note_refusal(error)

    def _watch_until(self, due_s: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch, self._watch_s = self._loop.call_at(due_s, self._look), due_s

    def _look(self) -> None:
        """The time of some round trip is over; that of the one under way may not be."""
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

    # -- what the transport calls ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read replies; the last one that is expected wakes the caller."""
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
        """Tell the caller and redis-py's streams."""
        self._end()
        self._fail(LostConnection("the server closed the connection") if exc is None else exc)
        self._streams.connection_lost(exc)

    def pause_writing(self) -> None:
        """No round trip begins before the last one's end, so nothing piles up."""

    def resume_writing(self) -> None:
        """Nothing was held up."""


def has_ended(connection: Any) -> bool:
    """Whether redis-py's open connection can bring nothing more."""
    reader: asyncio.StreamReader = connection._reader  # noqa: SLF001 - as above
    is_closing = connection._writer.transport.is_closing()  # noqa: SLF001
    return is_closing or reader.at_eof() or reader.exception() is not None
