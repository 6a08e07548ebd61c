"""aiohttp's part of a connection: one request at a time, up to its end, so that aiohttp never sees the next one early.

aiohttp's own error pages are replaced: they repeat, and log, the bytes that they could not read.
"""

from typing import Any

from aiohttp import HttpVersion11, StreamReader, hdrs, http_exceptions, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from reservasi.front.api import problem_catalogue
from reservasi.front.api.cors import Cors
from reservasi.front.api.problems import Refused
from reservasi.front.http.aiohttp_answers import trace_of_request, unreadable
from reservasi.front.http.body_end import BodyEnd
from reservasi.front.http.early_answers import target_and_origin, trace_of_head
from reservasi.front.http.head_faults import ALL_TOGETHER
from reservasi.front.http.request_head import language_of
from reservasi.logs import get_logger

log = get_logger()


class AiohttpConnection(RequestHandler):
    """Gives aiohttp a request, and says when that is read and answered."""

    __slots__ = (
        "_begun",
        "_body_end",
        "_cors",
        "_finished",
        "_head",
        "_is_last",
        "_latest_body",
        "_takes_all",
        "is_body_broken",
    )

    def __init__(self, manager: web.Server, cors: Cors, **limits: Any) -> None:
        super().__init__(manager, **limits)
        self._cors = cors
        # number of finished requests of aiohttp, which counts them as they arrive (`_request_count`)
        self._finished = 0
        self._begun = 0  # that count after the latest head
        self._latest_body: StreamReader | None = None  # of the request that aiohttp has
        self._body_end: BodyEnd | None = None
        self._is_last = False  # whether the connection ends with the answer to that request
        self._takes_all = False  # whether aiohttp gets all bytes, since its request's end cannot be found
        self.is_body_broken = False  # whether the coding of its body has a fault, so that the rest is not read
        self._head = b""  # the latest one

    def connection_lost(self, exc: BaseException | None) -> None:
        self._latest_body = None
        super().connection_lost(exc)

    def begin_request(self, data: bytes) -> bytes | None:
        """Give aiohttp the request that `data` begins with; returns what it must not get yet.

        None if aiohttp finds no request in the head.
        """
        body_at, count = data.find(b"\r\n\r\n") + 4, self._request_count
        self._head = data[:body_at]
        super().data_received(self._head)
        if self._request_count == count:
            return None
        self._begun = self._request_count
        message, self._latest_body = self._messages[-1]
        self._body_end = None
        if isinstance(message, RawRequestMessage):
            self._body_end = BodyEnd(message)
            self._is_last = message.method == hdrs.METH_CONNECT  # what follows it may be for a tunnel
        return self.feed(data[body_at:])

    def feed(self, data: bytes) -> bytes:
        """Give aiohttp the body of its request, unless it has paused; returns what follows, or is left over."""
        at, body, body_end = 0, self._latest_body, self._body_end
        while at < len(data) and body is not None and body_end is not None and not self._takes_all:
            end = at if body.is_eof() or self._reading_paused else body_end.next(data, at)
            if end == at:
                break
            self._give_body(data[at:end], body)
            at = end
            if body_end.is_too_far:
                self._lose_end(body)
        if not self._takes_all:
            return data[at:]
        if body is not None and not self.is_body_broken:
            self._give_body(data[at:], body)
        return b""

    def _give_body(self, piece: bytes, body: StreamReader) -> None:
        super().data_received(piece)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self.is_body_broken = True
            self._lose_end(body)

    def _lose_end(self, body: StreamReader) -> None:
        """Where the body ends is not known, so the request is the last one of its connection."""
        self._is_last = self._takes_all = True
        if self._is_answered or self.is_body_broken:
            body.feed_eof()  # whoever waits for the rest goes on
        if self._is_answered:
            self.close()
            self.request_finished(keeps=False)

    @property
    def _is_answered(self) -> bool:
        """Whether the request that was begun last has its answer; its body may still arrive."""
        return self._finished == self._begun

    def give_up_answered_body(self) -> None:
        """Wait no longer for the body of a request that has its answer."""
        if self._is_answered and self._latest_body is not None and not self._latest_body.is_eof():
            self._latest_body.feed_eof()

    def feed_kept(self) -> None:
        """Let aiohttp go on with bytes that it has, but has not parsed yet."""
        super().data_received(b"")

    def is_between_requests(self) -> bool:
        """Whether aiohttp has read and answered everything that it was given."""
        is_read = self._latest_body is None or self._latest_body.is_eof()
        return is_read and self._request_count == self._finished

    def unanswered(self) -> int:
        """Complete requests that aiohttp has not answered; a half-closed connection completes no others."""
        complete = self._latest_body is None or self._latest_body.is_eof()
        return self._request_count - self._finished - (0 if complete else 1)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send aiohttp's answer, and say so."""
        if self._is_last:
            resp.force_close()
        keeps = False
        try:
            sent, reset = await super().finish_response(request, resp, start_time)
            keeps = bool(sent.keep_alive) and not reset
            return sent, reset
        finally:
            self._finished += 1
            self.request_finished(keeps=keeps)

    def request_finished(self, *, keeps: bool) -> None:
        """aiohttp has answered its request; `keeps` says whether the connection may carry another one."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached the application: bytes that are not HTTP, or a fault outside the middleware."""
        is_fault = status >= 500
        trace = trace_of_request(request) if is_fault else trace_of_head(self._head)
        if is_fault and not isinstance(exc, ConnectionError):
            log.error("connection_failed", exc_info=exc, **trace.fields)
        else:  # a caller that has gone, or bytes of a caller
            log.debug("request_not_readable", fault=type(exc).__name__, **trace.fields)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, another one cannot be sent")
        if isinstance(exc, http_exceptions.LineTooLong):
            refused = Refused(problem_catalogue.HEADERS_TOO_LARGE, words={"what": ALL_TOGETHER})
        else:
            refused = Refused(problem_catalogue.INTERNAL_ERROR if is_fault else problem_catalogue.BAD_REQUEST)
        unread = request
        unread._version = HttpVersion11  # noqa: SLF001 - of what could not be read aiohttp says HTTP/1.0
        cors = self._cors.headers(*target_and_origin(self._head))
        return unreadable(refused, trace, language_of(self._head), cors)
