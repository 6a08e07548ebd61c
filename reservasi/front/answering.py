"""The one middleware: every request ends in an answer, and every refusal is a problem that says what to do next."""

import secrets
import time
from http import HTTPStatus

import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram

from reservasi.errors import LedgerFenced, LedgerUnreachable, Overloaded, Unavailable
from reservasi.front import problem_types
from reservasi.front.keys import STOPPING
from reservasi.front.problems import Refused, problem_response
from reservasi.metrics import REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT

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
    counters = _counters(request, response.status)
    counters[0].inc()
    counters[1].observe(time.perf_counter() - started_s)
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        return _refusal(request, refused)
    except Overloaded:
        return _refusal(request, Refused(problem_types.OVERLOADED))
    except (LedgerFenced, LedgerUnreachable, Unavailable) as error:
        log.warning("request_not_answered_yet", route=_route(request), fault=type(error).__name__)
        return _refusal(request, Refused(problem_types.RECOVERING))
    except web.HTTPException as error:
        return _refusal(request, _refused_by_http(error))
    except ConnectionError:
        raise  # the caller went away; nobody is left to answer
    except Exception:
        request_id = secrets.token_hex(8)
        log.exception("request_failed", route=_route(request), method=request.method, request_id=request_id)
        return _refusal(request, Refused(problem_types.INTERNAL_ERROR, members={"request_id": request_id}))


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


def _counters(request: web.Request, status: int) -> tuple[Counter, Histogram]:
    """The metrics of a route, looked up once: the lookup by labels costs more than the counting."""
    key = (_route(request), request.method if request.method in METHODS else "other", status // 100)
    counters = _COUNTERS.get(key)
    if counters is None:
        route, method, outcome = key
        counters = (REQUESTS.labels(route, method, f"{outcome}xx"), REQUEST_SECONDS.labels(route))
        _COUNTERS[key] = counters
    return counters
