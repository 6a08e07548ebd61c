"""Openings as shown to the public: created ones, and moments at which other quotas open."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from reservasi.availability.groups import Group, GroupKey, Summary
from reservasi.front.api.bodies import DATES_MAX, OPENINGS_MAX, NextOpeningBody, OpeningBody, OpeningsBody
from reservasi.front.api.date_ranges import dates_of
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import NEVER_MS, AnswerCache, Made
from reservasi.front.views.filters import midnight_ms, today_in
from reservasi.front.views.opening_reasons import said_of_moves
from reservasi.front.views.quota_json import Encoded, encoded, moment
from reservasi.model import Opening
from reservasi.waiting_room.days import Days, days_between
from reservasi.waiting_room.state import OpeningState, Places, end_ms, ends_at_ms, state_of

NEXT_MAX = 3
NEXT_LOOKED_AT_MAX = 12  # candidates, some of which may be closed
VIEW_TURN_MS = 1000  # by which a single opening may be older than the list
MINUTE_MS = 60_000
_DERIVED = re.compile(r"([0-9]{8}T[0-9]{4})(?:([0-5][0-9])([0-9]{3})?)?")
SUGGESTIONS_REST_S = 0.25  # suggestions may be slightly older than decisions
_NOTHING = Summary(quotas=0, places=0, offices=[], services=[], dates=[])


def openings_view(services: FrontServices, cache: AnswerCache, filters: Mapping[str, str]) -> Encoded:
    """The openings that match the query parameters, with their quotas in one office or in all."""

    def make(now_ms: int) -> Made[Encoded]:
        listed = _matching(services, filters, now_ms)
        body = OpeningsBody(openings=listed.openings)
        if listed.more:
            body.more = True
        view = encoded(msgspec.json.encode(body))
        return Made(view, len(view.body), listed.turn_ms)

    return cache.answer(("openings", *sorted(filters.items())), make)


def list_openings(services: FrontServices, cache: AnswerCache, filters: Mapping[str, str]) -> list[OpeningBody]:
    """The same, not encoded; earliest first."""

    def make(now_ms: int) -> Made[list[OpeningBody]]:
        listed = _matching(services, filters, now_ms)
        return Made(listed.openings, 512 * len(listed.openings), listed.turn_ms)

    return cache.answer(("opening-list", *sorted(filters.items())), make)


def listed_opening(services: FrontServices, cache: AnswerCache, opening_id: str) -> OpeningBody | None:
    """One opening, past or future; None if there is none."""
    program = services.availability.program_of_opening(opening_id) or _program_of_derived(services, opening_id)
    if program is None:
        return None

    def make(now_ms: int) -> Made[OpeningBody | None]:
        created = services.availability.opening(opening_id, program)
        if created is None:
            group = _derived_group(services, program, opening_id)
            if group is None:
                return Made(None, 64, NEVER_MS)
            opens_at_ms = group.opens_at_ms
        else:
            opens_at_ms = created.terms.opens_at_ms
            group = _group(services, program, (opens_at_ms, opening_id))
        body = _body(services, program, opens_at_ms, group, created=created, now_ms=now_ms)
        return Made(body, 512, _turn_ms(services, program, group, created, now_ms))

    return cache.answer(("opening-body", opening_id), make)


def opening_view(services: FrontServices, cache: AnswerCache, opening_id: str) -> Encoded | None:
    """One opening, encoded; None if there is none."""
    body = listed_opening(services, cache, opening_id)
    if body is None:
        return None

    def make(now_ms: int) -> Made[Encoded]:
        view = encoded(msgspec.json.encode(body))
        return Made(view, len(view.body), now_ms + VIEW_TURN_MS)

    return cache.answer(("opening", opening_id), make)


def next_openings(services: FrontServices, cache: AnswerCache, program: str) -> list[OpeningBody]:
    """The program's next openings, earliest first, without those whose quotas are all closed."""

    def make(now_ms: int) -> Made[list[OpeningBody]]:
        openings = services.availability.openings(program)
        ahead = [o for o in openings if o.terms.opens_at_ms > now_ms and not o.cancelled]
        days = {program: Days(now_ms + 1, NEVER_MS)}
        listed = _listed(services, days, _by_key(program, ahead), None, now_ms, most=NEXT_LOOKED_AT_MAX)
        return Made([o for o in listed.openings if o.state != "closed"][:NEXT_MAX], 2048, listed.turn_ms)

    return cache.answer(("next-openings", program), make, SUGGESTIONS_REST_S)


