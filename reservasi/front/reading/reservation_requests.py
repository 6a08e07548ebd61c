"""Reads and checks requests about reservations and quotas."""

import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from reservasi.front.api.bodies import (
    IDEMPOTENCY_KEY_CHARS_MAX,
    IDEMPOTENCY_KEY_PATTERN,
    QUOTA_CHARS_MAX,
    TICKET_CHARS_MAX,
)
from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import IDEMPOTENCY_KEY_MISSING, INVALID_REQUEST
from reservasi.front.api.problems import Finding, Refused
from reservasi.front.reading.emails import is_email, tidy_email
from reservasi.front.reading.field_checks import (
    APPLICANT,
    CLAIM,
    CONFIRM,
    CONTACT,
    QUOTA_CHANGE,
    check_name,
    check_nik,
    check_phone,
    is_past,
    parse_moment_ms,
    tidy_name,
)
from reservasi.front.reading.findings import Findings, Wrong, has_repeated_keys, read_json, read_object
from reservasi.front.reading.reasons import reason_of
from reservasi.model import APPLICANTS_MAX, SetQuota
from reservasi.nik import tidy_nik
from reservasi.reservations import Applicant, ClaimRequest, Contact
from reservasi.tidying import tidy_phone, tidy_ticket

_IDEMPOTENCY_KEY = re.compile(IDEMPOTENCY_KEY_PATTERN)


def idempotency_key(values: Sequence[str]) -> str:
    """The Idempotency-Key of a request, from all its header lines of that name."""
    if not values or not values[0].strip():
        raise Refused(IDEMPOTENCY_KEY_MISSING)
    key = values[0]
    if len(values) > 1 or len(key) > IDEMPOTENCY_KEY_CHARS_MAX or not _IDEMPOTENCY_KEY.fullmatch(key):
        raise Refused(
            INVALID_REQUEST,
            findings=(
                Finding(
                    "Idempotency-Key",
                    "idempotency-key-invalid",
                    Text(
                        f"Satu kunci, 1 sampai {IDEMPOTENCY_KEY_CHARS_MAX} karakter ASCII yang dapat dicetak.",
                        f"One key of 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters.",
                    ),
                ),
            ),
        )
    return key


class ClaimBodyReader:
    """Reads the body of a claim; `applicants_max` comes from the quota's program."""

    def __init__(self, body: bytes) -> None:
        self._findings = Findings()
        decoded = read_json(body, self._findings)
        self._claim: dict[str, Any] = {} if self._findings else read_object(decoded, CLAIM, "", self._findings)
        quota = self._claim.get("quota")
        self.quota = quota if type(quota) is str and len(quota) <= QUOTA_CHARS_MAX else ""  # not checked yet

    def read(self, applicants_max: int, key: str) -> ClaimRequest:
        """The validated request; refuses with every finding at once."""
        given = self._claim.get("applicants")
        applicants = self._read_applicants(given, min(applicants_max, APPLICANTS_MAX)) if type(given) is list else []
        contact = self._claim.get("contact")
        if type(contact) is dict:
            contact = read_object(contact, CONTACT, "/contact", self._findings)
        if self._findings:
            raise Refused(INVALID_REQUEST, findings=self._findings.all())
        return ClaimRequest(
            quota=self.quota,
            applicants=tuple(
                Applicant(nik=a["nik"], name=a["name"], birth_date=date.fromisoformat(a["birth_date"]))
                for a in applicants
            ),
            contact=Contact(**contact) if contact else Contact(),
            idempotency_key=key,
            ticket=self._claim.get("ticket", ""),
        )

    def _read_applicants(self, applicants: list[Any], applicants_max: int) -> list[dict[str, Any]]:
        if not 1 <= len(applicants) <= applicants_max:
            self._findings.add(
                "/applicants",
                Wrong(
                    "applicants-count",
                    Text(
                        f"Jumlah pemohon harus 1 sampai {applicants_max}.",
                        f"There must be 1 to {applicants_max} applicants.",
                    ),
                ),
            )
        first_seen: set[str] = set()
        read: list[dict[str, Any]] = []
        for index, applicant in enumerate(applicants[: APPLICANTS_MAX + 1]):
            read.append(read_object(applicant, APPLICANT, f"/applicants/{index}", self._findings))
            nik = read[-1].get("nik")
            if type(nik) is not str:
                continue
            if nik in first_seen:
                self._findings.add(f"/applicants/{index}/nik", _NIK_REPEATED)
            first_seen.add(nik)
        return read


_NIK_REPEATED = Wrong(
    "nik-repeated",
    Text("NIK ini sudah digunakan untuk pemohon lain.", "This NIK is already used for another applicant."),
)


