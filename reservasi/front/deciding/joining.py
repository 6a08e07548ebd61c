"""The policy of joining a waiting room: what is refused, in which order, and what the ledger decides.

A request is well formed and its opening known before it comes here. Then: the caller's network, refusals from memory
that hold for everybody (cancelled, over, closed, not begun, sold out), the person's rate, overload, and the proof of
work, which is the most expensive check.
"""

import time

import msgspec

from reservasi.errors import Overloaded
from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import CLOSED, SOLD_OUT
from reservasi.front.api.problems import Refused
from reservasi.front.api.waiting_problems import (
    JOINING_CLOSED,
    NO_WAITING_ROOM,
    PROOF_OF_WORK_INVALID,
    PROOF_OF_WORK_REQUIRED,
)
from reservasi.front.deciding.front_context import Front
from reservasi.front.deciding.not_open import joining_not_open
from reservasi.front.deciding.rate_limits import too_often
from reservasi.front.reading.opening_requests import JoinRequest
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache
from reservasi.front.views.opening_reasons import refused_as_cancelled
from reservasi.front.views.openings import next_members, opening_places
from reservasi.model import Join, Opening
from reservasi.waiting_room.challenges import ProofInvalid
from reservasi.waiting_room.state import end_ms

_NO_PLACE_LEFT = msgspec.structs.replace(
    SOLD_OUT,
    detail=Text(
        "Semua tempat pada pembukaan ini sudah terisi; saat ini ruang tunggunya tidak dapat dimasuki.",
        "All places of this opening are taken; nobody can join its waiting room now.",
    ),
    next=Text(
        "Lihat pembukaan lain di GET /v1/openings; yang berikutnya, jika ada, tercantum dalam `next_openings`. Tempat "
        "dapat tersedia kembali karena pembatalan atau batas waktu yang lewat: masuklah ke ruang tunggu setelah "
        "`state` di GET /v1/openings/{id}/queue kembali `open`.",
        "See other openings at GET /v1/openings; `next_openings` lists the next ones, if there are any. Places may "
        "come back when somebody cancels or a hold expires: join once `state` at GET /v1/openings/{id}/queue is "
        "`open` again.",
    ),
)
_ALL_CLOSED = msgspec.structs.replace(
    CLOSED,
    title=Text("Pembukaan ditutup", "The opening is closed"),
    detail=Text(
        "Kantor telah menutup semua tempat pada pembukaan ini; saat ini ruang tunggunya tidak dapat dimasuki.",
        "The office has closed all places of this opening; nobody can join its waiting room now.",
    ),
    next=Text(
        "Lihat pembukaan lain di GET /v1/openings; yang berikutnya, jika ada, tercantum dalam `next_openings`. Jika "
        "kantor membuka kembali tempatnya, `state` di GET /v1/openings/{id}/queue bukan lagi `closed`. Tiket yang "
        "sudah diambil tetap berlaku.",
        "See other openings at GET /v1/openings; `next_openings` lists the next ones, if there are any. If the office "
        "reopens the places, `state` at GET /v1/openings/{id}/queue is no longer `closed`. Tickets already issued "
        "stay valid.",
    ),
)


def decide_join(front: Front, program: str, opening: Opening, wanted: JoinRequest) -> Refused | Join:
    """Decide a join whose caller's network has been counted.

    Raises:
        Overloaded: too many claims and joins wait.
    """
    refused = refused_for_all(front, program, opening)
    if refused is not None:
        return refused
    room = front.services.waiting_room
    person = room.person(program, wanted.nik)
    wait_s = front.rates.people((person,))
    if wait_s:
        return too_often("person", wait_s)
    needs_proof = opening.terms.proof_of_work
    if needs_proof and not wanted.altcha:
        return Refused(PROOF_OF_WORK_REQUIRED, members={"opening": opening.id})
    if not room.admits_joins(program):
        raise Overloaded("too many joins wait for the ledger")
    ticket_id = room.ticket_id(program, opening.id, person)
    if needs_proof:
        try:
            room.challenges.verify(wanted.altcha, opening.id, int(time.time() * 1000), holder=ticket_id)
        except ProofInvalid:
            return Refused(PROOF_OF_WORK_INVALID, members={"opening": opening.id})
    return Join(opening=opening.id, ticket_id=ticket_id)


def refused_for_all(front: Front, program: str, opening: Opening) -> Refused | None:
    """Why nobody can join now, according to the view; None if the ledger decides."""
    services, cache = front.services, front.cache
    now_ms, terms = services.availability.now_ms(program), opening.terms
    if opening.cancelled:
        return refused_as_cancelled(opening)
    if not terms.waiting_room:
        return Refused(NO_WAITING_ROOM, members={"opening": opening.id})
    places = opening_places(services, program, opening, now_ms)
    if now_ms >= end_ms(opening, places):
        return Refused(JOINING_CLOSED, members={"opening": opening.id})
    if places.closed:
        return all_closed(services, cache, program, opening)
    if now_ms < terms.joins_from_ms:
        return joining_not_open(services, cache, program, opening, terms.joins_from_ms)
    if now_ms >= terms.opens_at_ms and not places.left:
        return Refused(_NO_PLACE_LEFT, members={"opening": opening.id, **next_members(services, cache, program)})
    return None


def all_closed(services: FrontServices, cache: AnswerCache, program: str, opening: Opening) -> Refused:
    """The refusal while all quotas of the opening are closed, which staff may reopen."""
    return Refused(_ALL_CLOSED, members={"opening": opening.id, **next_members(services, cache, program)})
