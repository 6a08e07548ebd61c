"""Staff operations on openings: create one, change its admission, enter the outside value of its draw."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from reservasi.front.api import problem_catalogue
from reservasi.front.api.answers import Answer, in_task, json_answer
from reservasi.front.api.languages import Text
from reservasi.front.api.not_found import NOT_CREATED, nothing_matches, unknown_program
from reservasi.front.api.paths import OPENING_PATH
from reservasi.front.api.problems import Finding, Refused
from reservasi.front.api.request import Request
from reservasi.front.api.waiting_bodies import AdmissionStateBody
from reservasi.front.api.waiting_problems import BEACON_FIXED, NO_WAITING_ROOM, OPENING_EXISTS, OPENING_MOVES_QUOTA
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.cached import unkept
from reservasi.front.handlers.staff_keys import require_program, require_staff
from reservasi.front.handlers.staff_opening_moves import fixed, not_ended
from reservasi.front.handlers.staff_quotas import VIEW_WAIT_S
from reservasi.front.handlers.waiting_room import find_opening, known_opening
from reservasi.front.reading.opening_requests import OpeningRequest, read_admission, read_beacon, read_opening
from reservasi.front.reading.request_parts import json_body
from reservasi.front.services import FrontServices
from reservasi.front.views.availability import require_view
from reservasi.front.views.openings import opening_view
from reservasi.logs import get_logger
from reservasi.model import Answer as LedgerAnswer
from reservasi.model import Opening, OpeningTerms, Outcome, Quota, SetOpening, SetQuota, StaffScope
from reservasi.programs import AnnouncedRule, Program, WaitingRoom
from reservasi.records import StaffRow
from reservasi.waiting_room.creation import free_id, namesakes, new_terms, places_left, until_last_closing

log = get_logger()

AT_ONCE = 500  # quotas moved together; the group commit splits them into batches
_NOTHING_MATCHES = Text(
    "Tidak ada kuota yang sesuai, atau semua kuota ditutup sebelum pembukaan.",
    "No quota matches, or all of them close before it opens.",
)
_ALL_CLOSED = Text(
    "Semua kuota yang sesuai sedang ditutup, sehingga pembukaan ini tidak akan memiliki tempat. Buka kembali kuotanya "
    "terlebih dahulu dengan `opens_at` yang sama.",
    "All matching quotas are closed, so that the opening would have no places. First reopen them, with the same "
    "`opens_at`.",
)
_ENDS_BEFORE = Text(
    "Ruang tunggu berakhir sebelum pembukaan, atau mulai sesudahnya.",
    "The waiting room would end before the opening, or begin after it.",
)


@in_task
async def create(front: Front, request: Request) -> Answer:
    """`POST /v1/staff/openings`: first the opening, then its quotas; repeating it continues an interrupted one."""
    staff = await require_staff(front, request, StaffScope.OPENINGS)
    services = front.services
    wanted = read_opening(json_body(request), services.availability.now_ms())
    require_program(staff, wanted.program)
    require_view(services, wanted.program)
    program = services.catalogue.program(wanted.program)
    if program is None:
        raise unknown_program(services.catalogue, wanted.program)
    await services.availability.complete(program.id)  # so that an opening that another front just created is included
    quotas = _meant(services, wanted)
    if not quotas:
        raise _invalid("", "nothing-matches", nothing_matches(program, wanted.offices, _NOTHING_MATCHES))
    if all(quota.terms.closed for quota in quotas):
        raise _invalid("", "all-closed", _ALL_CLOSED)
    openings = services.availability.openings(program.id)
    elsewhere = await _ids_elsewhere(services, program.id)
    name = wanted.id or free_id(
        program.id, wanted.opens_at_ms, program.zone, wanted.offices, openings, elsewhere=elsewhere
    )
    if name in elsewhere:
        raise Refused(OPENING_EXISTS, members={"opening": name})
    terms = until_last_closing(_terms(services, name, program, wanted), quotas)
    takes = places_left(quotas, wanted.opens_at_ms)
    command = SetOpening(opening=name, terms=terms, takes=takes, actor=staff.actor, reason=wanted.reason)
    answer = await services.waiting_room.set_opening(program.id, command)
    _log_change(command, answer)
    if answer.outcome is Outcome.OF_OPENING:
        raise Refused(OPENING_MOVES_QUOTA, members={"opening": answer.opening})
    if answer.outcome not in (Outcome.OPENING_SET, Outcome.EXISTS):
        raise Refused(OPENING_EXISTS, members=_in_the_way(services, program.id, name, terms))
    moved = [quota.id for quota in quotas if quota.terms.opens_at_ms != wanted.opens_at_ms]
    await _move(services, moved, command, wanted.opens_at_ms)
    await _wait_until_visible(services, lambda: _is_shown(services, program.id, name, moved, wanted.opens_at_ms))
    view = opening_view(services, front.cache, name)
    if view is None:
        raise Refused(problem_catalogue.RECOVERING)
    return await unkept(request, view.body, status=201, location=OPENING_PATH.replace("{id}", name))


def _in_the_way(services: FrontServices, program: str, name: str, terms: OpeningTerms) -> dict[str, str]:
    """The opening that has this id or opens then in one of these offices; empty if it is a single quota."""
    openings = services.availability.openings(program)
    same_id = (each.id for each in openings if each.id == name)
    same_moment = (each.id for each in openings if each.terms.overlaps(terms) and not each.cancelled)
    opening_id = next(itertools.chain(same_id, same_moment), None)
    return {} if opening_id is None else {"opening": opening_id}


async def _ids_elsewhere(services: FrontServices, program: str) -> set[str]:
    """The ids of other programs' openings that one of this program could also have."""
    ids: set[str] = set()
    for other in namesakes(program, (each.id for each in services.catalogue.programs())):
        await services.availability.complete(other)
        ids |= {opening.id for opening in services.availability.openings(other)}
    return ids


