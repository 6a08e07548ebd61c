"""`PATCH /v1/staff/openings/{id}`: moves an opening or its end, or cancels it; the ledger decides."""

import msgspec
from aiohttp import hdrs

from reservasi.front.api import problem_catalogue
from reservasi.front.api.answers import Answer, in_task, json_answer
from reservasi.front.api.languages import Text
from reservasi.front.api.not_found import NOT_CREATED
from reservasi.front.api.problems import Finding, Refused
from reservasi.front.api.request import Request
from reservasi.front.api.waiting_bodies import OpeningStateBody
from reservasi.front.api.waiting_problems import (
    OPENING_EXISTS,
    OPENING_FIXED,
    QUOTA_CLOSES_BEFORE,
    TOO_MANY_QUOTAS,
)
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.staff_keys import require_program, require_staff
from reservasi.front.handlers.staff_quotas import if_match_versions, of_any_version
from reservasi.front.handlers.waiting_room import find_opening, known_opening
from reservasi.front.reading.opening_requests import read_move
from reservasi.front.reading.request_parts import json_body
from reservasi.front.services import FrontServices
from reservasi.front.views.opening_reasons import cancelled_members, said_of_moves
from reservasi.front.views.openings import opening_places, opening_state
from reservasi.front.views.quota_json import moment
from reservasi.logs import get_logger
from reservasi.model import Answer as LedgerAnswer
from reservasi.model import MoveOpening, Opening, Outcome, StaffScope
from reservasi.waiting_room.creation import move_until_last_closing
from reservasi.waiting_room.state import ends_at_ms

log = get_logger()

_WHY = {
    Outcome.OPENING_CANCELLED: Text("pembukaan ini dibatalkan.", "it was cancelled."),
    Outcome.CLOSED: Text("pembukaan ini sudah berakhir.", "it has ended."),
    Outcome.TOO_LATE: Text("pembukaan ini sudah dibuka.", "it has opened."),
}
_PAST = Text(
    "Waktu yang baru sudah lewat, atau pembukaan akan berakhir sebelum dibuka.",
    "The new moment has passed, or it would end before it opens.",
)


@in_task
async def move(front: Front, request: Request) -> Answer:
    """`PATCH /v1/staff/openings/{id}`: its quotas follow in the same step; tickets, seed and commitment stay."""
    staff = await require_staff(front, request, StaffScope.OPENINGS)
    services = front.services
    versions = if_match_versions(request)
    command = read_move(json_body(request), request.parameters["id"], versions[0], staff.actor)
    program, opening = await find_opening(services, command.opening)
    require_program(staff, program)
    opening = await not_ended(services, program, opening)
    places = opening_places(services, program, opening, services.availability.now_ms(program))
    command = move_until_last_closing(command, opening, places)
    answer = await of_any_version(
        versions,
        lambda version: services.waiting_room.set_opening(program, msgspec.structs.replace(command, version=version)),
    )
    named = {"actor": command.actor, "reason": command.reason}
    log.info("opening_changed", opening=command.opening, outcome=answer.outcome, **named)
    if answer.outcome not in (Outcome.OPENING_SET, Outcome.EXISTS):
        raise refused_move(opening, command, answer)
    await services.availability.complete(program)
    _, opening = known_opening(services, command.opening)
    return json_answer(
        msgspec.json.encode(_body(services, program, opening)), headers={hdrs.ETAG: f'"{answer.version}"'}
    )


async def not_ended(services: FrontServices, program: str, opening: Opening) -> Opening:
    """The opening as it is now, after a wait until the view is complete.

    The ledger decides by the opening's own end and does not look at its quotas, which may all close earlier.

    Raises:
        Refused: it has ended.
    """
    await services.availability.complete(program)
    _, opening = known_opening(services, opening.id)
    if opening_state(services, program, opening, services.availability.now_ms(program)) == "ended":
        raise fixed(opening, Outcome.CLOSED)
    return opening


def refused_move(opening: Opening, command: MoveOpening, answer: LedgerAnswer) -> Refused:
    """The HTTP refusal of the ledger's refusal."""
    members: dict[str, object] = {"opening": opening.id}
    match answer.outcome:
        case Outcome.VERSION_MISMATCH:
            return Refused(problem_catalogue.VERSION_MISMATCH, members={"version": answer.version})
        case Outcome.MOMENT_INVALID:
            pointer = "/opens_at" if command.ends_at_ms is None else "/ends_at"
            return Refused(problem_catalogue.INVALID_REQUEST, findings=(Finding(pointer, "moment-invalid", _PAST),))
        case Outcome.MOMENT_TAKEN:
            return Refused(
                OPENING_EXISTS, members={"quota": answer.quota} if answer.quota else {"opening": answer.opening}
            )
        case Outcome.QUOTA_CLOSES:
            return Refused(QUOTA_CLOSES_BEFORE, members={**members, "quota": answer.quota})
        case Outcome.TOO_MANY_QUOTAS:
            return Refused(TOO_MANY_QUOTAS, members=members)
        case Outcome.OPENING_CANCELLED | Outcome.CLOSED | Outcome.TOO_LATE:
            return fixed(opening, answer.outcome)
        case _:
            return Refused(NOT_CREATED)


def fixed(opening: Opening, outcome: Outcome) -> Refused:
    """The refusal of a change to an opening that is cancelled, has ended or has opened."""
    return Refused(
        OPENING_FIXED, members={"opening": opening.id, **cancelled_members(opening)}, words={"why": _WHY[outcome]}
    )


def _body(services: FrontServices, program: str, opening: Opening) -> OpeningStateBody:
    terms, now_ms = opening.terms, services.availability.now_ms(program)
    body = OpeningStateBody(
        id=opening.id,
        state=opening_state(services, program, opening, now_ms),
        opens_at=moment(terms.opens_at_ms),
        joins_from=moment(terms.joins_from_ms),
        ends_at=moment(ends_at_ms(opening, opening_places(services, program, opening, now_ms))),
        cancelled=opening.cancelled,
        joined=opening.joined,
        arrived=opening.arrived,
        revision=opening.revision,
        version=opening.version,
    )
    return said_of_moves(opening, body)
