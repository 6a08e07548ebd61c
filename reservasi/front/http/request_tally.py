"""Counts and times requests by route, method and status, and claims by their outcome."""

import asyncio
import time
from collections import Counter as Counting

from aiohttp import hdrs
from prometheus_client import Counter, Histogram

from reservasi.front.api.answers import Answer
from reservasi.metrics import CLAIM_OUTCOMES, CLAIMS, LAG_S, REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT, observe_all

UNMATCHED = "unmatched"  # the route label of unknown addresses
METHODS = frozenset(hdrs.METH_ALL) - {hdrs.METH_ANY}
HELD, REPLAYED = "held", "replayed"  # outcomes of claims that are not refusals

_COUNTERS: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # bounded: routes x methods x classes


def _counters(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """The metrics of a route, looked up once: the look-up by labels is more expensive than counting."""
    key = (route, method, status // 100)
    counters = _COUNTERS.get(key)
    if counters is None:
        counters = (REQUESTS.labels(route, method, f"{key[2]}xx"), REQUEST_SECONDS.labels(route))
        _COUNTERS[key] = counters
    return counters


def begin_at_zero(route: str, method: str) -> None:
    """Create the counters of a route at zero, so that their first increase is visible."""
    for status in (200, 300, 400, 500):
        _counters(route, method, status)


# -- claims by outcome -------------------------------------------------------------------------------------------

_INVALID = "invalid"  # the request itself was wrong, which is not an outcome of the ledger
_OUTCOME_OF = {  # if it is not the problem's own name
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
    """The outcome of a claim whose answer is `problem`, or one of the words above."""
    outcome = _OUTCOME_OF.get(problem) or problem.replace("-", "_")
    return outcome if outcome in _CLAIMS else "other"


def count_claim(outcome: str, count: int = 1) -> None:
    """Count answered claims."""
    _CLAIMS[outcome].inc(count)


# -- tallies -----------------------------------------------------------------------------------------------------


class Tally:
    """Counts and times the requests of one route and method; the metrics are updated `LAG_S` later.

    Updating them for each request would cost as much as a small answer.
    """

    def __init__(self, route: str, method: str) -> None:
        self.route = route
        self._method = method
        self._begun = 0
        self._answers: list[tuple[int, str]] = []  # status and outcome
        self._seconds: list[float] = []
        self._due = False
        self._loop = asyncio.get_running_loop()  # kept, since getting it costs a system call

    def begin(self) -> None:
        """A request is being answered."""
        self._begun += 1
        if not self._due:
            self._flush_soon()

    def withdraw(self) -> None:
        """Nobody waits for it any more."""
        self._begun -= 1
        if not self._due:
            self._flush_soon()

    def end(self, answer: Answer, started_s: float) -> None:
        """It has been answered; `started_s` is by `time.perf_counter`."""
        self._answers.append((answer.status, answer.outcome))
        self._seconds.append(time.perf_counter() - started_s)
        if not self._due:
            self._flush_soon()

    def note(self, status: int, outcome: str, started_s: float) -> None:
        """Count a request that was answered by a stream."""
        self._answers.append((status, outcome))
        self._seconds.append(time.perf_counter() - started_s)
        if not self._due:
            self._flush_soon()

    def _flush_soon(self) -> None:
        self._due = True
        self._loop.call_later(LAG_S, self.flush)

    def flush(self) -> None:
        """Update the metrics."""
        self._due = False
        if self._begun != len(self._answers):
            REQUESTS_IN_FLIGHT.inc(self._begun - len(self._answers))
        for (status, outcome), count in Counting(self._answers).items():
            self._count(status, outcome, count)
        if self._answers:
            observe_all(_counters(self.route, self._method, 200)[1], self._seconds)
        self._begun, self._answers, self._seconds = 0, [], []

    def _count(self, status: int, _outcome: str, count: int) -> None:
        _counters(self.route, self._method, status)[0].inc(count)


class ClaimTally(Tally):
    """Also counts claims by their outcome."""

    def _count(self, status: int, outcome: str, count: int) -> None:
        count_claim(outcome_of(outcome), count)
        super()._count(status, outcome, count)
