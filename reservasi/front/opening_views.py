"""Openings as the public reads them: those that were created, and the moments at which other quotas open."""

import re
from datetime import datetime
from typing import TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from reservasi.front.bodies import DATES_MAX, NextOpeningBody, OpeningBody, OpeningsBody, QuotaState
from reservasi.front.encoding import Encoded, encoded, moment
from reservasi.front.keys import FrontServices
from reservasi.front.memory import NEVER_MS, Made, Memory, next_turn_ms
from reservasi.front.opening_reasons import said_of_moves
from reservasi.model import Opening, Quota
from reservasi.programs import program_of
from reservasi.waiting_room.room import last_end_ms

OPENING_STATES: tuple[QuotaState, ...] = ("open", "not-open", "sold-out", "closed")  # the best one speaks for all
NEXT_MAX = 3
VIEW_TURN_MS = 1000  # by which one opening may be older than the list
MINUTE_MS = 60_000
_DERIVED = re.compile(r"[0-9]{8}T[0-9]{4}")
SUGGESTIONS_REST_S = 0.25  # suggestions may be a little older than what is judged


def openings_view(services: FrontServices, memory: Memory, program: str | None, office: str | None) -> Encoded:
    """The openings of one program or of all, with their quotas in one office or in all."""

    def make(now_ms: int) -> Made[Encoded]:
        listed, turn_ms = _listed(services, program, office, now_ms)
        view = encoded(msgspec.json.encode(OpeningsBody(openings=listed)))
        return Made(view, len(view.body), turn_ms)

    return memory.answer(("openings", program, office), make)


def list_openings(
    services: FrontServices, memory: Memory, program: str | None = None, office: str | None = None
) -> list[OpeningBody]:
    """The same, not encoded; earliest first."""

    def make(now_ms: int) -> Made[list[OpeningBody]]:
        listed, turn_ms = _listed(services, program, office, now_ms)
        return Made(listed, 512 * len(listed), turn_ms)

    return memory.answer(("opening-list", program, office), make)


def listed_opening(services: FrontServices, memory: Memory, opening_id: str) -> OpeningBody | None:
    """One opening of the list, also one that came since the list was made; None where there is none."""
    found = next((each for each in list_openings(services, memory) if each.id == opening_id), None)
    if found is not None:
        return found
    program = services.availability.program_of_opening(opening_id) or _program_of_derived(services, opening_id)
    if program is None:
        return None

    def make(now_ms: int) -> Made[OpeningBody | None]:
        listed, turn_ms = _listed(services, program, None, now_ms)
        return Made(next((each for each in listed if each.id == opening_id), None), 512, turn_ms)

    return memory.answer(("opening-not-listed", opening_id), make)


async def complete_opening(services: FrontServices, memory: Memory, opening_id: str) -> None:
    """Let memory catch up with the journal where it lacks an opening that another front may have told of already."""
    if listed_opening(services, memory, opening_id) is None:
        await services.waiting_room.complete(opening_id)


def opening_view(services: FrontServices, memory: Memory, opening_id: str) -> Encoded | None:
    """One opening of the list, encoded; None where there is none."""
    found = listed_opening(services, memory, opening_id)
    if found is None:
        return None

    def make(now_ms: int) -> Made[Encoded]:
        view = encoded(msgspec.json.encode(found))
        return Made(view, len(view.body), now_ms + VIEW_TURN_MS)

    return memory.answer(("opening", opening_id), make)


def next_openings(services: FrontServices, memory: Memory, program: str) -> list[OpeningBody]:
    """The program's next openings that lie ahead, earliest first."""

    def make(now_ms: int) -> Made[list[OpeningBody]]:
        listed, turn_ms = _listed(services, program, None, now_ms, ahead=True)
        return Made(listed[:NEXT_MAX], 2048, turn_ms)

    return memory.answer(("next-openings", program), make, SUGGESTIONS_REST_S)


def next_members(services: FrontServices, memory: Memory, program: str) -> dict[str, object]:
    """What `not-open` and `sold-out` say of the openings ahead."""

    def make(_now_ms: int) -> Made[dict[str, object]]:
        ahead = next_openings(services, memory, program)
        brief = [NextOpeningBody(id=o.id, opens_at=o.opens_at, joins_from=o.joins_from) for o in ahead]
        return Made({"next_openings": msgspec.Raw(msgspec.json.encode(brief))}, 512, NEVER_MS)

    return memory.answer(("next-members", program), make, SUGGESTIONS_REST_S)


def is_opening_sold_out(services: FrontServices, memory: Memory, program: str, opening: Opening) -> bool:
    """Whether nothing remains in any quota of the opening that has not closed, and it has some."""

    def make(now_ms: int) -> Made[bool]:
        quotas = services.availability.quotas_of_opening(program, opening.id)
        state = services.availability.state
        is_left = any(quota.remaining > 0 and state(quota, now_ms) != "closed" for quota in quotas)
        return Made(bool(quotas) and not is_left, 64, next_turn_ms(quotas, now_ms))

    return memory.answer(("opening-sold-out", program, opening.id, opening.terms.opens_at_ms), make)


