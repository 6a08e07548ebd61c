"""aiohttp's way in and out: its requests as ours, our answers as its, and streams, which only it carries."""

import asyncio
import time

import structlog
from aiohttp import HttpVersion11, hdrs, http_exceptions, web
from aiohttp.typedefs import Handler

from reservasi.front.answers import STATIC_HEADERS, Abandonable, Answer
from reservasi.front.app_keys import DISPATCHER, FRONT
from reservasi.front.dispatch import Dispatcher, refusal_of
from reservasi.front.languages import negotiate
from reservasi.front.problem_types import (
    BAD_REQUEST,
    BODY_TOO_LARGE,
    EXPECTATION_FAILED,
    REQUEST_TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
)
from reservasi.front.problems import Refused, problem_answer
from reservasi.front.request import API_KEY, AUTHORIZATION, IF_MATCH, IF_NONE_MATCH, REQUEST_ID, TRACEPARENT, Head
from reservasi.front.request import Request as OurRequest
from reservasi.front.routing import Found
from reservasi.front.services import Front
from reservasi.front.tracing import Trace, new_trace, trace_of
from reservasi.settings import Settings

_BODILESS = (hdrs.METH_GET, hdrs.METH_HEAD)
_LISTS = (IF_MATCH, IF_NONE_MATCH)  # lines of the same name are one list (RFC 9110, section 5.3)
_SINGLE = (AUTHORIZATION, API_KEY)
_NAMES = (REQUEST_ID, TRACEPARENT)  # named twice is not named


@web.middleware
async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every request, whatever it asks for: routes are found by the dispatcher, not by aiohttp."""
    front, dispatcher = request.app[FRONT], request.app[DISPATCHER]
    ours = _request_of(request)
    found = dispatcher.find(ours)
    if found.route is not None and found.route.streams:
        return await _stream(request, front, dispatcher, ours, found)
    if found.route is not None and request.method not in _BODILESS:
        await _read_body(request, ours, front.services.settings)
    caller = _Waiting()
    dispatcher.answer(caller, ours, found)
    answer, names_all = await caller.wait()
    return response_of(answer, _shown(ours, names_all=names_all), closes=front.stopping.is_set())


class _Waiting:
    """A task of aiohttp that waits for the answer."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[tuple[Answer, bool]] = asyncio.get_running_loop().create_future()
        self._work: Abandonable | None = None

    def answer(self, answer: Answer, _request: OurRequest, *, names_all: bool) -> None:
        """Hand the answer over."""
        if not self._answered.done():
            self._answered.set_result((answer, names_all))

    def waits_for(self, work: Abandonable) -> None:
        """What to abandon when the task is cancelled."""
        self._work = work

    async def wait(self) -> tuple[Answer, bool]:
        """The answer, and whether it names the request in any case."""
        try:
            return await self._answered
        except asyncio.CancelledError:
            if self._work is not None:
                self._work.abandon()
            raise


async def _stream(
    request: web.Request, front: Front, dispatcher: Dispatcher, ours: OurRequest, found: Found
) -> web.StreamResponse:
    if found.route is None:
        raise ValueError("there is no such stream")
    started_s, tally = time.perf_counter(), dispatcher.tally(found.route, request.method)
    tally.begin()
    try:
        with structlog.contextvars.bound_contextvars(**ours.trace.fields):
            dispatcher.check_network(ours, found)
            response: web.StreamResponse = await found.route.handler(front, ours, request)
    except ConnectionError:
        tally.withdraw()
        raise  # the caller went away; nobody is left to answer
    except Exception as error:
        answer = refusal_of(error, ours, found.route.path)
        tally.end(answer, started_s)
        return response_of(answer, ours.trace, closes=front.stopping.is_set())
    tally.note(response.status, "", started_s)
    return response


# -- requests ----------------------------------------------------------------------------------------------------


def _request_of(request: web.Request) -> OurRequest:
    headers = request.headers
    head = Head(
        {
            b"content-type": headers.get(hdrs.CONTENT_TYPE, ""),
            b"accept": headers.get(hdrs.ACCEPT, ""),
            b"accept-encoding": ",".join(headers.getall(hdrs.ACCEPT_ENCODING, ())),
            b"accept-language": headers.get(hdrs.ACCEPT_LANGUAGE, ""),
        }
    )
    values: dict[bytes, str] = {}
    for each in (*_LISTS, *_SINGLE, *_NAMES):
        lines = headers.getall(each.decode(), ())
        if lines and (each not in _NAMES or len(lines) == 1):
            values[each] = ", ".join(lines) if each in _LISTS else lines[0]
    target = request.raw_path
    if not target.startswith("/") or "#" in target:  # a whole URL, or one with what is for a browser only
        target = request.rel_url.raw_path_qs
    ours = OurRequest(
        request.method,
        target,
        head,
        headers.getall("Idempotency-Key", ()),
        headers.getall(hdrs.X_FORWARDED_FOR, ()),
        values,
    )
    ours.peer = request.remote or ""
    return ours


async def _read_body(request: web.Request, ours: OurRequest, settings: Settings) -> None:
    """Take the body within its size and its time; where that fails, the handler that wants it refuses."""
    if (request.content_length or 0) > settings.body_bytes_max:
        ours.fault = Refused(BODY_TOO_LARGE)
    elif hdrs.CONTENT_ENCODING in request.headers:
        # A few hundred bytes need no compression, and a bomb is refused unread.
        ours.fault = Refused(UNSUPPORTED_MEDIA_TYPE)
    else:
        try:
            async with asyncio.timeout(settings.body_timeout_ms / 1000):
                ours.body = await request.read()
        except TimeoutError:
            ours.fault = Refused(REQUEST_TIMEOUT)
        except web.HTTPRequestEntityTooLarge:
            ours.fault = Refused(BODY_TOO_LARGE)
        except (http_exceptions.HttpProcessingError, web.RequestPayloadError):
            ours.fault = Refused(BAD_REQUEST)


# -- answers -----------------------------------------------------------------------------------------------------


def _shown(ours: OurRequest, *, names_all: bool) -> Trace | None:
    """What the answer says the request is called."""
    if names_all:
        return ours.trace
    trace = ours.known_trace
    return trace if trace is not None and (trace.given or trace.logged) else None


def response_of(answer: Answer, trace: Trace | None, *, closes: bool) -> web.Response:
    """An answer as aiohttp sends it."""
    headers = {**STATIC_HEADERS, **answer.headers, **(trace.headers if trace is not None else {})}
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    if closes or answer.closes:
        response.force_close()  # said in the answer, so that no further request is sent into a closing connection
    return response


def unreadable(request: web.BaseRequest, refused: Refused, trace: Trace) -> web.Response:
    """The answer to what never became a request of ours; the connection is closed after it."""
    answer = problem_answer(negotiate(request.headers.get(hdrs.ACCEPT_LANGUAGE, "")), refused)
    return response_of(answer, trace, closes=True)


def trace_of_request(request: web.BaseRequest) -> Trace:
    """What a request is called; one that aiohttp could not read has no headers to ask."""
    values_of = getattr(request.headers, "getall", None)
    if values_of is None:
        return new_trace()
    return trace_of(*(values_of(each.decode(), []) for each in _NAMES))


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Answer an Expect header, which comes before everything else: 100-continue, or a problem."""
    if request.version != HttpVersion11:
        return None  # HTTP/1.0 knows no Expect (RFC 9110, section 10.1.1)
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The final answer starts with its own status line; what was written so far is not part of it.
        request.writer.output_size = 0
        return None
    return unreadable(request, Refused(EXPECTATION_FAILED), trace_of_request(request))
