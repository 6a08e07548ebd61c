"""From a request to its answer: finds the operation, runs its handler, turns exceptions into refusals, counts.

Every request except streams comes through here, whichever transport it came by.
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
from reservasi.front.api.routing import Match, Route, Router
from reservasi.front.api.tracing import Trace
from reservasi.front.deciding.front_context import Front
from reservasi.front.http.arrivals import Caller
from reservasi.front.http.head_faults import METHODS as KNOWN_METHODS
from reservasi.front.http.request_tally import METHODS, UNMATCHED, ClaimTally, Tally
from reservasi.front.reading.queries import refuse_parameters
from reservasi.logs import get_logger

log = get_logger()

BODILESS = (hdrs.METH_GET, hdrs.METH_HEAD)
SERVED = METHODS - {hdrs.METH_CONNECT, hdrs.METH_TRACE}
NO_CONTENT = int(HTTPStatus.NO_CONTENT)


class _Exchange:
    """A request that is being answered, its caller, and its tally."""

    __slots__ = ("_caller", "_match", "_pending", "_request", "_started_s")

    def __init__(self, caller: Caller, request: Request, match: Match, started_s: float) -> None:
        self._caller = caller
        self._request = request
        self._match = match
        self._started_s = started_s
        self._pending: Pending | None = None

    def wait_for(self, pending: Pending) -> None:
        """Finish with an answer that comes later, while the caller is there."""
        self._pending = pending
        self._caller.waits_for(self)
        pending.then(self.finish)

    def finish(self, result: Answer | Exception) -> None:
        """Send the answer and count it."""
        self._pending = None
        match = self._match
        if not isinstance(result, Answer):
            result = refusal_of(result, self._request, match.tally.route)
        self._caller.answer(result, self._request, names_all=match.names_all)
        match.tally.end(result, self._started_s)

    def abandon(self) -> None:
        """The caller has gone before the answer."""
        if self._pending is not None and self._pending.abandon():
            self._pending = None
            self._match.tally.withdraw()


class Dispatcher:
    """Answers requests; one for each front process."""

    def __init__(self, front: Front, router: Router, not_found: Callable[[Request], Answer | None]) -> None:
        """`not_found` returns the page for a browser that requests an unknown address, or None for other clients."""
        self._front = front
        self._router = router
        self._not_found = not_found
        self._tallies: dict[tuple[str, str], Tally] = {}  # bounded: routes x methods

    def find(self, request: Request) -> Match:
        """The operation of a request; sets its path parameters."""
        match = self._router.find(request.method, request.target)
        if match.tally is None:
            match.tally = self._tally(match.route, request.method)
        request.parameters, request.query = match.parameters, match.query
        return match

    def awaits_body(self, method: str, target: str) -> bool:
        """Whether a request is answered only when its body is complete: refusals of address and method are not."""
        return method not in BODILESS and self._router.find(method, target).route is not None

    def take(self, caller: Caller, request: Request) -> bool:
        """Whether the request is answered here: then `caller.answer` is called once, now or later.

        False for a stream, which only aiohttp carries.
        """
        match = self.find(request)
        if match.streams:
            return False
        self.answer(caller, request, match)
        return True

    def answer(self, caller: Caller, request: Request, match: Match) -> None:
        """Answer a request that is not a stream."""
        exchange = _Exchange(caller, request, match, time.perf_counter())
        match.tally.begin()
        try:
            if match.counts_network:
                self._front.rates.check_network(request.peer, request.forwarded)
            route = match.route
            if route is None:
                result: Answer | Pending = self._without_route(request, match)
            else:
                if match.query and not route.reads_query:
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
        """Update the metrics."""
        for tally in self._tallies.values():
            tally.flush()

    def _without_route(self, request: Request, match: Match) -> Answer:
        """The answer for an unknown method of a path, or for an unknown path."""
        if request.method.encode() not in KNOWN_METHODS:
            raise Refused(problem_catalogue.METHOD_NOT_IMPLEMENTED)
        allowed = match.allowed
        if request.method == hdrs.METH_OPTIONS and (allowed or match.path == "*"):
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
        """The tally of a route and a method."""
        path, method = UNMATCHED if route is None else route.path, method if method in METHODS else "other"
        tally = self._tallies.get((path, method))
        if tally is None:
            kind = ClaimTally if (path, method) == (CLAIM_PATH, "POST") else Tally
            tally = self._tallies[path, method] = kind(path, method)
        return tally


def refusal_of(error: Exception, request: Request, route: str) -> Answer:
    """The answer to a request whose handler raised this exception."""
    if not isinstance(error, Refused):
        error = refused_by_fault(error, route, lambda: request.trace)
    return problem_answer(request.language, error)


def refused_by_fault(error: Exception, route: str, trace: Callable[[], Trace]) -> Refused:
    """The refusal of a fault: try again, or a bug, logged under the id that the caller gets."""
    if isinstance(error, Overloaded):
        return Refused(problem_catalogue.OVERLOADED)
    named = trace()
    named.logged = True
    if isinstance(error, Unavailable):
        log.warning("request_not_answered_yet", route=route, fault=type(error).__name__, **named.fields)
        return Refused(problem_catalogue.RECOVERING)
    log.error("request_failed", route=route, exc_info=error, **named.fields)
    return Refused(problem_catalogue.INTERNAL_ERROR, members={"request_id": named.request_id})
