"""One connection to the ledger's server, which sends several function calls at once and reads their replies."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import redis.asyncio as redis_asyncio
from hiredis import pack_command
from redis.exceptions import (
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from reservasi.errors import LedgerFault, LedgerFenced, LedgerUnreachable, Overloaded, ReservasiError
from reservasi.ledger import keys
from reservasi.ledger.acknowledging import Acks, Asker
from reservasi.ledger.lua.library import Library
from reservasi.ledger.round_trips import RoundTrips
from reservasi.ledger.topology.clients import LOST, Server, open_pool, text
from reservasi.ledger.topology.cluster import RoutedConnection
from reservasi.ledger.topology.tls import reason, shows_no_certificate
from reservasi.ledger.wire import messages, stored_forms
from reservasi.ledger.wire.messages import Frame
from reservasi.logs import get_logger
from reservasi.model import Position

T = TypeVar("T")

log = get_logger()

# redis-py may also raise these from a half-closed connection during a failover; caught only around its calls.
BROKEN = (*LOST, AttributeError, TypeError)
# A replica, a full disk, too few replicas, a lost primary of a cluster, a moving slot: may be over in a moment.
REFUSES_WRITES = ("MISCONF", "NOREPLICAS")
REFUSES_NOW = (ReadOnlyError, ClusterDownError, TryAgainError)
TOUCH = Frame(command="touch", items=messages.pack([[]]))
NOTHING_PACKED = b"$0\r\n\r\n"  # an empty argument
NUMBER = re.compile(r"[0-9]{1,15}")
INFO_SERVER = ("INFO", "server")
META_FIELDS = ("epoch", "seq", "chain", "run_id", "loading", "at")
ROUND_TRIPS_MAX = 3  # for missing functions, for a new epoch, and for the result


class LedgerMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Where a program's ledger is, and whether this run of the server is owned."""

    position: Position  # epoch 0, seq 0 if empty
    owned: bool
    run_id: str  # of the server, new at each of its starts
    readable: bool = True  # False: stored in a form that this version cannot read
    loading: bool = False  # it is being filled from the records, or filling was interrupted
    damaged: bool = False  # `meta` cannot be read; the ledger sells nothing


