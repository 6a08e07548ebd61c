"""Whether a claim may be made now: the ticket of the quota's waiting room, its person and its number.

Nothing is asked of anybody: the signature and the draw are arithmetic, and the mark is in the view. A view that lags
knows a lower mark than the ledger has, so it can hold somebody up for a moment and never let one through. Nor does it
know who was let through meanwhile: what it refuses is looked at again once it has all that they may have heard.
"""

from reservasi import quota_state
from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import SOLD_OUT
from reservasi.front.api.problems import Refused
from reservasi.front.api.waiting_problems import NOT_ADMITTED, WAITING_ROOM_REQUIRED
from reservasi.front.deciding.claim_refusals import closed, over
from reservasi.front.deciding.not_open import not_open
from reservasi.front.deciding.wanted_claim import Wanted
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import Memory
from reservasi.model import Opening
from reservasi.waiting_room.room import ended
from reservasi.waiting_room.tickets import TicketInvalid

_WHY = {
    "ticket-missing": Text("Tiketnya tidak ada.", "The ticket is missing."),
    "ticket-invalid": Text("Tiket itu tidak dikeluarkan di sini.", "The ticket was not issued here, or was altered."),
    "ticket-for-other-opening": Text("Tiket itu untuk pembukaan lain.", "The ticket is for another opening."),
    "ticket-for-other-person": Text("Tiket itu milik orang lain.", "The ticket is another person's."),
}


def check_ticket(services: FrontServices, memory: Memory, wanted: Wanted) -> Refused | None:
    """Why the claim may not be made now; None when the ledger is to judge it.

    What holds for everybody comes first: closed, not open yet, and sold out, whose whole body the caller makes.
    """
    quota = wanted.quota
    opening = services.availability.opening_of(quota)
    if opening is None or opening.cancelled or not opening.terms.waiting_room:
        return None
    now_ms = services.availability.now_ms(wanted.program)
    refused = _judge(services, opening, wanted, now_ms)
    if refused is None:
        return None
    # Said here and not left to the ledger: by its clock the opening may have come meanwhile, and it knows no tickets.
    state = quota_state.state_of(quota, now_ms)
    if state == "closed":
        return closed(services, quota)
    if state == "not-open":
        has_joined = refused.kind is NOT_ADMITTED
        return over(services, quota.id, quota) or not_open(
            services, memory, quota, quota.terms.opens_at_ms, has_joined=has_joined
        )
    return Refused(SOLD_OUT) if quota.remaining < len(wanted.persons) else refused


def may_be_outdated(services: FrontServices, refused: Refused, program: str) -> bool:
    """Whether another front may have told the person otherwise: of a mark at any time, of all else for a moment."""
    return refused.kind is NOT_ADMITTED or not services.availability.is_fresh(program)


def _judge(services: FrontServices, opening: Opening, wanted: Wanted, now_ms: int) -> Refused | None:
    room = services.waiting_room
    if ended(opening, now_ms):  # anyone may claim, so a ticket says nothing any more, whatever it is
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
    if opening.drawn and number is not None and number <= opening.admitted_through:
        return None
    members = {"opening": opening.id, "number": number, "admitted_through": opening.admitted_through}
    return Refused(NOT_ADMITTED, members=members)


def _required(opening: Opening, reason: str) -> Refused:
    members = {"opening": opening.id, "reason": reason}
    return Refused(WAITING_ROOM_REQUIRED, members=members, words={"why": _WHY[reason]})
