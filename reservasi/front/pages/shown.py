"""Programs, offices and openings as the templates take them: everything in one language, times local."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from msgspec import UnsetType

from reservasi.front.bodies import OpeningBody
from reservasi.front.languages import Language, Text
from reservasi.front.pages.texts import SIZE, STATES, spelled, spelled_dates
from reservasi.programs import Office, Program, Service


@dataclass(frozen=True)
class ShownOpening:
    """An opening; what only a waiting room has is empty without one."""

    id: str
    opens_at: str
    opens_local: str
    ahead: bool
    state: str
    places: int
    size: str
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


@dataclass(frozen=True)
class ShownOffice:
    """An office with a calendar."""

    id: str
    name: str


@dataclass(frozen=True)
class ShownProgram:
    """A program with the openings that matter now."""

    id: str
    name: str
    demo: bool
    openings: list[ShownOpening]
    offices: list[ShownOffice]


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
        size=SIZE.to(language).format(body.places),
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
    )


def _names(known: Iterable[Office] | Iterable[Service], ids: Iterable[str], language: Language) -> list[str]:
    """Names in the order of the ids; what the program's file does not have any more keeps its id."""
    names = {each.id: Text(each.name.id, each.name.en).to(language) for each in known}
    return [names.get(id_, id_) for id_ in ids]


def shown_program(program: Program, bodies: Iterable[OpeningBody], language: Language) -> ShownProgram:
    """A program with those of the openings that are its own and not closed."""
    own = [body for body in bodies if body.program == program.id and body.state != "closed"]
    return ShownProgram(
        id=program.id,
        name=Text(program.name.id, program.name.en).to(language),
        demo=program.demo,
        openings=[shown_opening(body, program, language) for body in own],
        offices=shown_offices(program.offices, language),
    )


def shown_offices(offices: Iterable[Office], language: Language) -> list[ShownOffice]:
    """Offices in one language."""
    return [ShownOffice(office.id, Text(office.name.id, office.name.en).to(language)) for office in offices]
