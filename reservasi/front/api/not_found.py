"""What there is not: a program, an office, an opening or a reservation, each named with what there is instead.

What was asked for is repeated only where it looks like an id and has too few digits to be a part of somebody's number.
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
_DIGITS_MAX = 5  # the first six of a NIK are somebody's district
_NAMEABLE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_PROGRAM = Text("program", "program")
_OFFICE = Text("kantor", "office")
_SERVICE = Text("layanan", "service")
_CHANNEL = Text("kanal", "channel")
_NOWHERE = Text("", "")
_UNKNOWN = msgspec.structs.replace(
    NOT_FOUND,
    detail=Text("{what}", "{what}"),
    next=Text("Pilih salah satu yang ada, lalu kirim lagi.", "Choose one that exists and send it again."),
)
UNKNOWN_OPENING = msgspec.structs.replace(
    NOT_FOUND,
    detail=Text("Tidak ada pembukaan dengan id ini.", "There is no opening with this id."),
    next=Text(
        "Periksa id-nya, atau pilih pembukaan dari GET /v1/openings (halamannya: /openings).",
        "Check the id, or choose an opening from GET /v1/openings (as a page: /openings).",
    ),
)
NOT_CREATED = msgspec.structs.replace(
    NOT_FOUND,
    detail=Text("Tidak ada pembukaan yang dibuat dengan id ini.", "No opening was created with this id."),
    next=Text(
        "Periksa id-nya, atau pilih pembukaan yang mempunyai `joins_from` di GET /v1/openings: "
        "waktu buka kuota biasa tidak punya antrean.",
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
        "Periksa id-nya: 26 huruf kecil dan angka, seperti dalam jawaban atas pemesanan.",
        "Check the id: 26 small letters and digits, as the answer to the claim gave it.",
    ),
)


def unknown_program(catalogue: Catalogue, program: str) -> Refused:
    """The refusal of a program that there is not."""
    return Refused(_UNKNOWN, words={"what": no_program(catalogue, program)})


def unknown_office(program: Program, office: str) -> Refused:
    """The refusal of an office that the program does not have."""
    return Refused(_UNKNOWN, words={"what": no_office(program, office)})


def no_program(catalogue: Catalogue, program: str) -> Text:
    """That there is no such program, and which there are."""
    text = _none_such(_PROGRAM, program)
    return _listing(text, [each.id for each in catalogue.programs()], "GET /v1/programs")


def no_office(program: Program, office: str) -> Text:
    """That the program has no such office, and which it has."""
    return _none_of(program, _OFFICE, office, [each.id for each in program.offices], "GET /v1/offices")


def nothing_matches(
    program: Program, offices: Iterable[str], otherwise: Text, *, service: str | None = None, channel: str | None = None
) -> Text:
    """Why no quota matches: the first of these names that the program does not have, or what the caller says."""
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


def _none_of(program: Program, kind: Text, asked: str, there: list[str], all_at: str) -> Text:
    where = Text(f" dalam program `{program.id}`", f" in the program `{program.id}`")
    return _listing(_none_such(kind, asked, where), there, all_at)


def _none_such(kind: Text, asked: str, where: Text = _NOWHERE) -> Text:
    if not _NAMEABLE.fullmatch(asked) or sum(map(str.isdigit, asked)) > _DIGITS_MAX:
        return Text(f"{kind.id.capitalize()} itu tidak ada{where.id}.", f"There is no such {kind.en}{where.en}.")
    return Text(f"Tidak ada {kind.id} `{asked}`{where.id}.", f"There is no {kind.en} `{asked}`{where.en}.")


def _listing(text: Text, there: list[str], all_at: str) -> Text:
    if not there:
        return text
    listed = ", ".join(f"`{each}`" for each in there[:LISTED_MAX])
    if len(there) > LISTED_MAX:
        return Text(
            f"{text.id} Ada {len(there)}, antara lain: {listed}; semuanya di {all_at}.",
            f"{text.en} There are {len(there)}, among them: {listed}; all of them at {all_at}.",
        )
    return Text(
        f"{text.id} Yang ada: {listed}.",
        f"{text.en} There is: {listed}." if len(there) == 1 else f"{text.en} There are: {listed}.",
    )
