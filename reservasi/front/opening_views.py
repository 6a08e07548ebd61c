"""Openings as the public reads them: those that were created, and the moments at which other quotas open."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from reservasi import quota_state
from reservasi.front.bodies import DATES_MAX, OPENINGS_MAX, NextOpeningBody, OpeningBody, OpeningsBody
from reservasi.front.encoding import Encoded, encoded, moment
from reservasi.front.filters import dates_of, midnight_ms, today_in
from reservasi.front.keys import FrontServices
from reservasi.front.memory import NEVER_MS, Made, Memory, next_turn_ms
from reservasi.front.opening_reasons import said_of_moves
from reservasi.model import Opening, Quota
from reservasi.programs import program_of
from reservasi.quota_state import QuotaState
from reservasi.waiting_room.days import Days, days_between
from reservasi.waiting_room.state import last_end_ms, state_of

OPENING_STATES: tuple[QuotaState, ...] = ("open", "not-open", "sold-out", "closed")  # the best one speaks for all
NEXT_MAX = 3
VIEW_TURN_MS = 1000  # by which one opening may be older than the list
MINUTE_MS = 60_000
_DERIVED = re.compile(r"[0-9]{8}T[0-9]{4}")
SUGGESTIONS_REST_S = 0.25  # suggestions may be a little older than what is judged


def openings_view(services: FrontServices, memory: Memory, filters: Mapping[str, str]) -> Encoded:
    """The openings that match the query parameters, with their quotas in one office or in all."""

    def make(now_ms: int) -> Made[Encoded]:
        listed = _matching(services, filters, now_ms)
        body = OpeningsBody(openings=listed.openings)
        if listed.more:
            body.more = True
        view = encoded(msgspec.json.encode(body))
        return Made(view, len(view.body), listed.turn_ms)

    return memory.answer(("openings", *sorted(filters.items())), make)


def list_openings(services: FrontServices, memory: Memory, filters: Mapping[str, str]) -> list[OpeningBody]:
    """The same, not encoded; earliest first."""

    def make(now_ms: int) -> Made[list[OpeningBody]]:
        listed = _matching(services, filters, now_ms)
        return Made(listed.openings, 512 * len(listed.openings), listed.turn_ms)

    return memory.answer(("opening-list", *sorted(filters.items())), make)


def listed_opening(services: FrontServices, memory: Memory, opening_id: str) -> OpeningBody | None:
    """One opening, past or ahead; None where there is none."""
    program = services.availability.program_of_opening(opening_id) or _program_of_derived(services, opening_id)
    if program is None:
        return None

    def make(now_ms: int) -> Made[OpeningBody | None]:
        created = services.availability.opening(opening_id, program)
        if created is None:
            quotas = _quotas_of_derived(services, program, opening_id)
        else:
            quotas = services.availability.quotas_of_opening(program, opening_id)
        if created is None and not quotas:
            return Made(None, 64, NEVER_MS)
        opens_at_ms = quotas[0].terms.opens_at_ms if created is None else created.terms.opens_at_ms
        body = _body(services, program, opens_at_ms, quotas, created=created, now_ms=now_ms)
        turn_ms = next_turn_ms(quotas, now_ms)
        return Made(body, 512, turn_ms if created is None else min(turn_ms, _turn_ms(created, now_ms)))

    return memory.answer(("opening-body", opening_id), make)


async def complete_opening(services: FrontServices, memory: Memory, opening_id: str) -> None:
    """Let memory catch up with the journal where it lacks an opening that another front may have told of already."""
    if listed_opening(services, memory, opening_id) is None:
        await services.waiting_room.complete(opening_id)


def opening_view(services: FrontServices, memory: Memory, opening_id: str) -> Encoded | None:
    """One opening, encoded; None where there is none."""
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
        openings = services.availability.openings(program)
        ahead = [o for o in openings if o.terms.opens_at_ms > now_ms and not o.cancelled]
        days = {program: Days(now_ms + 1, NEVER_MS)}
        listed = _listed(services, days, _by_key(program, ahead), None, now_ms, most=NEXT_MAX)
        return Made(listed.openings, 2048, listed.turn_ms)

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
        state = quota_state.state_of
        is_left = any(quota.remaining > 0 and state(quota, now_ms) != "closed" for quota in quotas)
        return Made(bool(quotas) and not is_left, 64, next_turn_ms(quotas, now_ms))

    return memory.answer(("opening-sold-out", program, opening.id, opening.terms.opens_at_ms), make)


def opening_end_ms(services: FrontServices, memory: Memory, program: str, opening: Opening) -> int:
    """When nobody waits for anything any more: the opening has ended, or all of its quotas have closed for booking."""

    def make(_now_ms: int) -> Made[int]:
        return Made(_last_closing_ms(services, program, opening), 64, NEVER_MS)

    last_closing_ms = memory.answer(("opening-last-closing", program, opening.id, opening.terms.opens_at_ms), make)
    return min(last_end_ms(opening), last_closing_ms)


def _last_closing_ms(services: FrontServices, program: str, opening: Opening) -> int:
    closings = [quota.terms.closes_at_ms for quota in services.availability.quotas_of_opening(program, opening.id)]
    return max(closings) if closings and all(closings) else NEVER_MS


def _is_told(opening: Opening, office: str | None) -> bool:
    """Whether it is listed without a quota: in its offices what was called off, as its quotas may be another's now."""
    offices = opening.terms.offices
    return office is None or (opening.cancelled and (not offices or office in offices))


