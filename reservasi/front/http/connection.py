"""A connection: reads and answers plain HTTP/1.1 requests as bytes, and gives everything else to aiohttp.

Requests are taken one at a time, also those that arrive together, so that each is judged alone, whoever answers it.
"""

import asyncio
import contextlib
import enum
import fcntl
import sys
import termios
from typing import Any

from aiohttp import web

from reservasi.front.api import problem_catalogue
from reservasi.front.api.answers import Abandonable, Answer
from reservasi.front.api.problems import Refused
from reservasi.front.api.request import Request
from reservasi.front.http.aiohttp_connection import AiohttpConnection
from reservasi.front.http.answer_bytes import encode
from reservasi.front.http.arrivals import Arrivals
from reservasi.front.http.early_answers import early_answer
from reservasi.front.http.head_faults import HEAD_BYTES_MAX, fault_of
from reservasi.front.http.request_head import Incomplete, Unclear, read_late, read_request

DRAIN_LOOK_S = 0.01
TAKEN_BYTES_MIN = 16_384  # of an answer, taken by its caller between two checks for idle connections
PIPELINE_BYTES_MAX = 65_536  # read ahead while an answer is pending
EMPTY_LINES = b"\r\n"  # the characters of empty lines
LINGER_S = 2.0  # for the caller to read an answer that was sent before the end of the request


class State(enum.Enum):
    """What happens to the next bytes."""

    READING = "reading"  # they belong to the next request
    ANSWERING = "answering"  # a request of ours is pending: they are queued
    SENDING = "sending"  # its answer waits for the caller to read it
    RESUMING = "resuming"  # queued bytes are read in the next turn of the loop
    AIOHTTP = "aiohttp"  # aiohttp has a request: it gets the rest of the body, what follows is queued
    ENDED = "ended"  # they are ignored: the last answer was sent, and the connection ends


# Module constants: looking a member up on the enum is a Python call.
_READING, _ANSWERING, _SENDING, _RESUMING, _AIOHTTP, _ENDED = State
_BUSY = (_ANSWERING, _SENDING, _RESUMING)