def _meant(services: FrontServices, wanted: OpeningRequest) -> list[Quota]:
    """The selected quotas that can still be claimed after the opening."""
    chosen = services.availability.select(
        wanted.program,
        service=wanted.service,
        channel=wanted.channel,
        first=wanted.first,
        last=wanted.last,
    )
    return [
        quota
        for quota in chosen
        if (not wanted.offices or quota.terms.office in wanted.offices)
        and not 0 < quota.terms.closes_at_ms <= wanted.opens_at_ms
    ]


def _terms(services: FrontServices, name: str, program: Program, wanted: OpeningRequest) -> OpeningTerms:
    """The program's rules, with the values of the request."""
    rules = program.opening.waiting_room if isinstance(program.opening, AnnouncedRule) else None
    given = {
        field: value
        for field in ("proof_of_work", "rate_per_min", "rate_max_per_min", "adaptive")
        if (value := getattr(wanted, field)) is not None
    }
    policy = msgspec.structs.replace(rules or WaitingRoom(), **given)
    terms = new_terms(
        services.waiting_room.sealing,
        name,
        wanted.opens_at_ms,
        policy if wanted.waiting_room else None,
        joins_from_ms=wanted.joins_from_ms,
        ends_at_ms=wanted.ends_at_ms,
        offices=wanted.offices,
        beacon_source=wanted.beacon_source,
    )
    if not terms.joins_from_ms <= terms.opens_at_ms < terms.ends_at_ms:
        raise _invalid("/ends_at", "window-reversed", _ENDS_BEFORE)
    return terms


