"""aiohttp's part of a connection: one request at a time, up to its end, so that aiohttp never sees the next one early.

aiohttp's own error pages are replaced: they repeat, and log, the bytes that they could not read.
"""

from typing import Any

from aiohttp import HttpVersion11, StreamReader, http_exceptions, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from reservasi.front.api import problem_catalogue
from reservasi.front.api.languages import DEFAULT, Language
from reservasi.front.api.problems import Refused
from reservasi.front.http.aiohttp_answers import trace_of_request, unreadable
from reservasi.front.http.body_end import BodyEnd
from reservasi.front.http.head_faults import ALL_TOGETHER
from reservasi.logs import get_logger

log = get_logger()


class AiohttpConnection(RequestHandler):
    """Gives aiohttp a request, and says when that is read and answered."""

    __slots__ = ("_body_end", "_finished", "_language", "_latest_body", "_takes_all")

    def __init__(self, manager: web.Server, **limits: Any) -> None:
        super().__init__(manager, **limits)
        # number of finished requests of aiohttp, which counts them as they arrive (`_request_count`)
        self._finished = 0
        self._latest_body: StreamReader | None = None  # of the request that aiohttp has
        self._body_end: BodyEnd | None = None
        self._takes_all = False  # whether aiohttp gets all bytes, since its request's end cannot be found
        self._language: Language = DEFAULT  # of the last request

    def connection_lost(self, exc: BaseException | None) -> None:
        self._latest_body = None
        super().connection_lost(exc)

    def begin_request(self, data: bytes) -> bytes | None:
        """Give aiohttp the request that `data` begins with; returns what it must not get yet.

        None if aiohttp finds no request in the head.
        """
        body_at, count = data.find(b"\r\n\r\n") + 4, self._request_count
        super().data_received(data[:body_at])
        if self._request_count == count:
            return None
        message, self._latest_body = self._messages[-1]
        self._body_end = BodyEnd(message) if isinstance(message, RawRequestMessage) else None
        return self.feed(data[body_at:])

    def feed(self, data: bytes) -> bytes:
        """Give aiohttp the body of its request, unless it has paused; returns what follows, or is left over."""
        at, body, body_end = 0, self._latest_body, self._body_end
        while at < len(data) and body is not None and body_end is not None and not self._takes_all:
            end = at if body.is_eof() or self._reading_paused else body_end.next(data, at)
            if end == at:
                break
            super().data_received(data[at:end])
            at = end
            is_broken = self._messages and not isinstance(self._messages[-1][0], RawRequestMessage)
            if is_broken:
                body.set_exception(http_exceptions.TransferEncodingError("invalid chunk"))
                body.feed_eof()
            self._takes_all = is_broken or body_end.is_too_far
        if self._takes_all:
            super().data_received(data[at:])
            return b""
        return data[at:]

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
        if self._takes_all:
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
        trace = trace_of_request(request)
        if status >= 500:
            log.error("connection_failed", exc_info=exc, **trace.fields)
        else:
            log.debug("request_not_readable", fault=type(exc).__name__, **trace.fields)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, another one cannot be sent")
        if isinstance(exc, http_exceptions.LineTooLong):
            refused = Refused(problem_catalogue.HEADERS_TOO_LARGE, words={"what": ALL_TOGETHER})
        else:
            refused = Refused(problem_catalogue.INTERNAL_ERROR if status >= 500 else problem_catalogue.BAD_REQUEST)
        unread = request
        unread._version = HttpVersion11  # noqa: SLF001 - of what could not be read aiohttp says HTTP/1.0
        return unreadable(refused, trace, self._language)
