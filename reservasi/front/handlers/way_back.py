"""Finding a live reservation without its token: what a person must prove, and what they get.

Rate-limited like claims: guessing a contact takes longer than a reservation lives.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec

from reservasi.front.api.answers import Answer, in_task, json_answer
from reservasi.front.api.bodies import ID_PATTERN, FoundBody
from reservasi.front.api.languages import Text
from reservasi.front.api.not_found import unknown_program
from reservasi.front.api.problem_catalogue import INVALID_REQUEST, NOT_FOUND, RECOVERING
from reservasi.front.api.problems import Refused
from reservasi.front.api.request import Request
from reservasi.front.deciding.front_context import Front
from reservasi.front.deciding.rate_limits import too_often
from reservasi.front.reading.field_checks import APPLICANT, CONTACT
from reservasi.front.reading.findings import NOT_AN_OBJECT, Field, Findings, Wrong, read_json, read_object, text_check
from reservasi.front.reading.request_parts import json_body
from reservasi.reservations import Contact, Proof

_NO_CONTACT = Text(
    "Isi alamat surel atau nomor telepon yang diberikan saat pemesanan.",
    "Give the e-mail address or the telephone number that was given with the claim.",
)
_NOTHING_PROVEN = msgspec.structs.replace(
    NOT_FOUND,
    detail=Text(
        "Tidak ada reservasi yang berlaku dengan NIK, tanggal lahir, dan kontak tersebut.",
        "No live reservation has this NIK, birth date and contact together.",
    ),
    next=Text(
        "Periksa kembali isian Anda. Kontak harus sama dengan yang diberikan saat pemesanan. Jika kontak tidak "
        "diberikan atau tidak diingat lagi, silakan datang ke kantor dengan membawa kartu identitas.",
        "Check what you sent: the contact must be the one that was given with the claim. If none was given or you no "
        "longer know it, go to the office with your identity card.",
    ),
)


def _check_contact(value: Any) -> Wrong | None:
    return None if type(value) is dict else Wrong("object-expected", NOT_AN_OBJECT)


_FIND: Mapping[str, Field] = {
    "program": Field(
        text_check("id", Text("Bentuk id tidak sah.", "This is not the form of an id."), pattern=ID_PATTERN[1:-1]),
        required=True,
    ),
    "nik": APPLICANT["nik"],
    "birth_date": APPLICANT["birth_date"],
    "contact": Field(_check_contact, required=True),
}


def read_proof(body: bytes) -> Proof:
    """The proof in the request; refuses with every finding at once."""
    findings = Findings()
    decoded = read_json(body, findings)
    read: dict[str, Any] = {} if findings else read_object(decoded, _FIND, "", findings)
    contact = read.get("contact")
    given: dict[str, Any] = {}
    if type(contact) is dict:
        given = read_object(contact, CONTACT, "/contact", findings)
        if not given and not findings:
            findings.add("/contact", Wrong("contact-missing", _NO_CONTACT))
    if findings:
        raise Refused(INVALID_REQUEST, findings=findings.all())
    born = date.fromisoformat(read["birth_date"])
    return Proof(program=read["program"], nik=read["nik"], birth_date=born, contact=Contact(**given))


@in_task
async def find(front: Front, request: Request) -> Answer:
    """`POST /v1/find`: the live reservation of a person who proves to be one of its applicants, and its token.

    The refusal is the same whichever part does not match, so that nobody learns who has a reservation.
    """
    services, proof = front.services, read_proof(json_body(request))
    if await services.catalogue.look_up(proof.program) is None:
        raise unknown_program(services.catalogue, proof.program) if services.catalogue.loaded else Refused(RECOVERING)
    wait_s = front.rates.people((services.reservations.person(proof.program, proof.nik),))
    if wait_s:
        raise too_often("person", wait_s)
    reservation_id = await services.reservations.live_reservation_of(proof)
    if reservation_id is None:
        raise Refused(_NOTHING_PROVEN)
    body = FoundBody(id=reservation_id, manage_token=services.reservations.manage_token(reservation_id))
    return json_answer(msgspec.json.encode(body))