async def _move(services: FrontServices, quotas: Sequence[str], by: SetOpening, opens_at_ms: int) -> None:
    """Let the quotas open with the new opening, with the actor and reason of its creation.

    Raises:
        Refused: one belongs to an opening that people can join.
        Unavailable: some were not moved; the whole request may be repeated.
    """
    for at in range(0, len(quotas), AT_ONCE):
        common: dict[str, Any] = {"taker": by.opening, "actor": by.actor, "reason": by.reason}
        part = quotas[at : at + AT_ONCE]
        changes = [SetQuota(quota=quota, opens_at_ms=opens_at_ms, **common) for quota in part]
        results = await asyncio.gather(*map(services.reservations.set_quota, changes), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
            if result.outcome is Outcome.OF_OPENING:
                raise Refused(OPENING_MOVES_QUOTA, members={"opening": result.opening})


def _is_shown(services: FrontServices, program: str, name: str, quotas: Sequence[str], opens_at_ms: int) -> bool:
    moved = [services.availability.quota(quota) for quota in quotas]
    shown = all(quota is not None and quota.terms.opens_at_ms == opens_at_ms for quota in moved)
    return shown and services.availability.opening(name, program) is not None


@in_task
async def set_admission(front: Front, request: Request) -> Answer:
    """`PUT /v1/staff/openings/{id}/admission`: pause, resume, or set the rate."""
    staff = await require_staff(front, request, StaffScope.OPENINGS)
    paused, rate_per_min, reason = read_admission(json_body(request))
    program, opening = await _with_waiting_room(front, request, staff)
    opening = await not_ended(front.services, program, opening)
    command = SetOpening(opening=opening.id, paused=paused, rate_per_min=rate_per_min, actor=staff.actor, reason=reason)
    return await _set(front.services, program, command)


@in_task
async def set_beacon(front: Front, request: Request) -> Answer:
    """`PUT /v1/staff/openings/{id}/beacon`: once, and before the opening."""
    staff = await require_staff(front, request, StaffScope.OPENINGS)
    value, reason = read_beacon(json_body(request))
    program, opening = await _with_waiting_room(front, request, staff)
    command = SetOpening(opening=opening.id, beacon=value, actor=staff.actor, reason=reason)
    return await _set(front.services, program, command)


async def _with_waiting_room(front: Front, request: Request, staff: StaffRow) -> tuple[str, Opening]:
    program, opening = await find_opening(front.services, request.parameters["id"])
    require_program(staff, program)
    if not opening.terms.waiting_room:
        raise Refused(NO_WAITING_ROOM, members={"opening": opening.id})
    return program, opening


async def _set(services: FrontServices, program: str, command: SetOpening) -> Answer:
    answer = await services.waiting_room.set_opening(program, command)
    _log_change(command, answer)
    if answer.outcome in (Outcome.OPENING_CANCELLED, Outcome.CLOSED):
        raise fixed(known_opening(services, command.opening)[1], answer.outcome)
    if answer.outcome is Outcome.TOO_LATE:
        raise Refused(BEACON_FIXED, members={"opening": command.opening})
    if answer.outcome not in (Outcome.OPENING_SET, Outcome.EXISTS):
        raise Refused(NOT_CREATED)

    def shown() -> bool:
        opening = services.availability.opening(command.opening)
        return opening is not None and opening.version >= answer.version

    await _wait_until_visible(services, shown)
    _, opening = known_opening(services, command.opening)
    body = AdmissionStateBody(
        id=opening.id,
        paused=opening.paused,
        rate_per_min=opening.rate_per_min,
        rate_fixed=opening.rate_fixed,
        joined=opening.joined,
        arrived=opening.arrived,
        admitted_through=opening.admitted_through,
        beacon=opening.beacon,
        version=opening.version,
    )
    return json_answer(msgspec.json.encode(body))


async def _wait_until_visible(services: FrontServices, shown: Callable[[], bool]) -> None:
    """Wait until the view contains a change, at most as long as staff should wait."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + VIEW_WAIT_S
    while (rest_s := deadline_s - loop.time()) > 0:
        version = services.availability.version
        if shown():
            return
        await services.availability.wait_change(version, rest_s)


def _log_change(command: SetOpening, answer: LedgerAnswer) -> None:
    named = {"actor": command.actor, "reason": command.reason}
    log.info("opening_changed", opening=command.opening, outcome=answer.outcome, **named)


def _invalid(pointer: str, code: str, detail: Text) -> Refused:
    return Refused(problem_catalogue.INVALID_REQUEST, findings=(Finding(pointer, code, detail),))
