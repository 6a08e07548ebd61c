"""Programs, offices and openings for the templates: all texts in one language, local times."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from msgspec import UnsetType

from reservasi.front.api.bodies import OpeningBody
from reservasi.front.api.languages import Language, Text
from reservasi.front.pages.texts import CALLED_OFF, MOVED, REASON, SIZE, SIZE_OF_ONE, STATES, spelled, spelled_dates
from reservasi.programs import Office, Program, Service


@dataclass(frozen=True)
class ShownOpening:
    """An opening; members of the waiting room are empty without one."""

    id: str
    opens_at: str
    opens_local: str
    ahead: bool
    state: str
    places: int
    size: str  # empty if it was cancelled and its quotas now belong to another opening
    waiting_room: bool
    proof_of_work: bool
    commitment: str
    joins_from: str
    joins_local: str
    ends_at: str
    ends_local: str
    dates: str
    offices: str
    services: str
    notice: str  # that it was moved or cancelled, and why


@dataclass(frozen=True)
class ShownOffice:
    """An office with a calendar."""

    id: str
    name: str


@dataclass(frozen=True)
class ShownProgram:
    """A program with its current openings."""

    id: str
    name: str
    demo: bool
    zone: str
    openings: list[ShownOpening]
    offices: list[ShownOffice]


def _size(body: OpeningBody, language: Language) -> str:
    if not body.quotas and body.state == "cancelled":
        return ""
    return (SIZE_OF_ONE if body.places == 1 else SIZE).to(language).format(body.places)


def shown_opening(body: OpeningBody, program: Program, language: Language) -> ShownOpening:
    """An opening in one language."""

    def local(at: str | UnsetType) -> str:
        return spelled(datetime.fromisoformat(at).astimezone(program.zone), language) if at else ""

    return ShownOpening(
        id=body.id,
        opens_at=body.opens_at,
        opens_local=local(body.opens_at),
        ahead=body.state == "not-open",
        state=STATES[body.state].to(language),
        places=body.places,
        size=_size(body, language),
        waiting_room=body.waiting_room,
        proof_of_work=body.proof_of_work is True,
        commitment=body.commitment or "",
        joins_from=body.joins_from or "",
        joins_local=local(body.joins_from),
        ends_at=body.ends_at or "",
        ends_local=local(body.ends_at),
        dates=spelled_dates(map(date.fromisoformat, body.dates), language),
        offices=", ".join(_names(program.offices, body.offices, language)),
        services=", ".join(_names(program.services, body.services, language)),
        notice=_notice(body, local(body.moved_from), language),
    )


def _names(named: Iterable[Office] | Iterable[Service], ids: Iterable[str], language: Language) -> list[str]:
    """Names in the order of the ids; an id that the program no longer has stays."""
    names = {each.id: Text(each.name.id, each.name.en).to(language) for each in named}
    return [names.get(id_, id_) for id_ in ids]


def shown_program(program: Program, bodies: Iterable[OpeningBody], language: Language, now_ms: int = 0) -> ShownProgram:
    """A program with those of the openings that belong to it and are not over."""
    own = [body for body in bodies if body.program == program.id and not _is_over(body, now_ms)]
    return ShownProgram(
        id=program.id,
        name=Text(program.name.id, program.name.en).to(language),
        demo=program.demo,
        zone=program.timezone,
        openings=[shown_opening(body, program, language) for body in own],
        offices=shown_offices(program.offices, language),
    )


def shown_offices(offices: Iterable[Office], language: Language) -> list[ShownOffice]:
    """Offices in one language."""
    return [ShownOffice(office.id, Text(office.name.id, office.name.en).to(language)) for office in offices]


def _is_over(body: OpeningBody, now_ms: int) -> bool:
    """Whether it is over. A cancelled opening is shown until its moment, for those who wait for it."""
    if body.state == "cancelled":
        return datetime.fromisoformat(body.opens_at).timestamp() * 1000 < now_ms
    return body.state == "closed"


def _notice(body: OpeningBody, moved_from: str, language: Language) -> str:
    reason = Text(body.reason or "", body.reason_en or body.reason or "").to(language)
    if body.state == "cancelled":
        return CALLED_OFF.to(language).format(reason)
    if not moved_from:
        return ""
    notice = MOVED.to(language).format(moved_from)
    return f"{notice} {REASON.to(language).format(reason)}" if reason else notice