class LedgerConnection:
    """A single connection for the calls of one program; not for concurrent use."""

    def __init__(self, server: Server, program: str, library: Library, acks: Acks | None = None) -> None:
        self.program = program
        self.safe = True  # whether enough servers acknowledged the changes of the last call
        self._library = library
        self._keys = keys.program_keys(program)
        self._asker = Asker(acks) if acks else None
        # Without redis-py's own time limit: each call has one.
        pool = open_pool(server, redis_asyncio.ConnectionPool, socket_timeout=None)
        self._connection: Any = pool.make_connection()
        self._trips: RoundTrips | None = None  # over the open connection, unless redis-py itself reads
        # programs that were last asked about together, and the packed commands
        self._packed: tuple[list[str], list[bytes]] = [], []
        self._epoch = 0  # the latest epoch seen; never decreases, so that an old primary stays fenced
        # packed beginnings of function calls, by function and epoch
        self._beginnings: dict[tuple[str, int], bytes] = {}
        self._reply_beginning = b"\0"  # bytes of the last reply from its second one to the end of its epoch

    @property
    def connected(self) -> bool:
        """Whether the last round trip left the connection usable."""
        return bool(self._connection.is_connected) and (self._trips is None or not self._trips.ended)

    async def call(
        self, frames: Sequence[Frame], timeout_s: float, *, sent: Callable[[], None] = lambda: None
    ) -> list[bytes | ReservasiError]:
        """Send all frames in one write and read all replies; `sent` is called after the write.

        If a reply names a newer epoch, the frames are sent again under it; if the server does not know the functions,
        they are loaded and the frames sent again. Both may happen on the first call after a deploy, hence three round
        trips.

        Raises:
            LedgerUnreachable: no connection, or not every reply came in time; the calls may have been carried out.
        """
        return await self._unless_lost(self._call(frames, asyncio.get_running_loop().time() + timeout_s, sent))

    async def _call(
        self, frames: Sequence[Frame], due_s: float, sent: Callable[[], None]
    ) -> list[bytes | ReservasiError]:
        if not self.connected:
            async with asyncio.timeout_at(due_s):
                await self._connect()
        replies = await self._round_trip(frames, due_s, sent)
        for _ in range(ROUND_TRIPS_MAX - 1):
            newer = self._adopt_epoch(replies)
            if not ((newer and any(map(_is_fenced, replies))) or await self._load_where_missing(replies, due_s)):
                break
            replies = await self._round_trip(frames, due_s)
        else:
            self._adopt_epoch(replies)
        return replies

    async def _unless_lost(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work on the connection; any interruption drops the connection, so that no late reply is read.

        Raises:
            LedgerUnreachable: the connection was lost.
        """
        try:
            return await work
        except LOST as error:
            await self.drop()
            why = reason(error, anonymous=shows_no_certificate(self._connection))
            raise LedgerUnreachable(f"the ledger of {self.program} does not answer: {why}") from error
        except BaseException:
            await self.drop()
            raise

    async def _connect(self) -> None:
        """Replace the connection."""
        if self._connection.is_connected:
            await self.drop()
        await self._asked(self._connection.connect())

    async def _asked(self, call: Awaitable[T]) -> T:
        """The result of one of redis-py's calls."""
        try:
            return await call
        except (AttributeError, TypeError) as error:
            raise ConnectionResetError(f"half-closed: {error}") from error

    async def snapshot(self, timeout_s: float, *, whole: bool = False) -> messages.Snapshot | None:
        """Every quota at one position; None while the ledger is fenced. With `whole` the indexes as well."""
        (reply,) = await self.call([Frame(command="snapshot", items=messages.pack([[int(whole)]]))], timeout_s)
        if isinstance(reply, ReservasiError):
            raise reply
        return messages.decode_snapshot(reply)

    async def own(self, seen: Position, epoch: int, timeout_s: float) -> str:
        """Let this run of the server sell under `epoch`, if the ledger is still in the state `seen`.

        Returns the outcome: "owned" or "moved".
        """
        items = messages.pack([[seen.epoch, seen.seq, seen.chain, epoch]])
        (reply,) = await self.call([Frame(command="own", items=items)], timeout_s)
        if isinstance(reply, ReservasiError):
            raise reply
        outcome: str = messages.decode_reply(reply).answers[0][0]
        return outcome

    async def meta(self, timeout_s: float) -> LedgerMeta:
        """Where the ledger is, and whether this run of its server is owned.

        Raises:
            LedgerUnreachable: the server does not answer.
        """
        (meta,) = await self.metas([self.program], timeout_s)
        return meta

    async def metas(self, programs: Sequence[str], timeout_s: float) -> list[LedgerMeta]:
        """`meta` of several programs whose ledgers are on this server, in one round trip.

        Raises:
            LedgerUnreachable: the server does not answer, or one of the ledgers is on another server.
        """
        return await self._unless_lost(self._metas(programs, timeout_s))

    async def _metas(self, programs: Sequence[str], timeout_s: float) -> list[LedgerMeta]:
        due_s = asyncio.get_running_loop().time() + timeout_s
        if not self.connected:
            async with asyncio.timeout_at(due_s):
                await self._connect()
        if len(programs) == 1 and isinstance(self._connection, RoutedConnection):
            async with asyncio.timeout_at(due_s):
                replies = await self._ask_where_it_is(programs[0])
        else:
            if self._packed[0] != programs:  # packing is the expensive part, and the programs are mostly the same
                self._packed = list(programs), _pack([*map(_question, programs), INFO_SERVER])
            replies = await self._ask(self._packed[1], due_s, lambda: None)
        *hashes, server = replies
        if isinstance(server, ResponseError):
            raise server
        run_id = text(server).partition("run_id:")[2].partition("\r\n")[0]
        return [_meta(_fields(reply), run_id) for reply in hashes]

    async def _ask_where_it_is(self, program: str) -> list[Any]:
        """`meta` and the server's info through redis-py, whose single commands follow a key through a moving
        cluster.
        """
        if self._trips is not None:
            self._trips.give_back()
            self._trips = None
        replies: list[Any] = []
        for question in (_question(program), INFO_SERVER):
            await self._asked(self._connection.send_command(*question))
            try:
                replies.append(await self._asked(self._connection.read_response()))
            except ResponseError as error:
                replies.append(error)
        return replies

    async def drop(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._trips = None
        try:
            await self._connection.disconnect(nowait=True)
        except BROKEN:
            return

    async def _round_trip(
        self, frames: Sequence[Frame], due_s: float, sent: Callable[[], None] = lambda: None
    ) -> list[bytes | ReservasiError]:
        commands = [self._packed_call(frame) for frame in frames]
        questions = self._asker.questions() if self._asker else ()
        if questions:
            commands += [self._packed_call(TOUCH), *_pack(questions)]
        replies = await self._ask(commands, due_s, sent)
        if self._asker:
            of_touch, *counts = map(self._warned, replies[len(frames) :]) if questions else (None,)
            self.safe = bool(questions) and self._asker.suffice(of_touch, counts)
            del replies[len(frames) :]
        return [_refusal(self.program, each) if isinstance(each, ResponseError) else each for each in replies]

    async def _ask(self, commands: Sequence[bytes], due_s: float, sent: Callable[[], None]) -> list[Any]:
        """The replies to packed commands that are sent in one write, errors included."""
        if self._trips is None:
            self._trips = RoundTrips(self._connection)
        return await self._trips.ask(b"".join(commands), len(commands), due_s, sent)

    def _packed_call(self, frame: Frame) -> bytes:
        """A packed function call; everything but the frame is packed once for each epoch."""
        called = (frame.command, self._epoch)
        beginning = self._beginnings.get(called)
        if beginning is None:
            function = self._library.function(frame.command)
            (whole,) = _pack([("FCALL", function, len(self._keys), *self._keys, self._epoch, b"", b"")])
            self._beginnings = {each: kept for each, kept in self._beginnings.items() if each[1] == self._epoch}
            beginning = self._beginnings[called] = whole.removesuffix(2 * NOTHING_PACKED)
        items, envelopes = frame.items, frame.envelopes
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (beginning, len(items), items, len(envelopes), envelopes)

    def _warned(self, reply: Any) -> Any:
        """Return any reply; an error is logged."""
        if isinstance(reply, ResponseError):
            log.warning("ledger_does_not_acknowledge", program=self.program, reason=str(reply))
        return reply

    def _adopt_epoch(self, replies: Sequence[bytes | ReservasiError]) -> bool:
        """Whether a reply names an epoch that is newer than all before."""
        newest = self._epoch
        for reply in replies:
            if not (isinstance(reply, ReservasiError) or reply.startswith(self._reply_beginning, 1)):
                epoch, ends_at = messages.peek_epoch(reply)
                self._reply_beginning = reply[1:ends_at]
                newest = max(newest, epoch)
        changed, self._epoch = newest > self._epoch, newest
        return changed

    async def _load_where_missing(self, replies: Sequence[bytes | ReservasiError], due_s: float) -> bool:
        """Load the functions into a server that does not know them, after a first start or the loss of its data."""
        for reply in replies:
            if isinstance(reply, ReservasiError) and "Function not found" in str(reply):
                break
        else:
            return False
        load = ("FUNCTION", "LOAD", "REPLACE", self._library.source)
        (loaded,) = await self._ask(_pack([load]), due_s, lambda: None)
        if isinstance(loaded, ResponseError):
            raise _refusal(self.program, loaded)
        return True


def _pack(commands: Iterable[tuple[Any, ...]]) -> list[bytes]:
    """Pack commands; much faster than redis-py, which packs argument by argument."""
    return [pack_command(command) for command in commands]


def _is_fenced(reply: bytes | ReservasiError) -> bool:
    return not isinstance(reply, ReservasiError) and messages.peek_fenced(reply)


def _refusal(program: str, error: ResponseError) -> ReservasiError:
    """The fault of a server's error: memory full, temporarily no writes, or a bug."""
    message = str(error)
    # a front's user may not load the functions; the worker will
    if isinstance(error, NoPermissionError) and "'function|load'" in message:
        return LedgerFenced(f"the worker has not loaded the functions of the ledger of {program} yet")
    if isinstance(error, OutOfMemoryError) or message.startswith("OOM"):
        return Overloaded(f"the memory of the ledger of {program} is full")
    if isinstance(error, REFUSES_NOW) or message.startswith(REFUSES_WRITES):
        return LedgerFenced(f"the server of the ledger of {program} refuses writes: {message}")
    return LedgerFault(f"{program}: {message}")


def _question(program: str) -> tuple[str, ...]:
    return ("HMGET", keys.meta(program), *META_FIELDS)


def _fields(reply: Any) -> Sequence[bytes | None] | None:
    """The fields of a program's `meta`; None if it is not a hash, which must not affect the other programs."""
    if isinstance(reply, ResponseError):
        if str(reply).startswith("WRONGTYPE"):
            return None
        raise reply
    fields: Sequence[bytes | None] = reply
    return fields


def _meta(fields: Sequence[bytes | None] | None, run_id: str) -> LedgerMeta:
    if fields is None:
        return LedgerMeta(position=Position(epoch=0, seq=0), owned=False, run_id=run_id, damaged=True)
    epoch, seq, chain, owner, loading, at = (None if each is None else stored_forms.readable(each) for each in fields)
    is_of_another_epoch = at is not None and at.partition("-")[0] != epoch
    if is_of_another_epoch or not all(each is None or NUMBER.fullmatch(each) for each in (epoch, seq)):
        return LedgerMeta(position=Position(epoch=0, seq=0), owned=False, run_id=run_id, damaged=True)
    form, _, owned_run_id = (owner or "").rpartition(":")
    readable = owner is None or form in (stored_forms.FORM, stored_forms.FORMER_FORM)
    return LedgerMeta(
        position=Position(epoch=int(epoch or 0), seq=int(seq or 0), chain=chain or ""),
        owned=form == stored_forms.FORM and owned_run_id == run_id,
        run_id=run_id,
        readable=readable,
        loading=loading is not None,
    )