def plain_claim(body: bytes, key: str) -> ClaimRequest | None:
    """A request without a fault, read quickly; None if `ClaimBodyReader` must report what is wrong.

    The caller, who knows the program and its quotas, checks the number of applicants and the quota.
    """
    try:
        claim = _decode_claim(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    applicants, ticket = claim.applicants, claim.ticket
    members = 2 + _APPLICANT_MEMBERS * len(applicants)
    if claim.contact is UNSET:
        contact: Contact | None = _NO_CONTACT
    else:
        members += 1 + _count_members(claim.contact)
        contact = _plain_contact(claim.contact)
    if ticket is UNSET:
        ticket = ""
    else:
        members += 1
        ticket = tidy_ticket(ticket) if ticket else ""
    # With as many colons as members there is no repeated key.
    if contact is None or (body.count(b":") != members and has_repeated_keys(body)):
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key) or len(key) > IDEMPOTENCY_KEY_CHARS_MAX:
        return None
    if len(claim.quota) > QUOTA_CHARS_MAX or len(ticket) > TICKET_CHARS_MAX:
        return None
    for applicant in applicants:
        if check_nik(applicant.nik) or check_name(applicant.name) or not is_past(applicant.birth_date):
            tidied = tuple(map(_tidied, applicants))
            if tidied == applicants:
                return None
            applicants = tidied
            break
    if applicants is not claim.applicants and not all(map(_is_sound, applicants)):
        return None
    if len(applicants) > 1 and len({applicant.nik for applicant in applicants}) < len(applicants):
        return None
    return ClaimRequest(quota=claim.quota, applicants=applicants, contact=contact, idempotency_key=key, ticket=ticket)


def _tidied(applicant: Applicant) -> Applicant:
    return msgspec.structs.replace(applicant, nik=tidy_nik(applicant.nik), name=tidy_name(applicant.name))


def _is_sound(applicant: Applicant) -> bool:
    return not (check_nik(applicant.nik) or check_name(applicant.name)) and is_past(applicant.birth_date)


def _plain_contact(contact: "_PlainContact | None") -> Contact | None:
    if contact is None:
        return _NO_CONTACT
    email, phone = contact.email or "", contact.phone or ""
    if email and not is_email(email):
        email = tidy_email(email)
        if email and not is_email(email):
            return None
    if phone and check_phone(phone):
        phone = tidy_phone(phone)
        if phone and check_phone(phone):
            return None
    return Contact(email=email, phone=phone)


def _count_members(contact: "_PlainContact | None") -> int:
    return 0 if contact is None else (contact.email is not UNSET) + (contact.phone is not UNSET)


_NO_CONTACT = Contact()


class _PlainContact(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    email: str | UnsetType | None = UNSET
    phone: str | UnsetType | None = UNSET


class _PlainClaim(msgspec.Struct, forbid_unknown_fields=True):
    quota: str
    applicants: Annotated[tuple[Applicant, ...], msgspec.Meta(min_length=1, max_length=APPLICANTS_MAX)]
    contact: _PlainContact | UnsetType | None = UNSET
    ticket: str | UnsetType | None = UNSET


_decode_claim = msgspec.json.Decoder(_PlainClaim).decode
_APPLICANT_MEMBERS = len(Applicant.__struct_fields__)


def read_confirm(body: bytes) -> str:
    """The payment reference in the body of a confirmation; "" if there is none."""
    if not body:
        return ""
    findings = Findings()
    decoded = read_json(body, findings)
    confirm = {} if findings else read_object(decoded, CONFIRM, "", findings)
    if findings:
        raise Refused(INVALID_REQUEST, findings=findings.all())
    return str(confirm.get("payment_reference", ""))


def read_quota_change(body: bytes, quota: str, version: int, actor: str = "") -> SetQuota:
    """The change that staff request; refuses with every finding at once."""
    findings = Findings()
    decoded = read_json(body, findings)
    change = {} if findings else read_object(decoded, QUOTA_CHANGE, "", findings)
    if not findings and not change.keys() - {"reason"}:
        findings.add("", Wrong("change-empty", Text("Isi paling sedikit satu kolom.", "Give at least one field.")))
    if findings:
        raise Refused(INVALID_REQUEST, findings=findings.all())
    return SetQuota(
        quota=quota,
        capacity=change.get("capacity"),
        opens_at_ms=_moment_ms(change, "opens_at"),
        closes_at_ms=_moment_ms(change, "closes_at"),
        closed=change.get("closed"),
        version=version,
        actor=actor,
        reason=reason_of(change),
    )


def _moment_ms(change: dict[str, Any], name: str) -> int | None:
    if name not in change:
        return None
    return 0 if change[name] is None else parse_moment_ms(change[name])
