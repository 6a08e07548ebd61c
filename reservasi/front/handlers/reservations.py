"""The life of a reservation over HTTP: claim, show, confirm, cancel, and its documents."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec
from aiohttp import hdrs

from reservasi.contents import same_reference
from reservasi.errors import ReservasiError
from reservasi.front.api import problem_catalogue
from reservasi.front.api.answers import (
    JSON,
    NO_STORE,
    Answer,
    Pending,
    PendingLedgerAnswer,
    Reply,
    ask,
    in_task,
    json_answer,
    later,
)
from reservasi.front.api.bodies import (
    ClaimedBody,
    ConfirmedBody,
    ConfirmingBody,
    EndedBody,
    EndingBody,
    ReservationBody,
    ReservationStatus,
)
from reservasi.front.api.languages import Language, Text
from reservasi.front.api.not_found import UNKNOWN_RESERVATION
from reservasi.front.api.paths import CLAIM_PATH
from reservasi.front.api.problem_type import ProblemType
from reservasi.front.api.problems import Refused, problem_answer, retry_after
from reservasi.front.api.request import Request
from reservasi.front.deciding import cancellation_refusals, claim_refusals
from reservasi.front.deciding.claiming import Decision, Doubtful, claimable_quota, decide_claim, decide_replay
from reservasi.front.deciding.front_context import Front
from reservasi.front.deciding.not_open import not_open
from reservasi.front.deciding.wanted_claim import Wanted
from reservasi.front.http.request_tally import HELD, REPLAYED
from reservasi.front.reading.request_parts import bearer, json_body, require_whole
from reservasi.front.reading.reservation_requests import ClaimBodyReader, idempotency_key, plain_claim, read_confirm
from reservasi.front.services import FrontServices
from reservasi.front.views.documents import qr_svg, ticket_ics
from reservasi.front.views.opening_reasons import refused_as_cancelled
from reservasi.front.views.quota_json import moment
from reservasi.front.views.sold_out import sold_out_answer
from reservasi.model import APPLICANTS_MAX, Claim, Outcome, Quota, State
from reservasi.model import Answer as LedgerAnswer
from reservasi.programs import program_of
from reservasi.reservations import ACCEPTED, Change, ClaimRequest

IDEMPOTENT_REPLAYED = "Idempotent-Replayed"
_RESERVATION_ID = re.compile(r"[a-z2-7]{26}")
_STATE_WORDS = {
    State.HELD: Text("ditahan", "held"),
    State.CONFIRMED: Text("terkonfirmasi", "confirmed"),
    State.RELEASED: Text("dilepas", "released"),
    State.EXPIRED: Text("lewat batas waktu", "expired"),
    State.CANCELLED: Text("dibatalkan", "cancelled"),
    State.RETIRED: Text("sudah lewat tanggalnya", "its date has passed"),
}
# The status of a change until it is recorded, in the answers to the calls that cause it and to GET.
_ON_ITS_WAY: dict[State, ReservationStatus] = {
    State.CONFIRMED: "confirming",
    State.RELEASED: "releasing",
    State.CANCELLED: "cancelling",
}
_STATUS: dict[State, ReservationStatus] = {
    State.HELD: "held",
    State.CONFIRMED: "confirmed",
    State.RELEASED: "released",
    State.EXPIRED: "expired",
    State.CANCELLED: "cancelled",
}
_STATE_OF: dict[ReservationStatus, State] = {
    **{status: state for state, status in _ON_ITS_WAY.items()},
    **{status: state for state, status in _STATUS.items()},
}
PAST_STATUSES: dict[str, ReservationStatus] = {"attended": "attended", "absent": "absent"}  # of the records


def _answer(body: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return json_answer(msgspec.json.encode(body), status, headers)


# -- claim -------------------------------------------------------------------------------------------------------


def claim(front: Front, request: Request) -> Reply:
    """`POST /v1/reservations`. Kept short for speed."""
    keys = request.idempotency_keys
    if request.fault is None and len(keys) == 1 and request.head.is_json:
        wanted = plain_claim(request.body, keys[0])
        if wanted is not None:
            program_id = program_of(wanted.quota)
            program = front.services.catalogue.program(program_id)
            if program is not None and len(wanted.applicants) <= program.policies.applicants_max:
                return _claim(front, request, wanted, program_id)
    return _claim_with_care(front, request)


def _claim_with_care(front: Front, request: Request) -> Reply:
    """A claim with a fault to report, or for a program that was just imported."""
    key = idempotency_key(request.idempotency_keys)
    reader = ClaimBodyReader(json_body(request))
    if front.services.catalogue.may_find(program_of(reader.quota)):
        return later(request.trace, _claim_of_new_program(front, request, reader, key))
    return _claim_as_read(front, request, reader, key)


async def _claim_of_new_program(front: Front, request: Request, reader: ClaimBodyReader, key: str) -> Reply:
    await front.services.catalogue.look_up(program_of(reader.quota))
    return _claim_as_read(front, request, reader, key)


def _claim_as_read(front: Front, request: Request, reader: ClaimBodyReader, key: str) -> Reply:
    program_id = program_of(reader.quota)
    program = front.services.catalogue.program(program_id)
    claim = reader.read(program.policies.applicants_max if program else APPLICANTS_MAX, key)
    return _claim(front, request, claim, program_id)


def _claim(front: Front, request: Request, claim: ClaimRequest, program: str) -> Reply:
    """A well-formed claim."""
    quota = claimable_quota(front.services, program, claim.quota)
    if quota is None:
        return later(request.trace, _claim_of_new_quota(front, request, claim, program))
    front.rates.check_network(request.peer, request.forwarded)
    wanted = Wanted(front.services, program, claim, quota)
    return _decided(front, request, wanted, decide_claim(front, wanted))


async def _claim_of_new_quota(front: Front, request: Request, claim: ClaimRequest, program: str) -> Reply:
    """Wait until the view is complete: another front may already know the quota."""
    services = front.services
    await services.availability.complete(program)
    if not services.availability.knows(program):
        raise Refused(problem_catalogue.RECOVERING)
    quota = claimable_quota(services, program, claim.quota)
    if quota is None:
        raise claim_refusals.over(services, claim.quota, None) or Refused(problem_catalogue.UNKNOWN_QUOTA)
    front.rates.check_network(request.peer, request.forwarded)
    wanted = Wanted(services, program, claim, quota)
    return _decided(front, request, wanted, decide_claim(front, wanted))


def _decided(front: Front, request: Request, wanted: Wanted, decision: Decision) -> Reply:
    """Answer as the policy decided, or ask the ledger."""
    if isinstance(decision, Claim):
        pending = PendingLedgerAnswer(partial(_claim_answer, front, request.language, wanted))
        pending.work = front.services.reservations.enqueue(wanted.program, decision, pending.take)
        return pending
    if isinstance(decision, Doubtful):
        return _checked(front, request, wanted, decision)
    return _refused_claim(front, request.language, wanted, decision)


def _checked(front: Front, request: Request, wanted: Wanted, doubtful: Doubtful) -> Pending:
    """Decide again with a view that contains everything that the caller may have learnt elsewhere, or by the ledger."""
    if doubtful.may_be_outdated:
        pending = Pending()
        again = partial(pending.resolve, partial(_decide_settled, front, request), wanted)
        front.services.availability.when_complete(wanted.program, again)
        return pending
    enqueue = partial(front.services.reservations.enqueue_find, wanted.reservation_id)
    return ask(enqueue, partial(_decide_found, front, request, wanted, doubtful.refused))


def _decide_settled(front: Front, request: Request, wanted: Wanted) -> Reply:
    if not front.services.availability.knows(wanted.program):
        raise Refused(problem_catalogue.RECOVERING)
    return _decided(front, request, wanted, decide_claim(front, wanted, is_settled=True))


def _decide_found(front: Front, request: Request, wanted: Wanted, refused: Refused, answer: LedgerAnswer) -> Reply:
    if answer.outcome is Outcome.FOUND:
        return _decided(front, request, wanted, decide_replay(front, wanted))
    return _refused_claim(front, request.language, wanted, refused)


def _claim_answer(front: Front, language: Language, wanted: Wanted, answer: LedgerAnswer) -> Answer:
    """The HTTP answer to the ledger's answer."""
    if answer.outcome is Outcome.HELD or answer.outcome is Outcome.EXISTS:
        body = msgspec.json.encode(claimed_body(front.services, wanted, answer))
        location = f"{CLAIM_PATH}/{wanted.reservation_id}"
        # A batch that was sent twice finds its own first attempt: for the person it is the first answer.
        if answer.outcome is Outcome.EXISTS and not answer.retried:
            headers = {**_CLAIMED_HEADERS, hdrs.LOCATION: location, IDEMPOTENT_REPLAYED: "true"}
            return Answer(201, headers, body, outcome=REPLAYED)
        return _Held(location, body)
    return _refused_claim(front, language, wanted, claim_refusal(front, wanted.quota, answer))


