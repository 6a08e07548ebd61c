"""The short way for what is asked thousands of times a second: a plain claim, joining a waiting room, and availability.

A request that comes whole and without a fault is answered from bytes to bytes, without a task and without the objects
of a web framework. Anything else (a fault to name, a header that needs thought) takes the way through `app.py`. Both
ways use the same checks, the same calls and the same bodies, and a test holds their answers against each other.
"""

import time
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Protocol

import msgspec
from aiohttp import hdrs, web

from reservasi.errors import Overloaded, ReservasiError
from reservasi.front.admissions import check_ticket, may_be_outdated
from reservasi.front.answering import (
    CLAIM_PATH,
    HELD,
    REPLAYED,
    STATIC_HEADERS,
    TICKETS_ROUTE,
    ClaimTally,
    Tally,
    internal_error,
    refused_by_fault,
)
from reservasi.front.answering import SOLD_OUT as SOLD_OUT_CLAIM
from reservasi.front.booking import NO_STORE, claim_refusal, claimed_body, is_replay, plain_quota
from reservasi.front.encoding import accepts_gzip
from reservasi.front.heads import Request
from reservasi.front.keys import MEMORY, RATES, SERVICES, STOPPING
from reservasi.front.languages import DEFAULT, Language
from reservasi.front.problem_types import OVERLOADED, RECOVERING, SOLD_OUT
from reservasi.front.problems import Refused, problem_answer
from reservasi.front.public import AVAILABILITY_PATH, availability_headers, filters_of
from reservasi.front.rate_limits import too_often
from reservasi.front.tracing import Trace, new_trace
from reservasi.front.validation import plain_claim
from reservasi.front.views import availability_view, sold_out_body
from reservasi.front.waiting import join_refusal, refused_join, ticket_body
from reservasi.front.waiting_validation import plain_join
from reservasi.ledger.submitted import Submitted
from reservasi.model import Answer, Claim, Join, Opening, Outcome, Quota
from reservasi.programs import program_of
from reservasi.reservations import ClaimRequest

JSON_TYPES = frozenset(("application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"))
OPENINGS_PATH, TICKETS_END = "/v1/openings/", "/tickets"
OK, CREATED = int(HTTPStatus.OK), int(HTTPStatus.CREATED)  # once: Python looks a member up by a function of its own
KEPT_MAX = 4096  # encoded answers kept; all are dropped when there are more
_STATIC = "".join(f"{name}: {value}\r\n" for name, value in STATIC_HEADERS.items())
_CLAIMED = (
    f"HTTP/1.1 201 Created\r\n{hdrs.CONTENT_TYPE}: application/json\r\n{hdrs.CACHE_CONTROL}: {NO_STORE}\r\n{_STATIC}"
    f"{hdrs.LOCATION}: {CLAIM_PATH}/"
).encode()
_JOINED = (
    f"HTTP/1.1 201 Created\r\n{hdrs.CONTENT_TYPE}: application/json\r\n{hdrs.CACHE_CONTROL}: {NO_STORE}\r\n{_STATIC}"
    f"{hdrs.CONTENT_LENGTH}: "
).encode()
_REPLAYED = b"\r\nIdempotent-Replayed: true"
_AFTER_LOCATION = f"\r\n{hdrs.CONTENT_LENGTH}: ".encode()


class Abandonable(Protocol):
    """What need not be done once nobody waits for it."""

    def abandon(self) -> None:
        """Nobody does."""


class Caller(Protocol):
    """A connection that waits for one answer."""

    peer: str  # the address of its other end; "" where it has none

    def answer(self, content: bytes) -> None:
        """Send the whole answer; nothing happens when the caller has gone."""

    def waits_for(self, work: Abandonable) -> None:
        """What to abandon when the caller goes."""


