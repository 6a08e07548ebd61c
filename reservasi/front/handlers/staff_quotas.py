"""Staff operations on quotas: list them with their counts, and change them while they are open."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from aiohttp import hdrs
from msgspec import UNSET

from reservasi import quota_state
from reservasi.front.api import problem_catalogue
from reservasi.front.api.answers import Answer, in_task, json_answer
from reservasi.front.api.bodies import QUOTA_PATTERN, StaffQuotaBody, StaffQuotasBody
from reservasi.front.api.entity_tags import strong_tags
from reservasi.front.api.languages import Text
from reservasi.front.api.paging import page_of
from reservasi.front.api.problems import Finding, Refused
from reservasi.front.api.request import IF_MATCH, Request
from reservasi.front.api.waiting_problems import OPENING_MOVES_QUOTA
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.cached import unkept
from reservasi.front.handlers.staff_keys import require_program, require_staff
from reservasi.front.reading.queries import PAGED_FILTERS, read_filters
from reservasi.front.reading.request_parts import json_body
from reservasi.front.reading.reservation_requests import read_quota_change
from reservasi.front.services import FrontServices
from reservasi.front.views.availability import require_view
from reservasi.front.views.filters import quotas_matching, today_in
from reservasi.front.views.quota_json import moment, staff_quota_body
from reservasi.front.views.ticket_rules import ticket_rule
from reservasi.logs import get_logger
from reservasi.model import Answer as LedgerAnswer
from reservasi.model import Outcome, Quota, SetQuota, StaffScope
from reservasi.programs import program_of
from reservasi.programs.comparison import in_the_way
from reservasi.programs.openings import window_end_ms

log = get_logger()

VIEW_WAIT_S = 1.0  # how long an answer waits until the view contains the change
_REVERSED = Text(
    "Waktu buka kuota harus sebelum waktu tutup. Ubah `opens_at` atau `closes_at`.",
    "A quota must open before it closes: change `opens_at` or `closes_at`.",
)
_TOO_LATE = Text(
    "Kuota harus ditutup paling lambat pada akhir jadwalnya, yaitu {ends_at}.",
    "A quota must close at the latest when its window ends, at {ends_at}.",
)
_QUOTA_ID = re.compile(QUOTA_PATTERN.strip("^$"))
_VERSION = re.compile(r"[1-9][0-9]{0,15}")
_NO_VERSION = 2**53 - 1  # no quota reaches it: the ledger answers `version_mismatch`


@in_task
async def list_quotas(front: Front, request: Request) -> Answer:
    """`GET /v1/staff/quotas`: all counts, with the filters of availability; of the key's programs only."""
    staff = await require_staff(front, request, StaffScope.READ)
    services = front.services
    filters = read_filters(front.services.catalogue, request, PAGED_FILTERS)
    if "program" in filters:
        require_program(staff, filters["program"])
    require_view(services, filters.get("program"))
    now_ms = services.availability.now_ms()
    matching = quotas_matching(services.availability, filters, today_in(services.availability, services.catalogue))
    quotas, following = page_of([quota for quota in matching if staff.may(program_of(quota.id))], filters)
    body = StaffQuotasBody(quotas=[_body(services, quota, now_ms) for quota in quotas], next=following or UNSET)
    return await unkept(request, msgspec.json.encode(body))


@in_task
async def set_quota(front: Front, request: Request) -> Answer:
    """`PUT /v1/staff/quotas/{id}`: capacity, opening, closing; the ledger decides."""
    services = front.services
    quota_id = request.parameters["id"]
    staff = await require_staff(front, request, StaffScope.QUOTAS, program_of(quota_id))
    versions = if_match_versions(request)
    change = read_quota_change(json_body(request), quota_id, versions[0], staff.actor)
    require_view(services, program_of(quota_id))
    current = services.availability.quota(quota_id) if _QUOTA_ID.fullmatch(quota_id) else None
    if current is None:
        raise Refused(problem_catalogue.UNKNOWN_QUOTA)
    if change.closed is False and current.terms.closed:
        _refuse_overlap(services, current)
    change = _closing_in_time(services, current, change)
    answer = await of_any_version(versions, lambda version: _set(services, change, version))
    log.info("quota_changed", quota=quota_id, outcome=answer.outcome, actor=change.actor, reason=change.reason)
    if answer.outcome not in (Outcome.QUOTA_SET, Outcome.EXISTS):
        raise _refused_change(answer, change)
    quota = await _wait_until_visible(services, quota_id, answer.version) or _changed(current, change, answer.version)
    body = _body(services, quota, services.availability.now_ms())
    return json_answer(msgspec.json.encode(body), headers={hdrs.ETAG: f'"{quota.counts.version}"'})


