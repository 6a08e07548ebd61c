"""Refusals of unknown programs, offices, openings and reservations, with the existing ones.

The requested id is repeated only if it looks like an id and has too few digits to be part of a person's number.
"""

import re
from collections.abc import Iterable

import msgspec

from reservasi.catalogue import Catalogue
from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import NOT_FOUND
from reservasi.front.api.problems import Refused
from reservasi.programs import Program

LISTED_MAX = 20  # ids in one text
_DIGITS_MAX = 5  # the first six digits of a NIK identify a district
_NAMEABLE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_PROGRAM = Text("program", "program")
_OFFICE = Text("kantor", "office")
_SERVICE = Text("layanan", "service")
_CHANNEL = Text("kanal", "channel")
_NOWHERE = Text("", "")
_UNKNOWN = msgspec.structs.replace(
    NOT_FOUND,
    detail=Text("{what}", "{what}"),
    next=Text("Pilih salah satu yang tersedia, lalu kirim kembali.", "Choose one that exists and send it again."),
)
UNKNOWN_OPENING = msgspec.structs.replace(
    NOT_FOUND,
    detail=Text("Tidak ada pembukaan dengan id ini.", "There is no opening with this id."),
    next=Text(
        "Periksa kembali id tersebut, atau pilih pembukaan dari GET /v1/openings (halaman: /openings).",
        "Check the id, or choose an opening from GET /v1/openings (as a page: /openings).",
    ),
)
NOT_CREATED = msgspec.structs.replace(
    NOT_FOUND,
    detail=Text("Tidak ada pembukaan yang dibuat dengan id ini.", "No opening was created with this id."),
    next=Text(
        "Periksa kembali id tersebut, atau pilih pembukaan yang memiliki `joins_from` di GET /v1/openings. Waktu buka "
        "kuota lainnya tidak memiliki antrean.",
        "Check the id, or choose an opening that has `joins_from` in GET /v1/openings: the moments at which other "
        "quotas open have no queue.",
    ),
)
UNKNOWN_RESERVATION = msgspec.structs.replace(
    NOT_FOUND,
    detail=Text(
        "Tidak ada reservasi dengan id ini yang masih dapat diakhiri.",
        "There is no reservation with this id that can still be ended.",
    ),
    next=Text(
        "Periksa kembali id tersebut: 26 huruf kecil dan angka, sesuai jawaban saat pemesanan.",
        "Check the id: 26 lower-case letters and digits, as returned by the claim.",
    ),
)


def unknown_program(catalogue: Catalogue, program: str) -> Refused:
    """The refusal of an unknown program."""
    return Refused(_UNKNOWN, words={"what": no_program(catalogue, program)})


def unknown_office(program: Program, office: str) -> Refused:
    """The refusal of an office that the program does not have."""
    return Refused(_UNKNOWN, words={"what": no_office(program, office)})


def no_program(catalogue: Catalogue, program: str) -> Text:
    """The text for an unknown program, with the existing ones."""
    text = _none_such(_PROGRAM, program)
    return _listing(text, [each.id for each in catalogue.programs()], "GET /v1/programs")


def no_office(program: Program, office: str) -> Text:
    """The text for an office that the program does not have, with those that it has."""
    return _none_of(program, _OFFICE, office, [each.id for each in program.offices], "GET /v1/offices")


def nothing_matches(
    program: Program, offices: Iterable[str], otherwise: Text, *, service: str | None = None, channel: str | None = None
) -> Text:
    """Why no quota matches: the first name that the program does not have, or the caller's text."""
    unknown = next((each for each in offices if program.office(each) is None), None)
    if unknown is not None:
        return no_office(program, unknown)
    services = [each.id for each in program.services]
    if service is not None and service not in services:
        return _none_of(program, _SERVICE, service, services, "GET /v1/programs")
    channels = [each.id for each in program.channels]
    if channel is not None and channel not in channels:
        return _none_of(program, _CHANNEL, channel, channels, "GET /v1/programs")
    return otherwise


def _none_of(program: Program, kind: Text, name: str, there: list[str], all_at: str) -> Text:
    where = Text(f" dalam program `{program.id}`", f" in the program `{program.id}`")
    return _listing(_none_such(kind, name, where), there, all_at)


def _none_such(kind: Text, name: str, where: Text = _NOWHERE) -> Text:
    if not _NAMEABLE.fullmatch(name) or sum(map(str.isdigit, name)) > _DIGITS_MAX:
        return Text(f"{kind.id.capitalize()} itu tidak ada{where.id}.", f"There is no such {kind.en}{where.en}.")
    return Text(f"Tidak ada {kind.id} `{name}`{where.id}.", f"There is no {kind.en} `{name}`{where.en}.")


def _listing(text: Text, there: list[str], all_at: str) -> Text:
    if not there:
        return text
    listed = ", ".join(f"`{each}`" for each in there[:LISTED_MAX])
    if len(there) > LISTED_MAX:
        return Text(
            f"{text.id} Ada {len(there)}, antara lain: {listed}; daftar lengkap di {all_at}.",
            f"{text.en} There are {len(there)}, including {listed}; the full list is at {all_at}.",
        )
    return Text(
        f"{text.id} Yang tersedia: {listed}.",
        f"{text.en} There is: {listed}." if len(there) == 1 else f"{text.en} There are: {listed}.",
    )