def next_members(services: FrontServices, cache: AnswerCache, program: str) -> dict[str, object]:
    """The members of `not-open` and `sold-out` about the next openings."""

    def make(_now_ms: int) -> Made[dict[str, object]]:
        ahead = next_openings(services, cache, program)
        brief = [NextOpeningBody(id=o.id, opens_at=o.opens_at, joins_from=o.joins_from) for o in ahead]
        return Made({"next_openings": msgspec.Raw(msgspec.json.encode(brief))}, 512, NEVER_MS)

    return cache.answer(("next-members", program), make, SUGGESTIONS_REST_S)


def opening_places(services: FrontServices, program: str, opening: Opening, now_ms: int) -> Places:
    """What the opening's quotas allow; found without a scan, for every join."""
    group = _group(services, program, (opening.terms.opens_at_ms, opening.id))
    if group is None:
        return Places()
    return Places(closed=group.is_closed(now_ms), left=group.has_left(now_ms), end_ms=group.last_end_ms)


def opening_state(services: FrontServices, program: str, opening: Opening, now_ms: int) -> OpeningState:
    """The state of the opening and of its queue."""
    return state_of(opening, now_ms, opening_places(services, program, opening, now_ms))


def opening_turn_ms(services: FrontServices, program: str, opening: Opening, now_ms: int) -> int:
    """The next moment at which that state may change by the clock."""
    terms, places = opening.terms, opening_places(services, program, opening, now_ms)
    group = _group(services, program, (terms.opens_at_ms, opening.id))
    quotas_ms = NEVER_MS if group is None else group.turn_ms(now_ms)
    moments = (terms.joins_from_ms, terms.opens_at_ms, terms.ends_at_ms, end_ms(opening, places), quotas_ms)
    return min((at_ms for at_ms in moments if at_ms > now_ms), default=NEVER_MS)


def _is_told(opening: Opening, office: str | None) -> bool:
    """Whether it is listed without a quota in the office: a cancelled one, whose quotas may belong to another now."""
    offices = opening.terms.offices
    return office is None or (opening.cancelled and (not offices or office in offices))


class _Listed(NamedTuple):
    openings: list[OpeningBody]
    more: bool  # than one answer may have
    turn_ms: int  # the moment at which the list becomes outdated


def _matching(services: FrontServices, filters: Mapping[str, str], now_ms: int) -> _Listed:
    """Those that open, or whose waiting room runs, from the first date to the last; default: today and a year."""
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
    keys = [
        key
        for key, opening in created.items()
        if _is_told(opening, office) or _group(services, key[1], (key[0], key[2]), office) is not None
    ]
    for name, range_ in days.items():
        keys += itertools.islice(_moments(services, name, range_, office), most + 1)
    turns = [_turn_ms(services, key[1], None, opening, now_ms) for key, opening in created.items()]
    listed = []
    for key in sorted(keys)[:most]:
        at_ms, program, opening_id = key
        group, opening = _group(services, program, (at_ms, opening_id), office), created.get(key)
        listed.append(_body(services, program, at_ms, group, created=opening, now_ms=now_ms))
        turns.append(_turn_ms(services, program, group, opening, now_ms))
    return _Listed(listed, more=len(keys) > most, turn_ms=min(turns, default=NEVER_MS))


def _group(services: FrontServices, program: str, key: GroupKey, office: str | None = None) -> Group | None:
    """The quotas of an opening, or of a moment without one, for the public."""
    return services.availability.group(program, key, office, services.catalogue.public_channels(program))


def _moments(services: FrontServices, program: str, days: Days, office: str | None) -> Iterator["_Key"]:
    """The moments of quotas without an opening, in one office or in all, the earliest first."""
    for at_ms, opening_id in services.availability.groups_between(program, max(days.first_ms, 1), days.until_ms):
        if not opening_id and _group(services, program, (at_ms, ""), office) is not None:
            yield at_ms, program, ""


_Key: TypeAlias = tuple[int, str, str]  # moment, program, id; "" for quotas without an opening


def _by_key(program: str, openings: Iterable[Opening]) -> dict[_Key, Opening]:
    return {(opening.terms.opens_at_ms, program, opening.id): opening for opening in openings}


