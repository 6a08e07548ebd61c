"""The one middleware: every request ends in an answer, and every refusal is a problem that says what to do next."""

import asyncio
import secrets
import time
from collections import Counter as Counting
from http import HTTPStatus

import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram

from reservasi.errors import Overloaded, ReservasiError, Unavailable
from reservasi.front import problem_types
from reservasi.front.declarations import LIMITED_PATHS
from reservasi.front.keys import RATES, STOPPING
from reservasi.front.problems import Refused, problem_response
from reservasi.metrics import REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT, observe_all

log = structlog.get_logger()

STATIC_HEADERS = {
    "Server": "reservasi",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
UNMATCHED = "unmatched"  # the route label of every address that does not exist
METHODS = frozenset(hdrs.METH_ALL) - {hdrs.METH_ANY}
_HTTP_PROBLEMS = {
    404: problem_types.NOT_FOUND,
    405: problem_types.METHOD_NOT_ALLOWED,
    408: problem_types.REQUEST_TIMEOUT,
    413: problem_types.BODY_TOO_LARGE,
    415: problem_types.UNSUPPORTED_MEDIA_TYPE,
    417: problem_types.EXPECTATION_FAILED,
}


@web.middleware
async def answer_everything(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer, count and time a request."""
    started_s = time.perf_counter()
    REQUESTS_IN_FLIGHT.inc()
    try:
        response = await _answered(request, handler)
    finally:
        REQUESTS_IN_FLIGHT.dec()
    if not response.prepared:
        response.headers.update(STATIC_HEADERS)
        if request.app[STOPPING].is_set():
            response.force_close()  # said in the answer, so that no further request is sent into a closing connection
    counters = _counters(_route(request), request.method, response.status)
    counters[0].inc()
    counters[1].observe(time.perf_counter() - started_s)
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if request.path.startswith(LIMITED_PATHS):
            request.app[RATES].check_network(request.remote or "", request.headers.getall(hdrs.X_FORWARDED_FOR, []))
        return await handler(request)
    except Refused as refused:
        return _refusal(request, refused)
    except ReservasiError as error:
        return _refusal(request, refused_by_fault(error, _route(request)))
    except web.HTTPException as error:
        return _refusal(request, _refused_by_http(error))
    except ConnectionError:
        raise  # the caller went away; nobody is left to answer
    except Exception as error:
        return _refusal(request, internal_error(error, _route(request)))


def refused_by_fault(error: ReservasiError, route: str) -> Refused:
    """What a fault means for whoever asked: come again, or a bug of ours."""
    if isinstance(error, Overloaded):
        return Refused(problem_types.OVERLOADED)
    if isinstance(error, Unavailable):
        log.warning("request_not_answered_yet", route=route, fault=type(error).__name__)
        return Refused(problem_types.RECOVERING)
    return internal_error(error, route)


def internal_error(error: Exception, route: str) -> Refused:
    """What a bug of ours means for whoever asked; logged under the id that they are told."""
    request_id = secrets.token_hex(8)
    log.error("request_failed", route=route, request_id=request_id, exc_info=error)
    return Refused(problem_types.INTERNAL_ERROR, members={"request_id": request_id})


def _refusal(request: web.Request, refused: Refused) -> web.Response:
    response = problem_response(request, refused)
    if refused.kind in (problem_types.REQUEST_TIMEOUT, problem_types.BAD_REQUEST):
        response.force_close()  # what follows on this connection cannot be told apart from the body
    return response


def _refused_by_http(error: web.HTTPException) -> Refused:
    kind = _HTTP_PROBLEMS.get(error.status, problem_types.BAD_REQUEST)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = problem_types.INTERNAL_ERROR
    allow = error.headers.get(hdrs.ALLOW)
    return Refused(kind, headers={hdrs.ALLOW: allow} if allow else None)


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Answer an Expect header, which comes before the middleware: 100-continue, or a problem."""
    if request.version != HttpVersion11:
        return None  # HTTP/1.0 knows no Expect (RFC 9110, section 10.1.1)
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The final answer starts with its own status line; what was written so far is not part of it.
        request.writer.output_size = 0
        return None
    response = problem_response(request, Refused(problem_types.EXPECTATION_FAILED))
    response.headers.update(STATIC_HEADERS)
    response.force_close()
    return response


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else UNMATCHED


_COUNTERS: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # bounded: routes x methods x classes


def _counters(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """The metrics of a route, looked up once: the lookup by labels costs more than the counting."""
    key = (route, method if method in METHODS else "other", status // 100)
    counters = _COUNTERS.get(key)
    if counters is None:
        route, method, outcome = key
        counters = (REQUESTS.labels(route, method, f"{outcome}xx"), REQUEST_SECONDS.labels(route))
        _COUNTERS[key] = counters
    return counters


class Tally:
    """Counts and times the requests of one route that do not pass the middleware, many at a time.

    What was counted is told to the metrics once in a turn of the event loop.
    """

    def __init__(self, route: str, method: str) -> None:
        self.route = route
        self._method = method
        self._begun = 0
        self._statuses: list[int] = []
        self._seconds: list[float] = []
        self._due = False
        self._loop = asyncio.get_running_loop()  # to ask for it costs a call of the kernel

    def begin(self) -> None:
        """A request is being answered."""
        self._begun += 1
        if not self._due:
            self._soon()

    def withdraw(self) -> None:
        """It takes the other way, where it is counted, or nobody waits for it any more."""
        self._begun -= 1
        if not self._due:
            self._soon()

    def end(self, status: int, started_s: float) -> None:
        """It has been answered; `started_s` is by `time.perf_counter`."""
        self._statuses.append(status)
        self._seconds.append(time.perf_counter() - started_s)
        if not self._due:
            self._soon()

    def _soon(self) -> None:
        self._due = True
        self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._due = False
        if self._begun != len(self._statuses):
            REQUESTS_IN_FLIGHT.inc(self._begun - len(self._statuses))
        for status, count in Counting(self._statuses).items():
            _counters(self.route, self._method, status)[0].inc(count)
        if self._statuses:
            observe_all(_counters(self.route, self._method, self._statuses[0])[1], self._seconds)
        self._begun, self._statuses, self._seconds = 0, [], []
