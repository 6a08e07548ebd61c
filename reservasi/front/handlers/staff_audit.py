"""Staff operations on reservations and the audit log: end a reservation, and read who changed what, when and why."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from reservasi.front.api import problem_catalogue
from reservasi.front.api.answers import Answer, in_task
from reservasi.front.api.bodies import ID_PATTERN, QUOTA_PATTERN, AuditBody, AuditedChangeBody
from reservasi.front.api.languages import Text
from reservasi.front.api.not_found import UNKNOWN_RESERVATION, unknown_program
from reservasi.front.api.problems import Finding, Refused
from reservasi.front.api.request import Request
from reservasi.front.api.waiting_bodies import NEW_OPENING_PATTERN
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.cached import unkept
from reservasi.front.handlers.reservations import answer_ended
from reservasi.front.handlers.staff_keys import require_program, require_staff
from reservasi.front.reading.field_checks import check_date_parameter, parameter_check
from reservasi.front.reading.findings import MISSING
from reservasi.front.reading.queries import read_query
from reservasi.front.reading.reasons import read_reason
from reservasi.front.reading.request_parts import json_body
from reservasi.front.views.quota_json import moment, moment_or_none
from reservasi.logs import get_logger
from reservasi.model import StaffScope
from reservasi.programs import Program
from reservasi.records import AuditQuery, AuditRow

log = get_logger()

AUDIT_LIMIT_DEFAULT = 100
AUDIT_LIMIT_PATTERN = "^(?:[1-9][0-9]?|[1-4][0-9]{2}|500)$"
AUDIT_POSITION_PATTERN = "^[0-9]{1,15}-[0-9]{1,15}$"
_CHECKS = {
    "program": parameter_check(ID_PATTERN),
    "quota": parameter_check(QUOTA_PATTERN),
    "opening": parameter_check(NEW_OPENING_PATTERN),
    "from": check_date_parameter,
    "to": check_date_parameter,
    "before": parameter_check(AUDIT_POSITION_PATTERN),
    "limit": parameter_check(AUDIT_LIMIT_PATTERN),
}
_RESERVATION_ID = re.compile("[a-z2-7]{26}")
_DATES_REVERSED = Text("`from` tidak boleh sesudah `to`.", "`from` must not lie after `to`.")


@in_task
async def cancel(front: Front, request: Request) -> Answer:
    """`POST /v1/staff/reservations/{id}/cancel`: also after the applicant's last moment for it."""
    staff = await require_staff(front, request, StaffScope.RESERVATIONS)
    services = front.services
    reason = read_reason(json_body(request, required=False))
    reservation_id = request.parameters["id"]
    program = services.reservations.program_of(reservation_id)
    if program is None or not _RESERVATION_ID.fullmatch(reservation_id):
        raise Refused(UNKNOWN_RESERVATION)
    require_program(staff, program)
    change = await services.reservations.cancel(reservation_id, by_staff=True, actor=staff.actor, reason=reason)
    named = {"actor": staff.actor, "reason": reason}
    log.info("reservation_ended", reservation=reservation_id, outcome=change.answer.outcome, **named)
    return await answer_ended(services, reservation_id, change)


@in_task
async def list_audit(front: Front, request: Request) -> Answer:
    """`GET /v1/staff/audit`: who changed quotas and openings of a program or ended reservations, newest first."""
    staff = await require_staff(front, request, StaffScope.READ)
    services = front.services
    wanted = read_query(front.services.catalogue, request, _CHECKS)
    if "program" not in wanted:
        raise Refused(problem_catalogue.INVALID_REQUEST, findings=(Finding("program", "missing", MISSING),))
    require_program(staff, wanted["program"])
    program = await services.catalogue.look_up(wanted["program"])
    if program is None:
        if not services.catalogue.loaded:
            raise Refused(problem_catalogue.RECOVERING)
        raise unknown_program(services.catalogue, wanted["program"])
    query = _query(wanted, program)
    rows = await services.catalogue.audit(query)
    body = AuditBody(
        changes=[_change_body(row) for row in rows],
        next=f"{rows[-1].epoch}-{rows[-1].seq}" if len(rows) == query.limit else None,
    )
    return await unkept(request, msgspec.json.encode(body))


def _query(wanted: Mapping[str, str], program: Program) -> AuditQuery:
    if wanted.get("from", "") > wanted.get("to", "9"):
        raise Refused(problem_catalogue.INVALID_REQUEST, findings=(Finding("from", "dates-reversed", _DATES_REVERSED),))
    limits: dict[str, Any] = {}
    if "from" in wanted:
        limits["from_ms"] = _midnight_ms(wanted["from"], program, days=0)
    if "to" in wanted:
        limits["until_ms"] = _midnight_ms(wanted["to"], program, days=1)
    if "before" in wanted:
        epoch, _, seq = wanted["before"].partition("-")
        limits["before"] = (int(epoch), int(seq))
    return AuditQuery(
        program=program.id,
        quota=wanted.get("quota"),
        opening=wanted.get("opening"),
        limit=int(wanted.get("limit", AUDIT_LIMIT_DEFAULT)),
        **limits,
    )


def _midnight_ms(date: str, program: Program, *, days: int) -> int:
    """The beginning of a date in the program's zone, `days` later."""
    try:
        day = dt.date.fromisoformat(date) + dt.timedelta(days=days)
        return int(dt.datetime.combine(day, dt.time(), program.zone).timestamp() * 1000)
    except (OverflowError, ValueError):  # the first or the last date that Python supports
        return 0 if days == 0 else 2**62


def _change_body(row: AuditRow) -> AuditedChangeBody:
    after = {
        name.removesuffix("_ms"): moment_or_none(value) if name.endswith("_ms") else value
        for name, value in row.after.items()
    }
    return AuditedChangeBody(
        at=moment(row.at_ms),
        actor=row.actor,
        reason=row.reason,
        quota=row.quota,
        opening=row.opening,
        reservation=row.reservation_id,
        after=after,
    )