_CLAIMED_HEADERS = {"Content-Type": JSON, "Cache-Control": NO_STORE}


class _Held(Answer):
    """The answer to a successful claim, whose head is built without a dictionary."""

    __slots__ = ("_location",)
    _BEGINNING = Answer(201, _CLAIMED_HEADERS).head.rpartition(b"\r\n")[0] + b"\r\nLocation: "

    def __init__(self, location: str, body: bytes) -> None:
        self._head = b"%b%b\r\nContent-Length: %d" % (self._BEGINNING, location.encode(), len(body))
        self._location = location
        self.status, self.outcome, self.body, self.closes = 201, HELD, body, False

    @property
    def headers(self) -> Mapping[str, str]:  # type: ignore[override]  # of aiohttp's transport only
        return {**_CLAIMED_HEADERS, "Location": self._location}


def _refused_claim(front: Front, language: Language, wanted: Wanted, refused: Refused) -> Answer:
    if refused.kind is problem_catalogue.SOLD_OUT:
        return sold_out_answer(front.services, front.cache, wanted.quota, len(wanted.persons), language)
    return problem_answer(language, refused)


def claimed_body(services: FrontServices, wanted: Wanted, answer: LedgerAnswer) -> ClaimedBody:
    """The body that describes a hold."""
    return ClaimedBody(
        id=wanted.reservation_id,
        quota=wanted.quota.id,
        places=len(wanted.persons),
        hold_expires_at=moment(answer.deadline_ms),
        manage_token=services.reservations.manage_token(wanted.reservation_id),
    )


