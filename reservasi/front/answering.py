"""The one middleware: every request ends in an answer, and every refusal is a problem that says what to do next."""

import asyncio
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
from reservasi.front.problem_type import ProblemType
from reservasi.front.problems import PROBLEM, Refused, problem_response
from reservasi.front.tracing import REQUEST_ID, TRACEPARENT, Trace, new_trace, trace_of
from reservasi.logs import get_logger
from reservasi.metrics import CLAIM_OUTCOMES, CLAIMS, REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT, observe_all

log = get_logger()

STATIC_HEADERS = {
    "Server": "reservasi",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
CLAIM_PATH = "/v1/reservations"
TICKETS_ROUTE = "/v1/openings/{id}/tickets"
AVAILABILITY_ROUTE = "/v1/availability"
PLAIN_ROUTES = frozenset((CLAIM_PATH, TICKETS_ROUTE, AVAILABILITY_ROUTE))  # whose plain requests `express.py` answers
TRACE: web.RequestKey[Trace] = web.RequestKey("trace", Trace)
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
    trace = request[TRACE] = trace_of_request(request)
    REQUESTS_IN_FLIGHT.inc()
    try:
        with structlog.contextvars.bound_contextvars(**trace.fields):
            response = await _answered(request, handler)
    finally:
        REQUESTS_IN_FLIGHT.dec()
    route = _route(request)
    if not response.prepared:
        response.headers.update(STATIC_HEADERS)
        if trace.given or trace.logged or route not in PLAIN_ROUTES:
            response.headers.update(trace.headers)
        if request.app[STOPPING].is_set():
            response.force_close()  # said in the answer, so that no further request is sent into a closing connection
    counters = _counters(route, request.method, response.status)
    counters[0].inc()
    if route == CLAIM_PATH and request.method == hdrs.METH_POST:
        count_claim(claim_outcome(response))
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
        return _refusal(request, refused_by_fault(error, _route(request), request[TRACE]))
    except web.HTTPException as error:
        return _refusal(request, _refused_by_http(error))
    except ConnectionError:
        raise  # the caller went away; nobody is left to answer
    except Exception as error:
        return _refusal(request, internal_error(error, _route(request), request[TRACE]))


def trace_of_request(request: web.BaseRequest) -> Trace:
    """What a request is called; one that aiohttp could not read has no headers to ask."""
    values_of = getattr(request.headers, "getall", None)
    if values_of is None:
        return new_trace()
    return trace_of(values_of(REQUEST_ID, []), values_of(TRACEPARENT, []))


def refused_by_fault(error: ReservasiError, route: str, trace: Trace) -> Refused:
    """What a fault means for whoever asked: come again, or a bug of ours."""
    if isinstance(error, Overloaded):
        return Refused(problem_types.OVERLOADED)
    if isinstance(error, Unavailable):
        trace.logged = True
        log.warning("request_not_answered_yet", route=route, fault=type(error).__name__, **trace.fields)
        return Refused(problem_types.RECOVERING)
    return internal_error(error, route, trace)


def internal_error(error: Exception, route: str, trace: Trace) -> Refused:
    """What a bug of ours means for whoever asked; logged under the id that they are told."""
    trace.logged = True
    log.error("request_failed", route=route, exc_info=error, **trace.fields)
    return Refused(problem_types.INTERNAL_ERROR, members={"request_id": trace.request_id})


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
    response.headers.update({**STATIC_HEADERS, **trace_of_request(request).headers})
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


def begin_at_zero(route: str, method: str) -> None:
    """Let what will be counted of a route be there from the start: a rate over a series that appears shows nothing."""
    for status in (200, 300, 400, 500):
        _counters(route, method, status)


# -- claims by outcome -------------------------------------------------------------------------------------------

HELD, REPLAYED, SOLD_OUT = "held", "replayed", "sold_out"
_INVALID = "invalid"  # what the ledger's words have nothing for: the request itself
_OUTCOME_OF = {  # where it is not the problem's own name
    "internal-error": "failed",
    **dict.fromkeys(
        (
            "idempotency-key-missing",
            "invalid-request",
            "body-too-large",
            "unsupported-media-type",
            "bad-request",
            "request-timeout",
            "expectation-failed",
        ),
        _INVALID,
    ),
}
_CLAIMS = {outcome: CLAIMS.labels(outcome) for outcome in CLAIM_OUTCOMES}


def outcome_of(problem: str) -> str:
    """The outcome of a claim that was refused with a problem of that name."""
    outcome = _OUTCOME_OF.get(problem) or problem.replace("-", "_")
    return outcome if outcome in _CLAIMS else "other"


def claim_outcome(response: web.StreamResponse) -> str:
    """The outcome of a claim by its answer."""
    problem = response.get(PROBLEM)
    if problem is not None:
        return outcome_of(problem)
    return REPLAYED if "Idempotent-Replayed" in response.headers else HELD


def count_claim(outcome: str, count: int = 1) -> None:
    """Count answered claims."""
    _CLAIMS[outcome].inc(count)


class Tally:
    """Counts and times the requests of one route that do not pass the middleware, many at a time.

    What was counted is told to the metrics once in a turn of the event loop.
    """

    def __init__(self, route: str, method: str) -> None:
        self.route = route
        self._method = method
        self._begun = 0
        self._statuses: list[int | str] = []  # of a claim its outcome, which says the status as well
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

    def refusal(self, kind: ProblemType) -> int | str:
        """What to count for a refusal."""
        return kind.status

    def end(self, status: int | str, started_s: float) -> None:
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
            self._count(status, count)
        if self._statuses:
            observe_all(_counters(self.route, self._method, 200)[1], self._seconds)
        self._begun, self._statuses, self._seconds = 0, [], []

    def _count(self, status: int | str, count: int) -> None:
        _counters(self.route, self._method, int(status))[0].inc(count)


class ClaimTally(Tally):
    """Counts claims by their outcome as well."""

    def refusal(self, kind: ProblemType) -> int | str:
        """Its outcome."""
        outcome = outcome_of(kind.name)
        _STATUS_OF[outcome] = kind.status  # of those with several: all are 4xx
        return outcome

    def _count(self, status: int | str, count: int) -> None:
        outcome = str(status)
        count_claim(outcome, count)
        super()._count(_STATUS_OF[outcome], count)


_STATUS_OF = {HELD: 201, REPLAYED: 201, SOLD_OUT: 409}