class Connection(AiohttpConnection):
    """A connection: complete plain requests go to the dispatcher, one at a time and in order; the rest to aiohttp.

    ```
                     complete and plain             answered, and read by the caller
    connected -> READING ------------> ANSWERING --------------------------------------> READING, or closed
                 |     ^                   |   |                                            ^
                 |     |                   |   `-> SENDING: the caller reads slowly ------->|
                 |     |                   `-> RESUMING: more bytes were queued ------------'
                 |     |                                          ^
                 |     |  read to its end and answered            |
                 |-> AIOHTTP: it is not plain, or a stream -------'
                 `-> ENDED, also from AIOHTTP: the head is refused, or did not arrive in time
    ```
    """

    __slots__ = (
        "_arrivals",
        "_closes",
        "_dispatcher",
        "_half_closed",
        "_is_late",
        "_left",
        "_lost",
        "_received",
        "_state",
        "_unsent_bytes",
        "_waits_for",
        "_whole_bytes",
        "body_due_s",
        "due_s",
        "peer",
    )

    def __init__(self, manager: web.Server, arrivals: Arrivals, **limits: Any) -> None:
        super().__init__(manager, arrivals.cors, **limits)
        self._arrivals = arrivals
        self._dispatcher = arrivals.dispatcher
        self._state = _READING
        self._received = b""  # of an incomplete request, or behind the one that is being answered
        self._whole_bytes = 0  # its total length, once its head is known
        self._unsent_bytes = 0  # of the answer, at the last check
        self._half_closed = False  # whether the caller has closed its sending side and waits for answers
        self._closes = False  # whether the connection ends with the pending answer
        self._is_late = False  # whether its request did not arrive in time
        self._waits_for: Abandonable | None = None
        self._left: asyncio.Future[None] | None = None  # set while a shutdown waits for the answer
        self._lost: asyncio.Event | None = None
        self.peer = ""
        self.due_s = 0.0  # when the incomplete request must be complete; 0: there is none
        self.body_due_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._arrivals.let_in(self):
            transport.write(self._arrivals.too_many())  # type: ignore[attr-defined]
            transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._arrivals.forget(self)
        if self._waits_for is not None:
            self._waits_for.abandon()
        if self._lost is not None:
            self._lost.set()
        self._settle()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp always closes
        """The caller sends no more, but may wait for answers: complete requests get theirs.

        A caller that has gone completely looks the same until something is sent to it.
        """
        self._half_closed = True
        if self._lost is not None:
            self._lost.set()
        return self._is_busy or self.unanswered() > 0

    @property
    def _is_busy(self) -> bool:
        """Whether a request of ours is pending."""
        return self._state in _BUSY

    def request_finished(self, *, keeps: bool) -> None:
        """Read the next request after aiohttp's answer, or close a half-closed connection after the last one."""
        self._closes = self._closes or not keeps
        self._unsent_bytes = 0
        self._end_of_aiohttp()
        if self._half_closed and not self._is_busy and self.unanswered() <= 0:
            self.close()

    def lost(self) -> asyncio.Event:
        """Set once the other end has gone: a live stream would notice only when it sends.

        Also set when the other end stops sending: browsers that leave a stream close the connection so.
        """
        if self._lost is None:
            self._lost = asyncio.Event()
            if self.transport is None or self._half_closed:
                self._lost.set()
        return self._lost

    def data_received(self, data: bytes, behind: bytes = b"") -> None:
        """Give a plain complete request to the dispatcher, everything else to aiohttp.

        `behind` has arrived together with the request, and follows it.
        """
        if self._state is not _READING or not data:
            self._receive_behind(data)
            return
        if self._received:
            data = self._received + data
        if len(data) < self._whole_bytes:  # a slow body is cheap: nothing is parsed again
            self._received = data
            return
        self._whole_bytes = 0
        refusal = self._arrivals.refusal(data)
        if refusal is not None:
            self._received, self.due_s, self.body_due_s = behind, 0.0, 0.0
            self._state = _ANSWERING
            self.send(refusal)
            return
        try:
            request = read_request(data, self._arrivals.body_bytes_max)
        except Unclear as unclear:
            self._read_unclear(data + behind, unclear.first_bytes)
            return
        if isinstance(request, Incomplete):
            if data[0] in EMPTY_LINES:
                self._read_unclear(data, 0)
                return
            if request.line is not None and not self._dispatcher.awaits_body(*request.line):
                self._leave_to_aiohttp(data)
                return
            self._received, self._whole_bytes = data, request.whole_bytes
            self._arrivals.time(self, head=request.head)
            return
        self._received, self.due_s, self.body_due_s = behind, 0.0, 0.0
        self._state = _ANSWERING
        request.peer = self.peer
        if not self._dispatcher.take(self, request):
            self._leave_to_aiohttp(data + behind)

    def _read_unclear(self, data: bytes, first_bytes: int) -> None:
        """Read the first of several requests, if only the others are unclear; else refuse it, or leave it to aiohttp.

        Empty lines before a request are ignored (RFC 9112, section 2.2).
        """
        self._received = b""
        if first_bytes:
            self.data_received(data[:first_bytes], data[first_bytes:])
        elif data[0] in EMPTY_LINES:
            self.due_s = self.body_due_s = 0.0
            data = data.lstrip(EMPTY_LINES)
            if data:
                self.data_received(data)
        elif not self._refuses_head(data):
            self._leave_to_aiohttp(data)

    def _receive_behind(self, data: bytes) -> None:
        """Bytes that arrive before an answer. None at all: aiohttp goes on with what it has not parsed yet."""
        if not data:
            self.feed_kept()
        elif self._state is not _ENDED:
            self._received += data
        if self._state is _AIOHTTP:
            self._received = self.feed(self._received)
            self._end_of_aiohttp()
        is_long = self._state is not _READING and len(self._received) > PIPELINE_BYTES_MAX
        if is_long and self.transport is not None:
            self.transport.pause_reading()

    def _refuses_head(self, data: bytes) -> bool:
        """Whether the head is refused at once, whichever parser it would go to."""
        head, end, _ = data.partition(b"\r\n\r\n")
        if not end and len(data) <= HEAD_BYTES_MAX:
            return False
        refused = fault_of(head)
        if refused is not None:
            self._end_early(refused, head)
        return refused is not None

    def _end_early(self, refused: Refused, head: bytes) -> None:
        """Refuse a request that is not read to its end, and read no more.

        The caller may still be sending: an immediate close could discard the answer (RFC 9112, section 9.6).
        """
        self._state, self._received, self.due_s, self.body_due_s = _ENDED, b"", 0.0, 0.0
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(early_answer(refused, head, self._arrivals.cors))
            self._linger(transport)

    def _linger(self, transport: asyncio.Transport) -> None:
        """End the connection, but give a caller who is still sending time to read the answer."""
        self._state = _ENDED
        transport.write_eof()
        self._loop.call_later(LINGER_S, transport.close)

    def _leave_to_aiohttp(self, data: bytes) -> None:
        self._state, self._received, self.due_s, self.body_due_s = _AIOHTTP, b"", 0.0, 0.0
        behind = self.begin_request(data)
        if behind is not None:
            self._received = behind
            self._end_of_aiohttp()
        elif not self._close:  # aiohttp reads no more when it is stopping
            self._end_early(Refused(problem_catalogue.BAD_REQUEST), data)

    def _end_of_aiohttp(self) -> None:
        """Read the next request once aiohttp has read and answered its own."""
        if self._state is not _AIOHTTP or not self.is_between_requests():
            return
        if self._closes:
            self._state, self._received = _ENDED, b""
        else:
            self._read_on()

    def waits_for(self, work: Abandonable) -> None:
        """Note the work to abandon when the connection is lost, or abandon it if it was lost."""
        self._waits_for = work
        if self.transport is None:
            work.abandon()

    def answer(self, answer: Answer, request: Request, *, names_all: bool) -> None:
        """Send an answer; no effect if the caller has gone."""
        arrivals = self._arrivals
        self._closes = self._closes or answer.closes or arrivals.stopping.is_set()
        more = arrivals.cors.lines(request.target, request.head.origin) if arrivals.cors.is_on else b""
        self.send(encode(answer, request, names_all=names_all, closes=self._closes, more=more))

    def send(self, content: bytes) -> None:
        """Send an encoded answer; the next request is read once the caller has taken most of it."""
        transport = self.transport
        if transport is None or self._state is not _ANSWERING:
            return
        transport.write(content)
        self._waits_for = None
        self._unsent_bytes = 0
        if self._paused:
            self._state = _SENDING
        else:
            self._end_answer(transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._state is _SENDING and self.transport is not None:
            self._end_answer(self.transport)

    def _end_answer(self, transport: asyncio.Transport) -> None:
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._is_late:
            self._settle()
            self._linger(transport)
        elif self._closes or self._arrivals.stopping.is_set():
            self._settle()
            transport.close()
        else:
            self._read_on()

    def _read_on(self) -> None:
        """Read the next request; what is queued in the next turn of the loop."""
        if self._received or self._half_closed:
            self._state = _RESUMING
            self._loop.call_soon(self._go_on)
        else:
            self._settle()

    def _go_on(self) -> None:
        """Read queued bytes; close if nothing more can come."""
        self._settle()
        received, self._received = self._received, b""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if received:
            self.data_received(received)
        is_short = self._state is _READING or len(self._received) <= PIPELINE_BYTES_MAX
        if is_short and len(received) > PIPELINE_BYTES_MAX:
            transport.resume_reading()
        if self._half_closed and not self._is_busy and self.unanswered() <= 0:
            transport.close()

    def _process_keepalive(self) -> None:
        """Close idle connections, as aiohttp does, except pending ones, and drop callers that do not read their
        answer.
        """
        transport = self.transport
        if transport is None:
            super()._process_keepalive()
            return
        before, self._unsent_bytes = self._unsent_bytes, _unsent_bytes(transport)
        is_stuck = self._unsent_bytes and before and before - self._unsent_bytes < TAKEN_BYTES_MIN
        if is_stuck and self._lost is None:  # a stream has a timeout of its own
            transport.abort()
        elif self._is_busy or self._state is _AIOHTTP or self._unsent_bytes or self._received:
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)
        else:
            super()._process_keepalive()

    def _settle(self) -> None:
        self._state = _READING
        if self._left is not None and not self._left.done():
            self._left.set_result(None)

    def time_out(self) -> None:
        """End a request that takes too long to arrive; if its head is complete, its handler answers."""
        if self.transport is None:
            return
        data, missing_bytes = self._received, max(0, self._whole_bytes - len(self._received))
        self._received, self._whole_bytes, self._closes, self._is_late = b"", 0, True, True
        request = read_late(data, missing_bytes, self._arrivals.body_bytes_max) if missing_bytes else None
        timed_out = Refused(problem_catalogue.REQUEST_TIMEOUT)
        if request is not None:
            request.fault = timed_out
            request.peer, self._state = self.peer, _ANSWERING
            if self._dispatcher.take(self, request):
                return
        self._end_early(timed_out, data)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's signature
        """Also wait for our own answer, and until the caller has read it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                if self._is_busy:
                    self._left = self._loop.create_future()
                    await self._left
                while self.transport is not None and self.transport.get_write_buffer_size():  # noqa: ASYNC110 - no event
                    await asyncio.sleep(DRAIN_LOOK_S)
        self.give_up_answered_body()
        await super().shutdown(timeout)


def _unsent_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the caller has not taken; 0 if all of them fit into the kernel's buffer.

    The kernel makes room only when much of its buffer is free, so that its part must be counted as well.
    """
    queued = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket") if queued else None
    if sock is None:
        return queued
    with contextlib.suppress(OSError):
        return queued + int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return queued
