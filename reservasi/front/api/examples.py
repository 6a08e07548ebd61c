"""Examples of whole bodies for the OpenAPI document, generated from their schemas, so that they are always current."""

from collections.abc import Mapping
from typing import Any

from reservasi.front.api.problem_type import ProblemType

REFERENCE = "#/components/schemas/"
DEPTH_MAX = 12  # much deeper than any body

# By body and member, if the schema's own example does not fit the whole.
BY_MEMBER: Mapping[str, Any] = {
    "AdmissionStateBody.id": "surabaya-20261127-1400",
    "AuditBody.next": "1-4711",
    "AuditedChangeBody.opening": "surabaya-20261127-1400",
    "AuditedChangeBody.reservation": "abcdefghijklmnopqrstuvwxyz",
    "ChannelBody.id": "online",
    "ChannelBody.name": {"id": "Daring", "en": "Online"},
    "ChannelBody.public": True,
    "ClaimedBody.hold_expires_at": "2026-11-27T09:00:03Z",
    "ErrorBody.detail": "A NIK has 16 digits.",
    "NamedBody.id": "baru",
    "NextOpeningBody.id": "surabaya-20261127-1400",
    "OfficeBody.id": "kanim",
    "OfficeBody.name": {"id": "Kantor Imigrasi Surabaya", "en": "Surabaya Immigration Office"},
    "OfficeBody.services": ["baru"],
    "OpeningBody.ends_at": "2026-11-27T09:00:00Z",
    "OpeningBody.joins_from": "2026-11-27T06:30:00Z",
    "OpeningBody.offices": ["kanim"],
    "OpeningBody.places": 520,
    "OpeningBody.state": "not-open",
    "OpeningBody.waiting_room": True,
    "OpeningRequestBody.adaptive": True,
    "OpeningRequestBody.ends_at": "2026-11-27T09:00:00Z",
    "OpeningRequestBody.id": "surabaya-20261127-1400",
    "OpeningRequestBody.joins_from": "2026-11-27T06:30:00Z",
    "OpeningRequestBody.to": "2026-12-05",
    "OpeningRequestBody.waiting_room": True,
    "ProblemTypeBody.status": 409,
    "ProgramBody.applicants_max": 5,
    "ProgramBody.id": "surabaya",
    "ProgramBody.name": {"id": "Antrean paspor Surabaya", "en": "Surabaya passport queue"},
    "QueueBody.ends_at": "2026-11-27T09:00:00Z",
    "QueueBody.id": "surabaya-20261127-1400",
    "QueueBody.joins_from": "2026-11-27T06:30:00Z",
    "QueueBody.state": "open",
    "OpeningBody.dates": ["2026-12-01"],
    "OpeningBody.services": ["baru"],
    "QuotaBody.state": "open",
    "QuotaChangeBody.closes_at": "2026-12-01T01:00:00Z",
    "ReservationBody.hold_expires_at": "2026-11-27T09:00:03Z",
    "ReservationBody.status": "confirmed",
    "StaffQuotaBody.closes_at": "2026-12-01T01:00:00Z",
    "StaffQuotaBody.state": "open",
    "TextBody.id": "Paspor baru",
    "WaitingRoomRequiredProblem.reason": "ticket-missing",
}
# By the name of a member, if the schema has neither an example nor a choice.
BY_NAME: Mapping[str, Any] = {
    "address": "Jl. Raya Juanda Km 3-4, Sidoarjo",
    "applicant": "/applicants/0",
    "altcha": "eyJhbGdvcml0aG0iOiJTSEEtMjU2In0=",
    "arrived": 1250,
    "admitted_through": 600,
    "beacon": "2026-12-01:drand:3a7f",
    "capacity": 10,
    "channel": "online",
    "code": "nik-invalid",
    "commitment": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "confirmed": 3,
    "date": "2026-12-01",
    "detail": "What happened.",
    "en": "New passport",
    "end": "08:30",
    "held": 1,
    "hold_s": 7200,
    "hours": {"mon": {"open": "08:00", "close": "15:00", "break_start": "12:00", "break_end": "13:00"}},
    "id": "abcdefghijklmnopqrstuvwxyz",
    "joined": 1200,
    "latitude": -7.3797,
    "longitude": 112.7633,
    "manage_token": "Zm9yIGFuIGV4YW1wbGUgb25seQ",
    "next": "What to do next.",
    "number": 417,
    "office": "kanim",
    "opening": "surabaya-20261127-1400",
    "pointer": "/applicants/0/nik",
    "program": "surabaya",
    "overlaps": "surabaya.kanim.baru.20261201.0830.online",
    "places": 2,
    "programs": "surabaya",
    "quota": "surabaya.kanim.baru.20261201.0800.online",
    "rate_per_min": 600,
    "rate_max_per_min": 6000,
    "reason": "Pemadaman listrik",
    "reason_en": "Power cut",
    "remaining": 6,
    "reservation": "abcdefghijklmnopqrstuvwxyz",
    "request_id": "0b7c3a526f0e4a569d4e1f3c8f1f2a10",
    "returning": 0,
    "seed": "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
    "scope": "quotas",
    "service": "baru",
    "start": "08:00",
    "state": "cancelled",
    "taken": 4,
    "ticket": "eyJhbGciOiJIUzI1NiJ9.eyJ0IjoiYSJ9.c2lnbmF0dXJl",
    "ticket_id": "k3v9q2x8m4t7r5w1",
    "title": "A short title",
    "type": "/problems/sold-out",
    "version": 3,
}
BY_TYPE: Mapping[str, Any] = {"integer": 1, "number": 1.0, "boolean": False, "null": None}
BY_FORMAT: Mapping[str, str] = {"date": "2026-12-01", "date-time": "2026-11-27T07:00:00Z"}


