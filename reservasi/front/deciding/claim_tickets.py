"""Decides whether a claim may be made now: the waiting-room ticket, its person and its number.

Needs no call: signature and draw are computed, and the mark is in the view. A lagging view has a lower mark than the
ledger, so that it may delay a person for a moment, but never admits too early. A refusal from a lagging view is checked
again once the view contains everything that the person may have learnt.
"""

import msgspec

from reservasi import quota_state
from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import SOLD_OUT
from reservasi.front.api.problems import Refused
from reservasi.front.api.waiting_problems import NOT_ADMITTED, WAITING_ROOM_REQUIRED
from reservasi.front.deciding.claim_refusals import closed, over
from reservasi.front.deciding.not_open import not_open
from reservasi.front.deciding.wanted_claim import Wanted
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache
from reservasi.model import Opening
from reservasi.waiting_room.room import ended
from reservasi.waiting_room.state import is_paused_from_the_beginning
from reservasi.waiting_room.tickets import TicketInvalid

_PAUSED = msgspec.structs.replace(
    NOT_ADMITTED,
    detail=Text(
        "Pembukaan ini dijeda oleh petugas sebelum dibuka; belum ada nomor yang dapat memesan.",
        "Staff paused this opening before it opened; no number may claim yet.",
    ),
)
_WHY = {
    "ticket-missing": Text("Tiket tidak disertakan.", "The ticket is missing."),
    "ticket-invalid": Text(
        "Tiket ini tidak diterbitkan oleh layanan ini, atau telah diubah.",
        "The ticket was not issued here, or was altered.",
    ),
    "ticket-for-other-opening": Text("Tiket ini untuk pembukaan lain.", "The ticket is for another opening."),
    "ticket-for-other-person": Text("Tiket ini milik orang lain.", "The ticket belongs to another person."),
}


def check_ticket(services: FrontServices, cache: AnswerCache, wanted: Wanted) -> Refused | None:
    """Why the claim may not be made now; None if the ledger decides.

    Refusals that hold for everybody come first: closed, not open yet, and sold out, whose body the caller builds.
    """
    quota = wanted.quota
    opening = services.availability.opening_of(quota)
    if opening is None or opening.cancelled or not opening.terms.waiting_room:
        return None
    now_ms = services.availability.now_ms(wanted.program)
    refused = _judge(services, opening, wanted, now_ms)
    if refused is None:
        return None
    # Decided here, not in the ledger: by its clock it may have opened meanwhile, and it does not check tickets.
    state = quota_state.state_of(quota, now_ms)
    if state == "closed":
        return closed(services, quota)
    if state == "not-open":
        has_joined = refused.kind.name == NOT_ADMITTED.name
        return over(services, quota.id, quota) or not_open(
            services, cache, quota, quota.terms.opens_at_ms, has_joined=has_joined
        )
    return Refused(SOLD_OUT) if quota.remaining < len(wanted.persons) else refused


def may_be_outdated(services: FrontServices, refused: Refused, program: str) -> bool:
    """Whether another front may have told the person otherwise: about a mark always, about all else for a moment."""
    return refused.kind.name == NOT_ADMITTED.name or not services.availability.is_fresh(program)


def _judge(services: FrontServices, opening: Opening, wanted: Wanted, now_ms: int) -> Refused | None:
    room = services.waiting_room
    if ended(opening, now_ms):  # anyone may claim: tickets no longer matter
        return None
    if not wanted.claim.ticket:
        return _required(opening, "ticket-missing")
    try:
        ticket = wanted.ticket(room)
    except TicketInvalid:
        return _required(opening, "ticket-invalid")
    program = wanted.program
    if (ticket.program, ticket.opening) != (program, opening.id):
        return _required(opening, "ticket-for-other-opening")
    if ticket.id not in [room.ticket_id(program, opening.id, person) for person in wanted.persons]:
        return _required(opening, "ticket-for-other-person")
    number = room.number_of(ticket, opening, now_ms)
    is_held_back = is_paused_from_the_beginning(opening)
    if opening.drawn and number is not None and number <= opening.admitted_through and not is_held_back:
        return None
    members = {"opening": opening.id, "number": number, "admitted_through": opening.admitted_through}
    return Refused(_PAUSED if is_held_back else NOT_ADMITTED, members=members)


def _required(opening: Opening, reason: str) -> Refused:
    members = {"opening": opening.id, "reason": reason}
    return Refused(WAITING_ROOM_REQUIRED, members=members, words={"why": _WHY[reason]})