class _Listed(NamedTuple):
    openings: list[OpeningBody]
    more: bool  # than one answer may have
    turn_ms: int  # the moment at which the list stops being true


def _matching(services: FrontServices, filters: Mapping[str, str], now_ms: int) -> _Listed:
    """Those that open, or whose waiting room runs, from the first date to the last; today and a year without dates."""
    availability, catalogue = services.availability, services.catalogue
    programs = [filters["program"]] if "program" in filters else [each.id for each in catalogue.programs()]
    today = today_in(availability, catalogue)
    days: dict[str, Days] = {}
    created: dict[_Key, Opening] = {}
    for name in programs:
        program = catalogue.program(name)
        days[name] = days_between(*dates_of(filters, today(name)), program.zone if program else UTC)
        created |= _by_key(name, filter(days[name].has_opening, availability.openings(name)))
    listed = _listed(services, days, created, filters.get("office"), now_ms, most=OPENINGS_MAX)
    return listed._replace(turn_ms=min(listed.turn_ms, midnight_ms(availability, catalogue, programs)))


def _listed(
    services: FrontServices,
    days: Mapping[str, Days],
    created: Mapping["_Key", Opening],
    office: str | None,
    now_ms: int,
    *,
    most: int,
) -> _Listed:
    """The created openings, and the moments at which other quotas of the programs open."""
    groups: dict[_Key, list[Quota]] = {key: [] for key, each in created.items() if _is_told(each, office)}
    quotas = [quota for name in days for quota in services.availability.select(name, office=office)]
    for quota in quotas:
        at_ms, program = quota.terms.opens_at_ms, program_of(quota.id)
        if not at_ms:
            continue
        covering = services.availability.opening_of(quota)
        key = (at_ms, program, covering.id if covering else "")
        if key in created or (covering is None and days[program].has(at_ms)):
            groups.setdefault(key, []).append(quota)
    turn_ms = min([next_turn_ms(quotas, now_ms), *(_turn_ms(opening, now_ms) for opening in created.values())])
    listed = [
        _body(services, key[1], key[0], groups[key], created=created.get(key), now_ms=now_ms)
        for key in sorted(groups)[:most]
    ]
    return _Listed(listed, more=len(groups) > most, turn_ms=turn_ms)


_Key: TypeAlias = tuple[int, str, str]  # when it opens, program, id; "" of the quotas that no opening covers