_CLAIM_REFUSALS = {
    Outcome.EXISTS_WITH_DIFFERENT_CONTENT: problem_catalogue.IDEMPOTENCY_KEY_REUSED,
    Outcome.UNKNOWN_QUOTA: problem_catalogue.UNKNOWN_QUOTA,
    Outcome.SOLD_OUT: problem_catalogue.SOLD_OUT,
}


def claim_refusal(front: Front, quota: Quota, answer: LedgerAnswer) -> Refused:
    """The refusal of an outcome without places."""
    services = front.services
    if answer.outcome is Outcome.DUPLICATE_APPLICANT:
        return claim_refusals.duplicate(answer)
    if answer.outcome is Outcome.NOT_OPEN:
        over = claim_refusals.over(services, quota.id, quota)
        return over or not_open(services, front.cache, quota, answer.opens_at_ms)
    opening = services.availability.opening_of(quota) if answer.outcome is Outcome.CLOSED else None
    if opening is not None and opening.cancelled:
        return refused_as_cancelled(opening)
    if answer.outcome is Outcome.CLOSED:
        return claim_refusals.closed(services, quota)
    return Refused(_CLAIM_REFUSALS[answer.outcome])


# -- with the manage token ---------------------------------------------------------------------------------------


def _managed(front: Front, request: Request) -> str:
    """The reservation of the path, if the bearer secret is right; else 404."""
    reservation_id = request.parameters["id"]
    token = bearer(request)
    if not (token and _RESERVATION_ID.fullmatch(reservation_id)):
        raise Refused(problem_catalogue.NOT_FOUND)
    if not front.services.reservations.holds_manage_token(reservation_id, token):
        raise Refused(problem_catalogue.NOT_FOUND)
    return reservation_id


class _Reservation(NamedTuple):
    """What a person may know about their reservation."""

    id: str
    status: ReservationStatus
    places: int
    quota: Quota
    hold_expires_at_ms: int  # 0: it is not held

    @property
    def is_booked(self) -> bool:
        return self.status == "confirmed" or self.status in PAST_STATUSES


_Show = Callable[[_Reservation], Answer]


def _with_found(front: Front, request: Request, show: _Show) -> Pending:
    """The answer of `show` for the reservation of the path: from the ledger, or from the records if its date has
    passed.
    """
    reservation_id = _managed(front, request)
    enqueue = partial(front.services.reservations.enqueue_find, reservation_id)
    return ask(enqueue, partial(_found, front, request, reservation_id, show))