# What stands in the place of a word in the texts of problems; an address keeps its `{id}`.
WORDS: Mapping[str, str] = {
    "cancel_until": "30 Nov 2026 17:00 WIB",
    "expires_at": "2026-11-27T07:00:00Z",
    "reason": "Pemadaman listrik",
    "revoked_at": "2026-11-27T07:00:00Z",
    "scope": "quotas",
    "state": "cancelled",
    "what": "the header `Cookie`",
}
WHY: Mapping[str, str] = {"opening-fixed": "it was cancelled.", "waiting-room-required": "The ticket is missing."}


class NoExample(LookupError):
    """A text whose schema has no example, and whose name has none either: add one to `BY_NAME`."""


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """A value that fits the schema; optional members are included if they have an example.

    Raises:
        NoExample: a required text has none.
    """
    if depth > DEPTH_MAX:
        raise NoExample(f"{name}: nested deeper than {DEPTH_MAX}")
    for source in (schema.get("examples"), schema.get("enum")):
        if source:
            return source[0]
    for source in ("const", "default"):
        if source in schema and schema[source] is not None:
            return schema[source]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].removeprefix(REFERENCE)], schemas, name, depth + 1)
    for branches in ("anyOf", "oneOf"):
        if branches in schema:
            return example_of(schema[branches][0], schemas, name, depth + 1)
    if "properties" in schema:
        return _members(schema, schemas, depth)
    return _plain(schema, schemas, name, depth)


def problem_example(kind: ProblemType, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """A refusal in English with all members that its type may have, if they have an example."""
    texts = {"title": kind.title.en, "detail": kind.detail.en, "next": kind.next.en}
    for word, shown in {**WORDS, "why": WHY.get(kind.name, "")}.items():
        texts = {member: text.replace(f"{{{word}}}", shown) for member, text in texts.items()}
    return {**_members(schema, schemas, depth=0), **texts}


def _members(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int) -> dict[str, Any]:
    required, members = set(schema.get("required", ())), {}
    for name, member in schema["properties"].items():
        try:
            shown = BY_MEMBER.get(f"{schema.get('title')}.{name}")
            members[name] = example_of(member, schemas, name, depth + 1) if shown is None else shown
        except NoExample:
            if name in required:
                raise
    return members


def _plain(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str, depth: int) -> Any:
    kind = schema.get("type", "")
    if kind == "array":
        return [example_of(schema["items"], schemas, name, depth + 1)] if schema.get("items") else []
    if (shown := BY_FORMAT.get(schema.get("format", ""))) is not None:
        return shown
    if name in BY_NAME:
        return BY_NAME[name]
    if kind in BY_TYPE:
        return schema.get("minimum", BY_TYPE[kind])
    raise NoExample(f"{name or schema}: no example")
