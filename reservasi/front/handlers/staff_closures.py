"""Closing all quotas of a day at once, such as for a holiday that is announced late."""

import asyncio
from typing import Any

import msgspec

from reservasi.front.api import problem_catalogue
from reservasi.front.api.answers import Answer, in_task
from reservasi.front.api.bodies import ID_PATTERN
from reservasi.front.api.closure_bodies import BookedBody, ClosedQuotaBody, ClosureBody
from reservasi.front.api.languages import Text
from reservasi.front.api.not_found import nothing_matches, unknown_program
from reservasi.front.api.problems import Finding, Refused
from reservasi.front.api.request import Request
from reservasi.front.deciding.front_context import Front
from reservasi.front.handlers.cached import unkept
from reservasi.front.handlers.staff_keys import require_program, require_staff
from reservasi.front.handlers.staff_quotas import VIEW_WAIT_S
from reservasi.front.reading.field_checks import check_date_parameter
from reservasi.front.reading.findings import NOT_TEXT, NULL, Field, Findings, Wrong, read_json, read_object, text_check
from reservasi.front.reading.reasons import REASON, reason_of
from reservasi.front.reading.request_parts import json_body
from reservasi.front.services import FrontServices
from reservasi.front.views.availability import require_view
from reservasi.logs import get_logger
from reservasi.model import Answer as LedgerAnswer
from reservasi.model import Outcome, Quota, SetQuota, StaffScope
from reservasi.records import LiveRow

log = get_logger()

AT_ONCE = 500  # quotas closed together; the group commit splits them into batches
_NOTHING_MATCHES = Text("Tidak ada kuota yang sesuai pada tanggal ini.", "No quota matches on this date.")
_check_id = text_check("id", Text("Bentuk id tidak sah.", "This is not the form of an id."), pattern=ID_PATTERN[1:-1])


def _check_date(value: Any) -> Wrong | None:
    return check_date_parameter(value) if type(value) is str else Wrong("date-type", NOT_TEXT)


CLOSURE = {
    "program": Field(_check_id, required=True),
    "date": Field(_check_date, required=True),
    "office": Field(_check_id, left_out=NULL),
    "service": Field(_check_id, left_out=NULL),
    "channel": Field(_check_id, left_out=NULL),
    "reason": REASON,
}


@in_task
async def create(front: Front, request: Request) -> Answer:
    """`POST /v1/staff/closures`: close the selected quotas of a day; repeating it continues an interrupted one."""
    staff = await require_staff(front, request, StaffScope.QUOTAS)
    services = front.services
    wanted = _read(json_body(request))
    require_program(staff, wanted["program"])
    require_view(services, wanted["program"])
    program = services.catalogue.program(wanted["program"])
    if program is None:
        raise unknown_program(services.catalogue, wanted["program"])
    await services.availability.complete(wanted["program"])  # so that quotas of a recent import are included
    chosen = _chosen(services, wanted)
    if not chosen:
        offices = (wanted["office"],) if "office" in wanted else ()
        why = nothing_matches(
            program, offices, _NOTHING_MATCHES, service=wanted.get("service"), channel=wanted.get("channel")
        )
        finding = Finding("", "nothing-matches", why)
        raise Refused(problem_catalogue.INVALID_REQUEST, findings=(finding,))
    changed, last = await _close(services, chosen, staff.actor, reason_of(wanted))
    log.info("day_closed", program=wanted["program"], date=wanted["date"], quotas=len(chosen), actor=staff.actor)
    await _shown(services, changed)
    booked = await services.reservations.live_in(wanted["program"], [quota.id for quota in chosen], last)
    opened = {quota.id for quota in chosen if not quota.terms.closed}
    body = _body(wanted, _chosen(services, wanted), opened & changed.keys(), booked)
    return await unkept(request, msgspec.json.encode(body))


def _read(body: bytes) -> dict[str, Any]:
    findings = Findings()
    decoded = read_json(body, findings)
    wanted: dict[str, Any] = {} if findings else read_object(decoded, CLOSURE, "", findings)
    if findings:
        raise Refused(problem_catalogue.INVALID_REQUEST, findings=findings.all())
    return wanted


def _chosen(services: FrontServices, wanted: dict[str, Any]) -> list[Quota]:
    return services.availability.select(
        wanted["program"],
        office=wanted.get("office"),
        service=wanted.get("service"),
        channel=wanted.get("channel"),
        first=wanted["date"],
        last=wanted["date"],
    )


async def _close(
    services: FrontServices, quotas: list[Quota], actor: str, reason: str
) -> tuple[dict[str, int], LedgerAnswer]:
    """Close the quotas; returns the new versions of the changed ones, and the last answer.

    A quota that an import had closed is changed as well: from now on staff have closed it.

    Raises:
        Unavailable: some were not closed; the whole request may be repeated.
    """
    changed: dict[str, int] = {}
    answers: list[LedgerAnswer] = []
    for at in range(0, len(quotas), AT_ONCE):
        part = [SetQuota(quota=each.id, closed=True, actor=actor, reason=reason) for each in quotas[at : at + AT_ONCE]]
        batch = await asyncio.gather(*map(services.reservations.set_quota, part), return_exceptions=True)
        for command, answer in zip(part, batch, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            if answer.outcome is Outcome.QUOTA_SET:
                changed[command.quota] = answer.version
            answers.append(answer)
    return changed, max(answers, key=lambda answer: (answer.epoch, answer.seq))


async def _shown(services: FrontServices, versions: dict[str, int]) -> None:
    """Wait until the view contains the changes, at most as long as staff should wait."""
    availability, loop = services.availability, asyncio.get_running_loop()
    deadline_s = loop.time() + VIEW_WAIT_S
    while (rest_s := deadline_s - loop.time()) > 0:
        seen = availability.version
        quotas = {name: availability.quota(name) for name in versions}
        if all(quota is not None and quota.counts.version >= versions[name] for name, quota in quotas.items()):
            return
        await availability.wait_change(seen, rest_s)


def _body(wanted: dict[str, Any], quotas: list[Quota], changed: Any, booked: list[LiveRow]) -> ClosureBody:
    return ClosureBody(
        program=wanted["program"],
        date=wanted["date"],
        closed=len(changed),
        held=sum(quota.counts.held for quota in quotas),
        confirmed=sum(quota.counts.confirmed for quota in quotas),
        quotas=[
            ClosedQuotaBody(
                id=quota.id,
                office=quota.terms.office,
                service=quota.terms.service,
                channel=quota.terms.channel,
                start=quota.terms.start,
                end=quota.terms.end,
                held=quota.counts.held,
                confirmed=quota.counts.confirmed,
                changed=quota.id in changed,
            )
            for quota in quotas
        ],
        booked=[
            BookedBody(quota=row.quota, reservation=row.reservation_id, places=row.places, status=row.status)
            for row in booked
        ],
    )