def _found(front: Front, request: Request, reservation_id: str, show: _Show, answer: LedgerAnswer) -> Reply:
    reservations, state = front.services.reservations, answer.state
    quota = reservations.known_quota(answer.quota) if answer.quota else None
    if state is None or state is State.RETIRED or quota is None:
        return later(request.trace, _found_in_records(front, reservation_id, show, answer))
    return _found_live(front, reservation_id, show, answer, quota)


def _found_live(front: Front, reservation_id: str, show: _Show, answer: LedgerAnswer, quota: Quota) -> Reply:
    """A reservation in the ledger; one that ended or was confirmed is pending until it is recorded."""
    state = answer.state or State.RETIRED
    hold_expires_at_ms = answer.deadline_ms if state is State.HELD else 0
    reservation = _Reservation(reservation_id, _STATUS[state], answer.places, quota, hold_expires_at_ms)
    if state not in _ON_ITS_WAY:
        return show(reservation)
    pending = Pending()

    def on_recorded(recorded: bool) -> None:
        pending.resolve(show, reservation if recorded else reservation._replace(status=_ON_ITS_WAY[state]))

    front.services.reservations.when_known_recorded(reservation_id, answer, on_recorded)
    return pending


async def _found_in_records(front: Front, reservation_id: str, show: _Show, answer: LedgerAnswer) -> Reply:
    """What the view lacks: the booking, or only its quota."""
    reservations = front.services.reservations
    if answer.state is not None and answer.state is not State.RETIRED:
        quota = await reservations.quota(answer.quota)
        if quota is None:  # the ledger has it and the view does not yet
            raise Refused(problem_catalogue.RECOVERING)
        return _found_live(front, reservation_id, show, answer, quota)
    booking = await reservations.past_booking(reservation_id)
    quota = await reservations.quota(booking.quota) if booking else None
    if booking is None or quota is None:
        raise Refused(problem_catalogue.NOT_FOUND)
    return show(_Reservation(reservation_id, PAST_STATUSES.get(booking.state, "confirmed"), booking.places, quota, 0))


def show(front: Front, request: Request) -> Pending:
    """`GET /v1/reservations/{id}`."""
    return _with_found(front, request, partial(_shown, front))


def _shown(front: Front, reservation: _Reservation) -> Answer:
    terms = reservation.quota.terms
    body = ReservationBody(
        id=reservation.id,
        status=reservation.status,
        quota=reservation.quota.id,
        places=reservation.places,
        office=terms.office,
        service=terms.service,
        channel=terms.channel,
        date=terms.date,
        start=terms.start,
        end=terms.end,
    )
    if reservation.hold_expires_at_ms:
        body.hold_expires_at = moment(reservation.hold_expires_at_ms)
    if reservation.is_booked:
        body.booking_code = front.services.reservations.booking_code(reservation.id)
    return _answer(body)


def confirm(front: Front, request: Request) -> Pending:
    """`POST /v1/reservations/{id}/confirm`: 200 once it is recorded, else 202."""
    reservation_id = _managed(front, request)
    payment_reference = read_confirm(json_body(request, required=False))
    pending = Pending()

    def on_change(result: Change | ReservasiError) -> None:
        if isinstance(result, ReservasiError):
            pending.settle(result)
        else:
            pending.resolve(partial(_confirmed, front, request, reservation_id, payment_reference), result)

    pending.work = front.services.reservations.enqueue_confirm(reservation_id, payment_reference, on_change)
    return pending


def _confirmed(front: Front, request: Request, reservation_id: str, payment_reference: str, change: Change) -> Reply:
    reservations, outcome = front.services.reservations, change.answer.outcome
    if outcome in ACCEPTED:
        confirmed = ConfirmedBody(id=reservation_id, booking_code=reservations.booking_code(reservation_id))
        return _accepted(change, confirmed, ConfirmingBody(id=reservation_id))
    if outcome is Outcome.EXISTS_WITH_DIFFERENT_CONTENT:
        raise Refused(problem_catalogue.PAYMENT_REFERENCE_DIFFERS)
    if outcome is Outcome.HOLD_EXPIRED:
        raise Refused(problem_catalogue.HOLD_EXPIRED)
    if outcome is Outcome.NOT_HELD:
        raise _wrong_state(problem_catalogue.NOT_CONFIRMABLE, change.answer.state)
    return later(request.trace, _confirmed_in_the_past(front, reservation_id, payment_reference))


