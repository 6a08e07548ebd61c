"""Details of refused claims: which applicant has a reservation, and which window is over."""

import datetime as dt
from contextlib import suppress

import msgspec

from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import CLOSED, DUPLICATE_APPLICANT
from reservasi.front.api.problems import Refused
from reservasi.front.services import FrontServices
from reservasi.front.views.availability import local_moment
from reservasi.model import Answer, Quota
from reservasi.programs import program_of
from reservasi.programs.openings import instant, window_end_ms
from reservasi.programs.program import Program

_WHICH_ONE = msgspec.structs.replace(
    DUPLICATE_APPLICANT,
    detail=Text(
        "Pemohon ke-{number} (`{pointer}`) masih memiliki reservasi yang berlaku pada program ini.",
        "Applicant {number} (`{pointer}`) already has a live reservation in this program.",
    ),
)
_OVER = msgspec.structs.replace(
    CLOSED,
    title=Text("Sudah lewat", "Over"),
    detail=Text("Waktu kuota ini sudah lewat: {window}.", "The time of this quota is over: it was {window}."),
    next=Text("Silakan pilih waktu lain dari GET /v1/availability.", "Choose another time from GET /v1/availability."),
)
_CLOSED_AT = msgspec.structs.replace(
    CLOSED,
    detail=Text(
        "Pemesanan daring untuk jadwal ini ditutup pada {closed_at}.", "Booking for this time closed at {closed_at}."
    ),
)


def duplicate(answer: Answer) -> Refused:
    """The refusal of a group with a live reservation: names the applicant by position, never by number."""
    if not answer.applicant:  # an older version of the ledger functions, while fronts are replaced
        return Refused(DUPLICATE_APPLICANT)
    pointer, number = f"/applicants/{answer.applicant - 1}", str(answer.applicant)
    words = {"pointer": Text(pointer, pointer), "number": Text(number, number)}
    return Refused(_WHICH_ONE, members={"applicant": pointer}, words=words)


def closed(services: FrontServices, quota: Quota) -> Refused:
    """The refusal of a quota without bookings: its time is over, booking has ended, or staff closed it."""
    refused = over(services, quota.id, quota)
    if refused is not None:
        return refused
    program, closes_at_ms = program_of(quota.id), quota.terms.closes_at_ms
    if quota.terms.closed or not 0 < closes_at_ms <= services.availability.now_ms(program):
        return Refused(CLOSED)
    at = local_moment(services, program, closes_at_ms)
    return Refused(_CLOSED_AT, words={"closed_at": Text(at, at)})


def over(services: FrontServices, quota_id: str, quota: Quota | None) -> Refused | None:
    """The refusal of a claim whose window is over; for a quota that has left the ledger by its id."""
    program = services.catalogue.program(program_of(quota_id))
    window = None if program is None else _window(program, quota_id, quota)
    if window is None or window[1] > services.availability.now_ms(program_of(quota_id)):
        return None
    return Refused(_OVER, words={"window": Text(window[0], window[0])})


def _window(program: Program, quota_id: str, quota: Quota | None) -> tuple[str, int] | None:
    """The window in words and its end in milliseconds; None if the end is unknown."""
    with suppress(ValueError):
        if quota is not None:
            terms = quota.terms
            ends_at_ms = window_end_ms(terms.date, terms.start, terms.end, program.zone)
            return f"{terms.date} {terms.start}-{terms.end}", ends_at_ms
        _, _, _, day, start, _ = quota_id.split(".")
        begins = instant(dt.date.fromisoformat(day), f"{start[:2]}:{start[2:]}", program.zone)
        return f"{begins:%Y-%m-%d %H:%M %Z}", int(begins.timestamp() * 1000)
    return None