def _turn_ms(services: FrontServices, program: str, group: Group | None, created: Opening | None, now_ms: int) -> int:
    """The next moment at which the shown state of an opening may change by the clock."""
    turn_ms = NEVER_MS if group is None else group.turn_ms(now_ms)
    return turn_ms if created is None else min(turn_ms, opening_turn_ms(services, program, created, now_ms))


def _body(
    services: FrontServices,
    program_id: str,
    opens_at_ms: int,
    group: Group | None,
    *,
    created: Opening | None,
    now_ms: int,
) -> OpeningBody:
    is_cancelled = created is not None and created.cancelled  # its quotas were closed with it: show what it was for
    offered = _NOTHING if group is None else services.availability.summary(program_id, group, cancelled=is_cancelled)
    body = OpeningBody(
        id=created.id if created else _derived_id(services, program_id, opens_at_ms),
        program=program_id,
        opens_at=moment(opens_at_ms),
        state="closed" if group is None else group.state(now_ms),
        quotas=offered.quotas,
        places=offered.places,
        offices=offered.offices or (sorted(created.terms.offices) if created else []),
        services=offered.services,
        dates=offered.dates[:DATES_MAX],
    )
    if created:
        body.state = _state_of_queue(services, program_id, created, now_ms) or body.state
    if created and created.revision:
        body.revision, body.revised_at = created.revision, moment(created.revised_at_ms)
        said_of_moves(created, body)
    if created:
        body.waiting_room, body.proof_of_work = created.terms.waiting_room, created.terms.proof_of_work
        places = opening_places(services, program_id, created, now_ms)
        body.ends_at, body.commitment = moment(ends_at_ms(created, places)), created.terms.commitment
        body.joins_from = moment(created.terms.joins_from_ms)
    return body


def _state_of_queue(
    services: FrontServices, program: str, opening: Opening, now_ms: int
) -> Literal["cancelled", "ended", "paused"] | None:
    """The queue's state that replaces the state of the quotas; None if theirs is shown."""
    state = opening_state(services, program, opening, now_ms)
    return state if state in ("cancelled", "ended", "paused") else None


def _derived_id(services: FrontServices, program_id: str, opens_at_ms: int) -> str:
    """An id for a moment without a created opening; its capital letter distinguishes it from theirs.

    Seconds and milliseconds are in it if there are any, so that each moment has an id of its own.
    """
    program = services.catalogue.program(program_id)
    local = datetime.fromtimestamp(opens_at_ms / 1000, program.zone if program else ZoneInfo("UTC"))
    seconds = f"{local:%S}" if opens_at_ms % MINUTE_MS else ""
    ms = f"{opens_at_ms % 1000:03}" if opens_at_ms % 1000 else ""
    return f"{program_id}-{local:%Y%m%dT%H%M}{seconds}{ms}"


def _program_of_derived(services: FrontServices, opening_id: str) -> str | None:
    """The program of such an id, if any of its quotas opens then."""
    program_id, moments = _derived_moments(services, opening_id)
    if moments is None:
        return None
    groups = services.availability.groups_between(program_id, moments.first_ms, moments.until_ms)
    return program_id if next(groups, None) else None


def _derived_group(services: FrontServices, program_id: str, opening_id: str) -> Group | None:
    """The quotas of the first such moment, of those without a created opening."""
    _, moments = _derived_moments(services, opening_id)
    if moments is None:
        return None
    found = _moments(services, program_id, moments, None)
    return next((_group(services, program_id, (at_ms, "")) for at_ms, _, _ in found), None)


def _derived_moments(services: FrontServices, opening_id: str) -> tuple[str, Days | None]:
    """Program and moments of such an id: a minute, or one moment in it. None if it is malformed."""
    program_id, _, local = opening_id.rpartition("-")
    program, found = services.catalogue.program(program_id), _DERIVED.fullmatch(local)
    if program is None or found is None:
        return program_id, None
    minute, seconds, ms = found.groups()
    try:
        first_ms = int(datetime.fromisoformat(minute).replace(tzinfo=program.zone).timestamp() * 1000)
    except (ValueError, OverflowError):
        return program_id, None
    if seconds is None:
        return program_id, Days(first_ms, first_ms + MINUTE_MS)
    at_ms = first_ms + int(seconds) * 1000 + int(ms or 0)
    return program_id, Days(at_ms, at_ms + 1)