async def _confirmed_in_the_past(front: Front, reservation_id: str, payment_reference: str) -> Answer:
    reservations = front.services.reservations
    booking = await reservations.past_booking(reservation_id)
    if booking is None:
        raise Refused(problem_catalogue.NOT_FOUND)
    if payment_reference and not same_reference(payment_reference, booking.payment_reference):
        raise Refused(problem_catalogue.PAYMENT_REFERENCE_DIFFERS)
    return _answer(ConfirmedBody(id=reservation_id, booking_code=reservations.booking_code(reservation_id)))


@in_task
async def cancel(front: Front, request: Request) -> Answer:
    """`POST /v1/reservations/{id}/cancel`: releases a hold, or cancels a confirmed reservation; 202 as above."""
    require_whole(request)
    reservation_id = _managed(front, request)
    return await answer_ended(front.services, reservation_id, await front.services.reservations.cancel(reservation_id))


async def answer_ended(services: FrontServices, reservation_id: str, change: Change) -> Answer:
    """The answer to a cancellation by the person or by staff."""
    answer = change.answer
    if answer.outcome in ACCEPTED and answer.state is State.RELEASED:
        released = EndedBody(id=reservation_id, status="released")
        return _accepted(change, released, EndingBody(id=reservation_id, status="releasing"))
    if answer.outcome in ACCEPTED and answer.state is State.CANCELLED:
        cancelled = EndedBody(id=reservation_id, status="cancelled")
        return _accepted(change, cancelled, EndingBody(id=reservation_id, status="cancelling"))
    if answer.outcome is Outcome.HOLD_EXPIRED:
        raise _wrong_state(problem_catalogue.ALREADY_ENDED, State.EXPIRED)
    past = await services.reservations.past_booking(reservation_id) if answer.outcome is Outcome.NOT_FOUND else None
    if answer.outcome is Outcome.TOO_LATE or past is not None:
        is_over = past is not None or answer.state is State.RETIRED
        raise await cancellation_refusals.too_late(services, past.quota if past else answer.quota, is_over=is_over)
    raise Refused(UNKNOWN_RESERVATION)


def _accepted(change: Change, recorded: msgspec.Struct, on_its_way: msgspec.Struct) -> Answer:
    """200 once it is recorded; else 202, and the same request asks again."""
    if change.recorded:
        return _answer(recorded)
    return _answer(on_its_way, 202, {hdrs.RETRY_AFTER: retry_after()})


def _wrong_state(kind: ProblemType, state: State | None) -> Refused:
    if state is None:
        return Refused(kind)
    return Refused(kind, members={"state": state.value}, words={"state": _STATE_WORDS[state]})


# -- documents ---------------------------------------------------------------------------------------------------


def _require_booked(reservation: _Reservation) -> None:
    if not (reservation.is_booked or reservation.status == "confirming"):
        raise _wrong_state(problem_catalogue.NOT_CONFIRMED, _STATE_OF[reservation.status])


def _document(body: bytes, content_type: str) -> Answer:
    return Answer(200, {hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: NO_STORE}, body)


def qr(front: Front, request: Request) -> Pending:
    """`GET /v1/reservations/{id}/qr.svg`: the booking code for the scanner at the counter."""

    def show(reservation: _Reservation) -> Answer:
        _require_booked(reservation)
        return _document(qr_svg(front.services.reservations.booking_code(reservation.id)), "image/svg+xml")

    return _with_found(front, request, show)


def ticket(front: Front, request: Request) -> Pending:
    """`GET /v1/reservations/{id}/ticket.ics`: the appointment for a calendar."""

    def show(reservation: _Reservation) -> Answer:
        _require_booked(reservation)
        program = front.services.catalogue.program(program_of(reservation.quota.id))
        if program is None:
            raise Refused(problem_catalogue.RECOVERING)
        booking_code = front.services.reservations.booking_code(reservation.id)
        calendar = ticket_ics(reservation.id, booking_code, reservation.quota, program, request.language)
        return _document(calendar, "text/calendar; charset=utf-8")

    return _with_found(front, request, show)