class _Asked:
    """One request on the short way: who waits for its answer, and what counts it."""

    __slots__ = ("_submitted", "caller", "language", "started_s", "tally", "trace")

    def __init__(self, caller: Caller, tally: Tally, request: Request) -> None:
        self.started_s = time.perf_counter()
        self.caller = caller
        self.tally = tally
        self.language = request.head.language
        self.trace = request.trace
        self._submitted: Submitted | None = None
        tally.begin()

    def named(self) -> Trace:
        """What the request is called; it has a name from now on."""
        if self.trace is None:
            self.trace = new_trace()
        return self.trace

    def answer(self, status: int | str, content: bytes) -> None:
        """Send the answer and count it: by its status, a claim by its outcome."""
        self._submitted = None  # it holds this one in turn, and neither needs the other any more
        self.caller.answer(content)
        self.tally.end(status, self.started_s)

    def waits_for(self, submitted: Submitted) -> None:
        """A command whose answer becomes this request's, as long as the caller is there."""
        self._submitted = submitted
        self.caller.waits_for(self)

    def abandon(self) -> None:
        """The caller has gone before the answer."""
        if self._submitted is not None:
            self._submitted.abandon()
            self._submitted = None
            self.tally.withdraw()


class Express:
    """Answers what it can; one for each front process."""

    def __init__(self, app: web.Application) -> None:
        self._services = app[SERVICES]
        self._memory = app[MEMORY]
        self._rates = app[RATES]
        self._stopping = app[STOPPING]
        self._kept: dict[object, tuple[object, bytes]] = {}
        self._claims = ClaimTally(CLAIM_PATH, "POST")
        self._joins = Tally(TICKETS_ROUTE, "POST")
        self._reads = Tally(AVAILABILITY_PATH, "GET")

    def take(self, caller: Caller, request: Request) -> bool:
        """Whether the request is answered here: then `caller.answer` is called once, now or later."""
        method, target = request.head.method, request.head.target
        if target == CLAIM_PATH and method == "POST":
            asked, answer = _Asked(caller, self._claims, request), self._claim
        elif method == "POST" and target.startswith(OPENINGS_PATH) and target.endswith(TICKETS_END):
            asked, answer = _Asked(caller, self._joins, request), self._join
        elif method == "GET" and target.startswith(AVAILABILITY_PATH):
            asked, answer = _Asked(caller, self._reads, request), self._availability
        else:
            return False
        try:
            taken = answer(asked, request)
        except Exception as error:  # whoever asked must not wait for ever for what a bug of ours ate
            self._refuse(asked, internal_error(error, asked.tally.route, asked.named()))
            return True
        if not taken:
            asked.tally.withdraw()
        return taken

    def _tell(self, asked: "_Asked", answer: Callable[[Answer], None], result: Answer | ReservasiError) -> None:
        """What the ledger answered, or why it did not."""
        if isinstance(result, Overloaded):
            self._refuse(asked, Refused(OVERLOADED))
            return
        if isinstance(result, ReservasiError):
            self._refuse(asked, refused_by_fault(result, asked.tally.route, asked.named()))
            return
        try:
            answer(result)
        except Exception as error:
            self._refuse(asked, internal_error(error, asked.tally.route, asked.named()))

    def _refuse(self, asked: "_Asked", refused: Refused) -> None:
        response = problem_answer(asked.language, refused)
        content = head_of(response) + self._end_of_head(asked) + response.body  # type: ignore[operator]
        asked.answer(asked.tally.refusal(refused.kind), content)

    def _refuse_for(self, kind: str, asked: "_Asked", wait_s: float) -> bool:
        """Refuse who asks too often; True: it is answered."""
        self._refuse(asked, too_often(kind, wait_s))
        return True

    # -- claim ---------------------------------------------------------------------------------------------------

    def _claim(self, asked: "_Asked", request: Request) -> bool:
        if request.head.content_type not in JSON_TYPES:
            return False
        wanted = plain_claim(request.body, request.idempotency_key)
        quota = None if wanted is None else plain_quota(self._services, wanted)
        if wanted is None or quota is None:
            return False
        reservations, program = self._services.reservations, program_of(wanted.quota)
        wait_s = self._rates.network(asked.caller.peer, request.forwarded)
        if wait_s:
            return self._refuse_for("network", asked, wait_s)
        if not reservations.admits_claims(program):
            self._refuse(asked, Refused(OVERLOADED))
            return True
        persons = reservations.persons(wanted)
        wait_s = self._rates.people(persons)
        if wait_s:
            return self._refuse_for("person", asked, wait_s)
        refused = check_ticket(self._services, self._memory, wanted, persons, quota)
        if refused is None:
            self._judge(asked, wanted, persons, quota)
        elif reservations.may_be_replay(wanted, persons):
            return False
        elif may_be_outdated(self._services, refused, program):
            again = partial(self._claim_again, asked, wanted, persons, quota)
            self._services.availability.when_complete(program, again)
        else:
            self._refuse_claim(asked, refused, quota, len(persons))
        return True

    def _claim_again(self, asked: "_Asked", wanted: ClaimRequest, persons: tuple[str, ...], quota: Quota) -> None:
        """They had been refused: judged once more, by a view that has all that they may have heard elsewhere."""
        try:
            if not self._services.availability.knows(program_of(quota.id)):
                self._refuse(asked, Refused(RECOVERING))
                return
            refused = check_ticket(self._services, self._memory, wanted, persons, quota)
            if refused is None or self._services.reservations.may_be_replay(wanted, persons):
                self._judge(asked, wanted, persons, quota)
            else:
                self._refuse_claim(asked, refused, quota, len(persons))
        except Exception as error:
            self._refuse(asked, internal_error(error, CLAIM_PATH, asked.named()))

    def _judge(self, asked: "_Asked", wanted: ClaimRequest, persons: tuple[str, ...], quota: Quota) -> None:
        prepared = self._services.reservations.prepare(wanted, persons)
        if isinstance(prepared, tuple):
            self._answer_claim(asked, wanted, quota, *prepared)
        else:
            self._submit(asked, wanted, quota, prepared)

    def _submit(self, asked: "_Asked", wanted: ClaimRequest, quota: Quota, command: Claim) -> None:
        tell = partial(self._tell, asked, partial(self._answer_claim, asked, wanted, quota, command.reservation_id))
        try:
            asked.waits_for(self._services.reservations.enqueue(command, tell))
        except Overloaded as error:
            tell(error)

    def _answer_claim(
        self, asked: "_Asked", wanted: ClaimRequest, quota: Quota, reservation_id: str, answer: Answer
    ) -> None:
        if answer.outcome is Outcome.HELD or answer.outcome is Outcome.EXISTS:
            body = msgspec.json.encode(claimed_body(self._services, reservation_id, wanted, answer))
            replayed = _REPLAYED if is_replay(answer) else b""
            head = b"%b%b%b%b%d" % (_CLAIMED, reservation_id.encode(), replayed, _AFTER_LOCATION, len(body))
            asked.answer(REPLAYED if replayed else HELD, head + self._end_of_head(asked) + body)
        elif answer.outcome is Outcome.SOLD_OUT:
            self._answer_sold_out(asked, quota, len(wanted.applicants))
        else:
            self._refuse(asked, claim_refusal(self._services, self._memory, quota, answer))

    def _refuse_claim(self, asked: "_Asked", refused: Refused, quota: Quota, places: int) -> None:
        if refused.kind is SOLD_OUT:
            self._answer_sold_out(asked, quota, places)
        else:
            self._refuse(asked, refused)

    def _answer_sold_out(self, asked: "_Asked", quota: Quota, places: int) -> None:
        language = asked.language
        body = sold_out_body(self._services, self._memory, quota, places, language)
        key = (quota.id, places, language)
        kept = self._kept.get(key)
        if kept is None or kept[0] is not body:
            kept = self._keep(key, body, head_of(problem_answer(language, Refused(SOLD_OUT), body)))
        asked.answer(SOLD_OUT_CLAIM, kept[1] + self._end_of_head(asked) + body)

    # -- join ----------------------------------------------------------------------------------------------------

    def _join(self, asked: "_Asked", request: Request) -> bool:
        if request.head.content_type not in JSON_TYPES:
            return False
        wanted = plain_join(request.body)
        found = self._services.waiting_room.find(request.head.target[len(OPENINGS_PATH) : -len(TICKETS_END)])
        if wanted is None or found is None or found[1].terms.proof_of_work:
            return False
        program, opening = found
        room = self._services.waiting_room
        if not self._services.availability.knows(program):
            return False
        wait_s = self._rates.network(asked.caller.peer, request.forwarded)
        if wait_s:
            return self._refuse_for("network", asked, wait_s)
        if not room.admits_joins(program):
            self._refuse(asked, Refused(OVERLOADED))
            return True
        person = room.person(program, wanted.nik)
        wait_s = self._rates.people((person,))
        if wait_s:
            return self._refuse_for("person", asked, wait_s)
        refused = refused_join(self._services, self._memory, program, opening)
        if refused is not None:
            self._refuse(asked, refused)
        else:
            self._submit_join(asked, program, opening, room.ticket_id(program, opening.id, person))
        return True

    def _submit_join(self, asked: "_Asked", program: str, opening: Opening, ticket_id: str) -> None:
        tell = partial(self._tell, asked, partial(self._answer_join, asked, program, opening, ticket_id))
        command = Join(opening=opening.id, ticket_id=ticket_id)
        try:
            asked.waits_for(self._services.waiting_room.enqueue(program, command, tell))
        except Overloaded as error:
            tell(error)

    def _answer_join(self, asked: "_Asked", program: str, opening: Opening, ticket_id: str, answer: Answer) -> None:
        if answer.outcome is not Outcome.JOINED:
            self._refuse(asked, join_refusal(self._services, self._memory, program, opening, answer))
            return
        body = ticket_body(self._services, program, opening, ticket_id, answer)
        asked.answer(CREATED, b"%b%d%b%b" % (_JOINED, len(body), self._end_of_head(asked), body))

    # -- availability --------------------------------------------------------------------------------------------

    def _availability(self, asked: "_Asked", request: Request) -> bool:
        target = request.head.target
        if request.head.if_none_match or request.body:
            return False
        filters = filters_of(target)
        if filters is None or not self._services.availability.has_view(filters.get("program")):
            return False
        wait_s = self._rates.network(asked.caller.peer, request.forwarded)
        if wait_s:
            return self._refuse_for("network", asked, wait_s)
        is_gzip = accepts_gzip(request.head.accept_encoding)
        view = availability_view(self._services, self._memory, filters).variant(gzip=is_gzip)
        kept = self._kept.get((target, is_gzip))
        if kept is None or kept[0] is not view:
            response = web.Response(body=view.body, headers=availability_headers(view))
            kept = self._keep((target, is_gzip), view, head_of(response))
        asked.answer(OK, kept[1] + self._end_of_head(asked) + view.body)
        return True

    # -- bytes ---------------------------------------------------------------------------------------------------

    def _keep(self, key: object, made_from: object, head: bytes) -> tuple[object, bytes]:
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[key] = (made_from, head)
        return self._kept[key]

    def _end_of_head(self, asked: "_Asked") -> bytes:
        """The lines that change: the date, the caller's names, and at shutdown that the connection will be closed."""
        end = date_line(int(time.time()))
        if asked.trace is not None:
            end = asked.trace.lines + end
        return end if not self._stopping.is_set() else b"\r\nConnection: close" + end


@lru_cache(maxsize=2)
def date_line(at_s: int) -> bytes:
    """The end of a head that `head_of` began."""
    return f"\r\n{hdrs.DATE}: {formatdate(at_s, usegmt=True)}\r\n\r\n".encode()


def head_of(response: web.Response) -> bytes:
    """A response's head as far as it stays the same, without the last line's end."""
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in {**response.headers, **STATIC_HEADERS}.items()]
    lines.append(f"{hdrs.CONTENT_LENGTH}: {len(response.body)}")  # type: ignore[arg-type]
    return "\r\n".join(lines).encode()


def whole_answer(refused: Refused, language: Language = DEFAULT) -> bytes:
    """A problem as bytes, for a connection that is closed after it."""
    response = problem_answer(language, refused)
    end = b"\r\nConnection: close" + date_line(int(time.time()))
    return head_of(response) + end + response.body  # type: ignore[operator]