def opening_end_ms(services: FrontServices, memory: Memory, program: str, opening: Opening) -> int:
    """When nobody waits for anything any more: the opening has ended, or all of its quotas have closed for booking."""

    def make(_now_ms: int) -> Made[int]:
        closings = [quota.terms.closes_at_ms for quota in services.availability.quotas_of_opening(program, opening.id)]
        return Made(max(closings) if closings and all(closings) else NEVER_MS, 64, NEVER_MS)

    last_closing_ms = memory.answer(("opening-last-closing", program, opening.id, opening.terms.opens_at_ms), make)
    return min(last_end_ms(opening), last_closing_ms)


def _listed(
    services: FrontServices, program: str | None, office: str | None, now_ms: int, *, ahead: bool = False
) -> tuple[list[OpeningBody], int]:
    """The openings, and the moment at which the list stops being true."""
    quotas = services.availability.select(program, office=office)
    created: dict[_Key, Opening] = {}
    for name in [program] if program else [each.id for each in services.catalogue.programs()]:
        for opening in services.availability.openings(name):
            if not ahead or (opening.terms.opens_at_ms > now_ms and not opening.cancelled):
                created[opening.terms.opens_at_ms, name, opening.id] = opening
    groups: dict[_Key, list[Quota]] = {key: [] for key in created} if office is None else {}
    for quota in quotas:
        at_ms = quota.terms.opens_at_ms
        if at_ms and (at_ms > now_ms or not ahead):
            covering = services.availability.opening_of(quota)
            groups.setdefault((at_ms, program_of(quota.id), covering.id if covering else ""), []).append(quota)
    turn_ms = min([next_turn_ms(quotas, now_ms), *(_turn_ms(opening, now_ms) for opening in created.values())])
    listed = [
        _body(services, key[1], key[0], groups[key], created=created.get(key), now_ms=now_ms) for key in sorted(groups)
    ]
    return listed, turn_ms


_Key: TypeAlias = tuple[int, str, str]  # when it opens, program, id; "" of the quotas that no opening covers


def _turn_ms(opening: Opening, now_ms: int) -> int:
    terms = opening.terms
    return min(
        (at for at in (terms.joins_from_ms, terms.opens_at_ms, terms.ends_at_ms) if at > now_ms), default=NEVER_MS
    )


def _body(
    services: FrontServices,
    program_id: str,
    opens_at_ms: int,
    quotas: list[Quota],
    *,
    created: Opening | None,
    now_ms: int,
) -> OpeningBody:
    states = {services.availability.state(quota, now_ms) for quota in quotas}
    empty: QuotaState = "not-open" if opens_at_ms > now_ms else "closed"
    body = OpeningBody(
        id=created.id if created else _derived_id(services, program_id, opens_at_ms),
        program=program_id,
        opens_at=moment(opens_at_ms),
        state=next((state for state in OPENING_STATES if state in states), empty),
        quotas=len(quotas),
        places=sum(quota.terms.capacity for quota in quotas),
        offices=sorted({quota.terms.office for quota in quotas} or (created.terms.offices if created else ())),
        services=sorted({quota.terms.service for quota in quotas}),
        dates=sorted({quota.terms.date for quota in quotas})[:DATES_MAX],
    )
    if created and created.cancelled:
        body.state = "cancelled"
    if created and created.revision:
        body.revision, body.revised_at = created.revision, moment(created.revised_at_ms)
        said_of_moves(created, body)
    if created:
        body.waiting_room, body.proof_of_work = created.terms.waiting_room, created.terms.proof_of_work
        body.ends_at, body.commitment = moment(created.terms.ends_at_ms), created.terms.commitment
        body.joins_from = moment(created.terms.joins_from_ms)
    return body


def _derived_id(services: FrontServices, program_id: str, opens_at_ms: int) -> str:
    """An id for a moment that nobody created an opening for; its capital letter keeps it apart from theirs."""
    program = services.catalogue.program(program_id)
    local = datetime.fromtimestamp(opens_at_ms / 1000, program.zone if program else ZoneInfo("UTC"))
    return f"{program_id}-{local:%Y%m%dT%H%M}"


def _program_of_derived(services: FrontServices, opening_id: str) -> str | None:
    """The program of such an id, if any of its quotas opens in that minute."""
    program_id, _, local = opening_id.rpartition("-")
    program = services.catalogue.program(program_id)
    if program is None or not _DERIVED.fullmatch(local):
        return None
    try:
        first_ms = int(datetime.fromisoformat(local).replace(tzinfo=program.zone).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return program_id if services.availability.opens_between(program_id, first_ms, first_ms + MINUTE_MS) else None
