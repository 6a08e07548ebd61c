"""The life of a reservation over HTTP: claim, look up, confirm, cancel, and its documents."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from aiohttp import hdrs, web

from reservasi.contents import same_reference
from reservasi.front import claim_refusals, problem_types
from reservasi.front.admissions import check_ticket, may_be_outdated
from reservasi.front.bodies import (
    ClaimedBody,
    ConfirmedBody,
    ConfirmingBody,
    EndedBody,
    EndingBody,
    ReservationBody,
    ReservationStatus,
)
from reservasi.front.documents import qr_svg, ticket_ics
from reservasi.front.encoding import moment
from reservasi.front.keys import MEMORY, RATES, SERVICES, FrontServices
from reservasi.front.languages import Text, negotiate
from reservasi.front.memory import Memory
from reservasi.front.not_found import UNKNOWN_RESERVATION
from reservasi.front.not_open import not_open
from reservasi.front.opening_reasons import refused_as_cancelled
from reservasi.front.problem_type import ProblemType
from reservasi.front.problems import Refused, problem_response, retry_after
from reservasi.front.requests import bearer, read_body
from reservasi.front.validation import ClaimBodyReader, idempotency_key, read_confirm
from reservasi.front.views import local_moment, sold_out_body
from reservasi.model import APPLICANTS_MAX, Answer, Outcome, Quota, State
from reservasi.programs import program_of
from reservasi.reservations import ACCEPTED, Change, ClaimRequest

NO_STORE = "no-store"
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
# What is said of a state until the records have it, by the calls that lead to it and by GET.
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


def _answer(body: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: NO_STORE, **(headers or {})},
    )


# -- claim -------------------------------------------------------------------------------------------------------


async def claim(request: web.Request) -> web.Response:
    """`POST /v1/reservations`: the path that must stay short."""
    services = request.app[SERVICES]
    key = idempotency_key(request.headers.getall("Idempotency-Key", []))
    reader = ClaimBodyReader(await read_body(request))
    program = await services.catalogue.look_up(program_of(reader.quota))
    wanted = reader.read(program.policies.applicants_max if program else APPLICANTS_MAX, key)
    quota = await _claimable(services, wanted.quota)
    persons = services.reservations.persons(wanted)
    request.app[RATES].check_people(persons)
    refused = check_ticket(services, request.app[MEMORY], wanted, persons, quota)
    if refused is not None and may_be_outdated(services, refused, program_of(quota.id)):
        await _complete(services, program_of(quota.id))
        refused = check_ticket(services, request.app[MEMORY], wanted, persons, quota)
    if refused is not None and not await services.reservations.is_replay(wanted, persons):
        return _refused_claim(request, refused, quota, len(persons))
    reservation_id, answer = await services.reservations.claim(wanted)
    if answer.outcome in (Outcome.HELD, Outcome.EXISTS):
        return _claimed(services, reservation_id, wanted, answer)
    return _refused_claim(request, claim_refusal(services, request.app[MEMORY], quota, answer), quota, len(persons))


def _refused_claim(request: web.Request, refused: Refused, quota: Quota, places: int) -> web.Response:
    body = None
    if refused.kind is problem_types.SOLD_OUT:
        language = negotiate(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
        body = sold_out_body(request.app[SERVICES], request.app[MEMORY], quota, places, language)
    return problem_response(request, refused, body)


async def _complete(services: FrontServices, program: str) -> None:
    """Wait until memory has all that whoever asks may have heard from another front."""
    await services.availability.complete(program)
    if not services.availability.knows(program):
        raise Refused(problem_types.RECOVERING)


async def _claimable(services: FrontServices, quota_id: str) -> Quota:
    """The quota as memory knows it; refuses what no claim of the public can get, without asking the ledger."""
    program = services.catalogue.program(program_of(quota_id))
    if program is None:
        raise Refused(problem_types.UNKNOWN_QUOTA if services.catalogue.loaded else problem_types.RECOVERING)
    if not services.availability.knows(program.id):
        raise Refused(problem_types.RECOVERING)
    quota = services.availability.quota(quota_id)
    if quota is None:
        await _complete(services, program.id)
        quota = services.availability.quota(quota_id)
    if quota is None and services.availability.is_damaged(quota_id):
        raise Refused(problem_types.RECOVERING)
    if quota is None:
        raise claim_refusals.over(services, quota_id, None) or Refused(problem_types.UNKNOWN_QUOTA)
    if not services.catalogue.is_public(quota):
        raise Refused(problem_types.CLOSED)
    return quota


def plain_quota(services: FrontServices, wanted: ClaimRequest) -> Quota | None:
    """The quota of a well-formed request that can be judged by ticket and ledger; where None, `claim` says why."""
    program = services.catalogue.program(program_of(wanted.quota))
    if program is None or len(wanted.applicants) > program.policies.applicants_max:
        return None
    quota = services.availability.quota(wanted.quota)
    if quota is None or not services.availability.knows(program.id) or not services.catalogue.is_public(quota):
        return None
    return quota


def _claimed(services: FrontServices, reservation_id: str, wanted: ClaimRequest, answer: Answer) -> web.Response:
    headers: dict[str, str] = {hdrs.LOCATION: f"/v1/reservations/{reservation_id}"}
    if is_replay(answer):
        headers[IDEMPOTENT_REPLAYED] = "true"
    return _answer(claimed_body(services, reservation_id, wanted, answer), 201, headers)


def is_replay(answer: Answer) -> bool:
    """Whether the caller had this answer before."""
    # A batch that was sent twice finds its own first try: for the person it is the first answer.
    return answer.outcome is Outcome.EXISTS and not answer.retried


def claimed_body(services: FrontServices, reservation_id: str, wanted: ClaimRequest, answer: Answer) -> ClaimedBody:
    """What a person learns about their hold."""
    return ClaimedBody(
        id=reservation_id,
        quota=wanted.quota,
        places=len(wanted.applicants),
        hold_expires_at=moment(answer.deadline_ms),
        manage_token=services.reservations.manage_token(reservation_id),
    )


_CLAIM_REFUSALS = {
    Outcome.EXISTS_WITH_DIFFERENT_CONTENT: problem_types.IDEMPOTENCY_KEY_REUSED,
    Outcome.UNKNOWN_QUOTA: problem_types.UNKNOWN_QUOTA,
    Outcome.SOLD_OUT: problem_types.SOLD_OUT,
}


def claim_refusal(services: FrontServices, memory: Memory, quota: Quota, answer: Answer) -> Refused:
    """What an outcome that gives no places means over HTTP; `sold-out` needs more and has its own body."""
    if answer.outcome is Outcome.DUPLICATE_APPLICANT:
        return claim_refusals.duplicate(answer)
    if answer.outcome is Outcome.NOT_OPEN:
        over = claim_refusals.over(services, quota.id, quota)
        return over or not_open(services, memory, quota, answer.opens_at_ms)
    opening = services.availability.opening_of(quota) if answer.outcome is Outcome.CLOSED else None
    if opening is not None and opening.cancelled:
        return refused_as_cancelled(opening)
    if answer.outcome is Outcome.CLOSED:
        return claim_refusals.closed(services, quota)
    return Refused(_CLAIM_REFUSALS[answer.outcome])


# -- with the manage token ---------------------------------------------------------------------------------------


def _managed(request: web.Request) -> str:
    """The reservation of the path, once the bearer secret has been proved; else there is nothing to see."""
    reservation_id = request.match_info["id"]
    token = bearer(request)
    if not (token and _RESERVATION_ID.fullmatch(reservation_id)):
        raise Refused(problem_types.NOT_FOUND)
    if not request.app[SERVICES].reservations.holds_manage_token(reservation_id, token):
        raise Refused(problem_types.NOT_FOUND)
    return reservation_id


class _Found(NamedTuple):
    """What a person may know of their reservation."""

    status: ReservationStatus
    places: int
    quota: Quota
    hold_expires_at_ms: int  # 0: it is not held

    @property
    def is_booked(self) -> bool:
        return self.status == "confirmed" or self.status in PAST_STATUSES


async def _found(services: FrontServices, reservation_id: str) -> _Found:
    """From the ledger; from the records where the date has passed."""
    answer = await services.reservations.find(reservation_id)
    state = answer.state
    if state is None or state is State.RETIRED:
        return await _past(services, reservation_id)
    quota = await services.reservations.quota(answer.quota)
    if quota is None:  # the ledger knows it and memory does not yet
        raise Refused(problem_types.RECOVERING)
    status = _STATUS[state]
    if state in _ON_ITS_WAY and not await services.reservations.is_recorded(reservation_id, answer):
        status = _ON_ITS_WAY[state]
    return _Found(status, answer.places, quota, answer.deadline_ms if state is State.HELD else 0)


async def _past(services: FrontServices, reservation_id: str) -> _Found:
    booking = await services.reservations.past_booking(reservation_id)
    quota = await services.reservations.quota(booking.quota) if booking else None
    if booking is None or quota is None:
        raise Refused(problem_types.NOT_FOUND)
    return _Found(PAST_STATUSES.get(booking.state, "confirmed"), booking.places, quota, 0)


async def show(request: web.Request) -> web.Response:
    """`GET /v1/reservations/{id}`."""
    reservation_id = _managed(request)
    services = request.app[SERVICES]
    found = await _found(services, reservation_id)
    terms = found.quota.terms
    body = ReservationBody(
        id=reservation_id,
        status=found.status,
        quota=found.quota.id,
        places=found.places,
        office=terms.office,
        service=terms.service,
        channel=terms.channel,
        date=terms.date,
        start=terms.start,
        end=terms.end,
    )
    if found.hold_expires_at_ms:
        body.hold_expires_at = moment(found.hold_expires_at_ms)
    if found.is_booked:
        body.booking_code = services.reservations.booking_code(reservation_id)
    return _answer(body)


async def confirm(request: web.Request) -> web.Response:
    """`POST /v1/reservations/{id}/confirm`: 200 once it is in the records, else 202."""
    reservation_id = _managed(request)
    reservations = request.app[SERVICES].reservations
    payment_reference = read_confirm(await read_body(request, required=False))
    change = await reservations.confirm(reservation_id, payment_reference)
    outcome = change.answer.outcome
    if outcome in ACCEPTED:
        confirmed = ConfirmedBody(id=reservation_id, booking_code=reservations.booking_code(reservation_id))
        return _accepted(change, confirmed, ConfirmingBody(id=reservation_id))
    if outcome is Outcome.EXISTS_WITH_DIFFERENT_CONTENT:
        raise Refused(problem_types.PAYMENT_REFERENCE_DIFFERS)
    if outcome is Outcome.HOLD_EXPIRED:
        raise Refused(problem_types.HOLD_EXPIRED)
    if outcome is Outcome.NOT_HELD:
        raise _wrong_state(problem_types.NOT_CONFIRMABLE, change.answer.state)
    booking = await reservations.past_booking(reservation_id)
    if booking is None:
        raise Refused(problem_types.NOT_FOUND)
    if payment_reference and not same_reference(payment_reference, booking.payment_reference):
        raise Refused(problem_types.PAYMENT_REFERENCE_DIFFERS)
    return _answer(ConfirmedBody(id=reservation_id, booking_code=reservations.booking_code(reservation_id)))


async def cancel(request: web.Request) -> web.Response:
    """`POST /v1/reservations/{id}/cancel`: gives a hold up, or ends a confirmed reservation; 202 as above."""
    reservation_id = _managed(request)
    services = request.app[SERVICES]
    return await answer_ended(services, reservation_id, await services.reservations.cancel(reservation_id))


async def answer_ended(services: FrontServices, reservation_id: str, change: Change) -> web.Response:
    """The answer to a cancellation, whoever asked for it."""
    answer = change.answer
    if answer.outcome in ACCEPTED and answer.state is State.RELEASED:
        released = EndedBody(id=reservation_id, status="released")
        return _accepted(change, released, EndingBody(id=reservation_id, status="releasing"))
    if answer.outcome in ACCEPTED and answer.state is State.CANCELLED:
        cancelled = EndedBody(id=reservation_id, status="cancelled")
        return _accepted(change, cancelled, EndingBody(id=reservation_id, status="cancelling"))
    if answer.outcome is Outcome.HOLD_EXPIRED:
        raise _wrong_state(problem_types.ALREADY_ENDED, State.EXPIRED)
    past = await services.reservations.past_booking(reservation_id) if answer.outcome is Outcome.NOT_FOUND else None
    if answer.outcome is Outcome.TOO_LATE or past is not None:
        at = await _cancel_until(services, past.quota if past else answer.quota)
        raise Refused(problem_types.CANCELLATION_TOO_LATE, words={"cancel_until": Text(at, at)})
    raise Refused(UNKNOWN_RESERVATION)


async def _cancel_until(services: FrontServices, quota_id: str) -> str:
    """The last moment for a cancellation; where the program sets none, the date that has passed."""
    quota = await services.reservations.quota(quota_id)
    if quota is None:
        return "…"
    if not quota.terms.cancel_until_ms:
        return f"{quota.terms.date} {quota.terms.start}"
    return local_moment(services, program_of(quota.id), quota.terms.cancel_until_ms)


def _accepted(change: Change, recorded: msgspec.Struct, on_its_way: msgspec.Struct) -> web.Response:
    """200 once the records have it; else 202, and the same request asks again."""
    if change.recorded:
        return _answer(recorded)
    return _answer(on_its_way, 202, {hdrs.RETRY_AFTER: retry_after()})


def _wrong_state(kind: ProblemType, state: State | None) -> Refused:
    if state is None:
        return Refused(kind)
    return Refused(kind, members={"state": state.value}, words={"state": _STATE_WORDS[state]})


# -- documents ---------------------------------------------------------------------------------------------------


async def _booked_quota(request: web.Request, reservation_id: str) -> Quota:
    found = await _found(request.app[SERVICES], reservation_id)
    if not (found.is_booked or found.status == "confirming"):
        raise _wrong_state(problem_types.NOT_CONFIRMED, _STATE_OF[found.status])
    return found.quota


def _document(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: NO_STORE})


async def qr(request: web.Request) -> web.Response:
    """`GET /v1/reservations/{id}/qr.svg`: the booking code for the counter's scanner."""
    reservation_id = _managed(request)
    await _booked_quota(request, reservation_id)
    booking_code = request.app[SERVICES].reservations.booking_code(reservation_id)
    return _document(qr_svg(booking_code), "image/svg+xml")


async def ticket(request: web.Request) -> web.Response:
    """`GET /v1/reservations/{id}/ticket.ics`: the appointment for a calendar."""
    reservation_id = _managed(request)
    services = request.app[SERVICES]
    quota = await _booked_quota(request, reservation_id)
    program = services.catalogue.program(program_of(quota.id))
    if program is None:
        raise Refused(problem_types.RECOVERING)
    language = negotiate(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    booking_code = services.reservations.booking_code(reservation_id)
    calendar = ticket_ics(reservation_id, booking_code, quota, program, language)
    return _document(calendar, "text/calendar; charset=utf-8")
