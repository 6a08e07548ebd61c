"""From a request to its answer: find the operation, run its handler, turn what it raises into a refusal, count.

Every request that is not a stream comes through here, whichever transport brought it.
"""

import time
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import hdrs

from reservasi.errors import Overloaded, Unavailable
from reservasi.front.api import problem_catalogue
from reservasi.front.api.answers import NO_STORE, Answer, Pending
from reservasi.front.api.paths import CLAIM_PATH
from reservasi.front.api.problems import Refused, problem_answer
from reservasi.front.api.request import Request
from reservasi.front.api.routing import Found, Route, Router
from reservasi.front.api.tracing import Trace
from reservasi.front.deciding.front_context import Front
from reservasi.front.http.arrivals import Caller
from reservasi.front.http.head_faults import METHODS as KNOWN_METHODS
from reservasi.front.http.request_tally import METHODS, UNMATCHED, ClaimTally, Tally
from reservasi.front.reading.queries import refuse_parameters
from reservasi.logs import get_logger

log = get_logger()

SERVED = METHODS - {hdrs.METH_CONNECT, hdrs.METH_TRACE}
NO_CONTENT = int(HTTPStatus.NO_CONTENT)


class _Exchange:
    """A request that is being answered, its caller, and what counts it."""

    __slots__ = ("_caller", "_found", "_pending", "_request", "_started_s")

    def __init__(self, caller: Caller, request: Request, found: Found, started_s: float) -> None:
        self._caller = caller
        self._request = request
        self._found = found
        self._started_s = started_s
        self._pending: Pending | None = None

    def wait_for(self, pending: Pending) -> None:
        """Finish with an answer that comes later, as long as the caller is there."""
        self._pending = pending
        self._caller.waits_for(self)
        pending.hear(self.finish)

    def finish(self, result: Answer | Exception) -> None:
        """Send the answer and count it."""
        self._pending = None
        found = self._found
        if not isinstance(result, Answer):
            result = refusal_of(result, self._request, found.tally.route)
        self._caller.answer(result, self._request, names_all=found.names_all)
        found.tally.end(result, self._started_s)

    def abandon(self) -> None:
        """The caller has gone before the answer."""
        if self._pending is not None and self._pending.abandon():
            self._pending = None
            self._found.tally.withdraw()


class Dispatcher:
    """Answers requests; one for each front process."""

    def __init__(self, front: Front, router: Router, not_found: Callable[[Request], Answer | None]) -> None:
        """`not_found` makes the page for somebody whose browser asks for what there is not; None: it is no browser."""
        self._front = front
        self._router = router
        self._not_found = not_found
        self._tallies: dict[tuple[str, str], Tally] = {}  # bounded: routes x methods

    def find(self, request: Request) -> Found:
        """The operation of a request, whose path parameters it now has."""
        found = self._router.find(request.method, request.target)
        if found.tally is None:
            found.tally = self._tally(found.route, request.method)
        request.parameters, request.query = found.parameters, found.query
        return found

    def take(self, caller: Caller, request: Request) -> bool:
        """Whether the request is answered here: then `caller.answer` is called once, now or later.

        A stream is not: only aiohttp carries it.
        """
        found = self.find(request)
        if found.streams:
            return False
        self.answer(caller, request, found)
        return True

    def answer(self, caller: Caller, request: Request, found: Found) -> None:
        """Answer a request that is no stream."""
        exchange = _Exchange(caller, request, found, time.perf_counter())
        found.tally.begin()
        try:
            if found.counts_network:
                self._front.rates.check_network(request.peer, request.forwarded)
            route = found.route
            if route is None:
                result: Answer | Pending = self._without_route(request, found)
            else:
                if found.query and not route.reads_query:
                    refuse_parameters(request)
                result = route.handler(self._front, request)
        except Exception as error:
            exchange.finish(error)
            return
        if isinstance(result, Pending):
            exchange.wait_for(result)
        else:
            exchange.finish(result)

    def flush(self) -> None:
        """Let the metrics have all that was counted."""
        for tally in self._tallies.values():
            tally.flush()

    def _without_route(self, request: Request, found: Found) -> Answer:
        """The answer where a path has no such method, or where there is no such path."""
        if request.method.encode() not in KNOWN_METHODS:
            raise Refused(problem_catalogue.METHOD_NOT_IMPLEMENTED)
        allowed = found.allowed
        if request.method == hdrs.METH_OPTIONS and (allowed or found.path == "*"):
            methods = ", ".join(allowed or sorted(SERVED))
            preflight = self._front.cors.preflight(request.target, request.head.origin, methods)
            return Answer(NO_CONTENT, {hdrs.ALLOW: methods, hdrs.CACHE_CONTROL: NO_STORE, **preflight})
        if allowed:
            raise Refused(problem_catalogue.METHOD_NOT_ALLOWED, headers={hdrs.ALLOW: ", ".join(allowed)})
        page = self._not_found(request)
        if page is None:
            raise Refused(problem_catalogue.NOT_FOUND)
        return page

    def _tally(self, route: Route | None, method: str) -> Tally:
        """What counts a route's requests of one method."""
        path, method = UNMATCHED if route is None else route.path, method if method in METHODS else "other"
        tally = self._tallies.get((path, method))
        if tally is None:
            kind = ClaimTally if (path, method) == (CLAIM_PATH, "POST") else Tally
            tally = self._tallies[path, method] = kind(path, method)
        return tally


def refusal_of(error: Exception, request: Request, route: str) -> Answer:
    """The answer to a request whose handler raised this."""
    if not isinstance(error, Refused):
        error = refused_by_fault(error, route, lambda: request.trace)
    return problem_answer(request.language, error)


def refused_by_fault(error: Exception, route: str, trace: Callable[[], Trace]) -> Refused:
    """What a fault means for whoever asked: come again, or a bug of ours, logged under the id that they are told."""
    if isinstance(error, Overloaded):
        return Refused(problem_catalogue.OVERLOADED)
    named = trace()
    named.logged = True
    if isinstance(error, Unavailable):
        log.warning("request_not_answered_yet", route=route, fault=type(error).__name__, **named.fields)
        return Refused(problem_catalogue.RECOVERING)
    log.error("request_failed", route=route, exc_info=error, **named.fields)
    return Refused(problem_catalogue.INTERNAL_ERROR, members={"request_id": named.request_id})