def _by_key(program: str, openings: Iterable[Opening]) -> dict[_Key, Opening]:
    return {(opening.terms.opens_at_ms, program, opening.id): opening for opening in openings}


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
    is_cancelled = created is not None and created.cancelled  # which closed its quotas: it tells what it was for
    offered = quotas if is_cancelled else [quota for quota in quotas if not quota.terms.closed]
    named = offered or quotas
    states = {quota_state.state_of(quota, now_ms) for quota in quotas}
    empty: QuotaState = "not-open" if opens_at_ms > now_ms else "closed"
    body = OpeningBody(
        id=created.id if created else _derived_id(services, program_id, opens_at_ms),
        program=program_id,
        opens_at=moment(opens_at_ms),
        state=next((state for state in OPENING_STATES if state in states), empty),
        quotas=len(offered),
        places=sum(quota.terms.capacity for quota in offered),
        offices=sorted({quota.terms.office for quota in named} or (created.terms.offices if created else ())),
        services=sorted({quota.terms.service for quota in named}),
        dates=sorted({quota.terms.date for quota in named})[:DATES_MAX],
    )
    if created:
        body.state = _state_of_queue(services, program_id, created, now_ms) or body.state
    if created and created.revision:
        body.revision, body.revised_at = created.revision, moment(created.revised_at_ms)
        said_of_moves(created, body)
    if created:
        body.waiting_room, body.proof_of_work = created.terms.waiting_room, created.terms.proof_of_work
        body.ends_at, body.commitment = moment(created.terms.ends_at_ms), created.terms.commitment
        body.joins_from = moment(created.terms.joins_from_ms)
    return body


def _state_of_queue(
    services: FrontServices, program: str, opening: Opening, now_ms: int
) -> Literal["cancelled", "ended", "paused"] | None:
    """What the queue says in place of its quotas' state; None where their state is right."""
    if opening.cancelled:
        return "cancelled"
    if now_ms >= min(last_end_ms(opening), _last_closing_ms(services, program, opening)):
        return "ended"
    return "paused" if state_of(opening, now_ms, sold_out=False) == "paused" else None


def _derived_id(services: FrontServices, program_id: str, opens_at_ms: int) -> str:
    """An id for a moment that nobody created an opening for; its capital letter keeps it apart from theirs."""
    program = services.catalogue.program(program_id)
    local = datetime.fromtimestamp(opens_at_ms / 1000, program.zone if program else ZoneInfo("UTC"))
    return f"{program_id}-{local:%Y%m%dT%H%M}"


def _program_of_derived(services: FrontServices, opening_id: str) -> str | None:
    """The program of such an id, if any of its quotas opens in that minute."""
    program_id, first_ms = _derived_minute(services, opening_id)
    if first_ms is None or not services.availability.opens_between(program_id, first_ms, first_ms + MINUTE_MS):
        return None
    return program_id


def _quotas_of_derived(services: FrontServices, program_id: str, opening_id: str) -> list[Quota]:
    """The quotas of the first moment in that minute, of those that no created opening covers."""
    _, first_ms = _derived_minute(services, opening_id)
    groups: dict[int, list[Quota]] = {}
    for quota in services.availability.select(program_id):
        at_ms = quota.terms.opens_at_ms
        is_in = first_ms is not None and first_ms <= at_ms < first_ms + MINUTE_MS
        if is_in and services.availability.opening_of(quota) is None:
            groups.setdefault(at_ms, []).append(quota)
    return groups[min(groups)] if groups else []


def _derived_minute(services: FrontServices, opening_id: str) -> tuple[str, int | None]:
    """Program and beginning of the minute that such an id names; None where it names none."""
    program_id, _, local = opening_id.rpartition("-")
    program = services.catalogue.program(program_id)
    if program is None or not _DERIVED.fullmatch(local):
        return program_id, None
    try:
        return program_id, int(datetime.fromisoformat(local).replace(tzinfo=program.zone).timestamp() * 1000)
    except (ValueError, OverflowError):
        return program_id, None