async def _set(services: FrontServices, change: SetQuota, version: int) -> LedgerAnswer:
    return await services.reservations.set_quota(msgspec.structs.replace(change, version=version))


def if_match_versions(request: Request) -> Sequence[int]:
    """The versions in If-Match, one of which must be current; 0 for any."""
    header = request.values.get(IF_MATCH)
    if header is None or header.strip() == "*":
        return (0,)
    return [int(tag) for tag in strong_tags(header) if _VERSION.fullmatch(tag)] or (_NO_VERSION,)


async def of_any_version(versions: Sequence[int], change: Callable[[int], Awaitable[LedgerAnswer]]) -> LedgerAnswer:
    """The ledger's answer to a change of the one of these versions that is current."""
    answer = await change(versions[0])
    if answer.outcome is Outcome.VERSION_MISMATCH and answer.version in versions[1:]:
        return await change(answer.version)
    return answer


def _refuse_overlap(services: FrontServices, quota: Quota) -> None:
    """Refuse to reopen a quota whose window overlaps an open one of the same line."""
    terms, program = quota.terms, services.catalogue.program(program_of(quota.id))
    line = services.availability.select(
        program_of(quota.id),
        office=terms.office,
        service=terms.service,
        channel=terms.channel,
        first=terms.date,
        last=terms.date,
    )
    other = in_the_way(program, quota, line) if program is not None else None
    if other is not None:
        raise Refused(problem_catalogue.OVERLAPPING_QUOTA, members={"overlaps": other.id})


def _closing_in_time(services: FrontServices, quota: Quota, change: SetQuota) -> SetQuota:
    """The change; if it removes `closes_at`, the quota closes when its window ends.

    Raises:
        Refused: it would close after that.
    """
    terms, program = quota.terms, services.catalogue.program(program_of(quota.id))
    opens_at_ms = terms.opens_at_ms if change.opens_at_ms is None else change.opens_at_ms
    if program is None or not terms.date or change.closes_at_ms is None:
        return change
    ends_at_ms = window_end_ms(terms.date, terms.start, terms.end, program.zone)
    if change.closes_at_ms == 0:
        return msgspec.structs.replace(change, closes_at_ms=ends_at_ms)
    if change.closes_at_ms > max(ends_at_ms, opens_at_ms):  # one before the opening is refused by the ledger
        detail = Text(*(text.format(ends_at=moment(ends_at_ms)) for text in _TOO_LATE))
        raise Refused(
            problem_catalogue.INVALID_REQUEST, findings=(Finding("/closes_at", "closes-after-window", detail),)
        )
    return change


def _body(services: FrontServices, quota: Quota, now_ms: int) -> StaffQuotaBody:
    rule = ticket_rule(services.availability, quota, now_ms)
    return staff_quota_body(quota, quota_state.state_of(quota, now_ms), rule)


def _refused_change(answer: LedgerAnswer, change: SetQuota) -> Refused:
    if answer.outcome is Outcome.WINDOW_REVERSED:
        pointer = "/opens_at" if change.closes_at_ms is None else "/closes_at"
        return Refused(problem_catalogue.INVALID_REQUEST, findings=(Finding(pointer, "window-reversed", _REVERSED),))
    if answer.outcome is Outcome.BELOW_TAKEN:
        return Refused(problem_catalogue.BELOW_TAKEN, members={"taken": answer.taken})
    if answer.outcome is Outcome.OF_OPENING:
        return Refused(OPENING_MOVES_QUOTA, members={"opening": answer.opening})
    if answer.outcome is Outcome.VERSION_MISMATCH:
        return Refused(problem_catalogue.VERSION_MISMATCH, members={"version": answer.version})
    return Refused(problem_catalogue.UNKNOWN_QUOTA)


async def _wait_until_visible(services: FrontServices, quota_id: str, version: int) -> Quota | None:
    """The quota once the view contains the change; None if that takes too long."""
    availability = services.availability
    deadline_s = asyncio.get_running_loop().time() + VIEW_WAIT_S
    while (rest_s := deadline_s - asyncio.get_running_loop().time()) > 0:
        seen = availability.version
        quota = availability.quota(quota_id)
        if quota is not None and quota.counts.version >= version:
            return quota
        await availability.wait_change(seen, rest_s)
    return None


def _changed(current: Quota, change: SetQuota, version: int) -> Quota:
    names = ("capacity", "opens_at_ms", "closes_at_ms", "closed")
    changes = {name: value for name in names if (value := getattr(change, name)) is not None}
    return msgspec.structs.replace(
        current,
        terms=msgspec.structs.replace(current.terms, **changes),
        counts=msgspec.structs.replace(current.counts, version=version),
    )
