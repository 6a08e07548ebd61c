"""Refuses claims and joins by their first bytes while the processor is the bottleneck.

If ledger or disk are the bottleneck, commands wait in a queue, which `ledger/concurrency_limit.py` bounds. If the
front's own processor is, requests wait in the sockets, where they cannot be counted; but then a turn of the event loop,
from its first claim to its last, takes long. As in CoDel (RFC 8289) the least value of an interval distinguishes a
standing queue from a burst, and only a standing queue is cut. Then each turn accepts claims for a short while, and
refuses the following ones from their heads alone. Requests other than claims and joins are always read, so that
confirmations, cancellations and staff go before new claims.
"""

import asyncio
import random
import re
import time
from collections.abc import Callable

from reservasi.front.api.answers import Answer
from reservasi.front.api.cors import NO_CORS, Cors
from reservasi.front.api.languages import LANGUAGES, Language
from reservasi.front.api.paths import CLAIM_PATH, TICKETS_PATH
from reservasi.front.api.problem_catalogue import OVERLOADED
from reservasi.front.api.problems import RETRY_AFTER_S_MAX, Refused, problem_answer
from reservasi.front.http.answer_bytes import encode
from reservasi.front.http.request_head import Incomplete, Unclear, read_request
from reservasi.front.http.request_tally import count_claim
from reservasi.metrics import REQUESTS, SHED

STANDING_S = 0.1  # if every turn in an interval is longer, requests are queued in the sockets
INTERVAL_S = 1.0
INTAKE_S = 0.04  # part of a turn in which claims are accepted while requests are queued
_CROWD = re.compile(rb"POST /v1/(?:reservations|(openings)/[^/ ]+/tickets) HTTP/1\.1\r\n")


class Turns:
    """Detects requests that are queued before a process, from the length of its event loop's turns.

    While none are, one short turn answers for its whole interval, so that the interval's other turns are not timed.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        self.standing = False
        self._call_soon = call_soon
        self._call_later = call_later
        self._clock = clock
        self._awaits_turn = True  # whether the next claim begins a turn to be timed
        self._began_s = 0.0
        self._ends_at_s = 0.0  # end of the interval
        self._turn_least_s = float("inf")
        self._refused = False  # whether a claim was refused in this interval

    @property
    def checks(self) -> bool:
        """Whether the next claim must be passed to `refuses`; mostly it need not."""
        return self._awaits_turn or self.standing

    def refuses(self) -> bool:
        """Whether the next claim is too late in its turn; the first one never is."""
        now_s = self._clock()
        if self._awaits_turn:
            self._awaits_turn, self._began_s = False, now_s
            self._call_soon(self._end)  # runs after everything readable in this turn has been read
            return False
        if not self.standing or now_s - self._began_s <= INTAKE_S:
            return False
        self._refused = True
        return True

    def _end(self) -> None:
        now_s = self._clock()
        turn_s = now_s - self._began_s
        if now_s - self._ends_at_s > INTERVAL_S:  # without requests for a while, the state is outdated
            self.standing, self._refused, self._turn_least_s = False, False, turn_s
            self._ends_at_s = now_s + INTERVAL_S
        else:
            self._turn_least_s = min(self._turn_least_s, turn_s)
            if now_s >= self._ends_at_s:
                # Turns are short while most are refused, so it is over only when none was refused.
                self.standing = self._refused if self.standing else self._turn_least_s > STANDING_S
                self._refused, self._turn_least_s = False, float("inf")
                self._ends_at_s = now_s + INTERVAL_S
        if not self.standing and self._turn_least_s <= STANDING_S:
            self._call_later(self._ends_at_s - now_s, self._await_turn)
        else:
            self._awaits_turn = True

    def _await_turn(self) -> None:
        self._awaits_turn = True


class Shedding:
    """Answers 503 `overloaded` to whole claims and joins that the process cannot handle."""

    def __init__(self, body_bytes_max: int, cors: Cors = NO_CORS) -> None:
        self._cors = cors
        loop = asyncio.get_running_loop()
        self._body_bytes_max = body_bytes_max
        self.turns = Turns(loop.call_soon, loop.call_later, time.perf_counter)
        # Not a secret: spreads the return of refused callers. Created after the fork, so that fronts differ.
        self._spread = random.Random()  # noqa: S311
        self._requests = [REQUESTS.labels(route, "POST", "5xx") for route in (CLAIM_PATH, TICKETS_PATH)]
        self._answers = {language: _answers(language) for language in LANGUAGES}
        self._call_soon = loop.call_soon
        self._refused = [0, 0]  # in this turn, by route; the metrics are updated once
        self._due = False

    def refusal(self, data: bytes) -> bytes | None:
        """The answer to the one claim or join in `data`, if it is refused with its body unread."""
        if not self.turns.checks:
            return None
        crowd = _CROWD.match(data)
        if crowd is None or not self.turns.refuses():
            return None
        try:
            request = read_request(data, self._body_bytes_max)
        except Unclear:
            return None  # an unclear end is left to aiohttp's parser
        if isinstance(request, Incomplete):
            return None
        self._refused[crowd[1] is not None] += 1
        if not self._due:
            self._due = True
            self._call_soon(self._flush_metrics)
        answers = self._answers[request.language]
        answer = answers[int(self._spread.random() * len(answers))]
        more = self._cors.lines(request.target, request.head.origin) if self._cors.is_on else b""
        return encode(answer, request, names_all=False, closes=False, more=more)

    def _flush_metrics(self) -> None:
        """Count the refused requests. Their duration is not observed, since it would hide that of the others."""
        for requests, count in zip(self._requests, self._refused, strict=True):
            requests.inc(count)
        count_claim("overloaded", self._refused[0])
        SHED.inc(sum(self._refused))
        self._due, self._refused = False, [0, 0]


def _answers(language: Language) -> list[Answer]:
    """One for each Retry-After."""
    waits_s = range(1, RETRY_AFTER_S_MAX + 1)
    return [problem_answer(language, Refused(OVERLOADED, headers={"Retry-After": str(wait_s)})) for wait_s in waits_s]
