"""Reads and checks requests about openings and their waiting rooms."""

from typing import Any

import msgspec

from reservasi.front.api.bodies import ID_PATTERN
from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import INVALID_REQUEST
from reservasi.front.api.problems import Refused
from reservasi.front.api.waiting_bodies import ALTCHA_CHARS_MAX, NEW_OPENING_PATTERN, RATE_PER_MIN_MAX
from reservasi.front.reading.field_checks import check_birth_date, check_date_parameter, check_nik, parse_moment_ms
from reservasi.front.reading.findings import (
    NOT_AN_ARRAY,
    NOT_TEXT,
    NULL,
    NULL_OR_EMPTY,
    Check,
    Field,
    Findings,
    Wrong,
    has_repeated_keys,
    read_json,
    read_object,
    text_check,
)
from reservasi.front.reading.reasons import REASON, reason_of
from reservasi.model import MoveOpening
from reservasi.nik import tidy_nik
from reservasi.programs import OFFICES_MAX
from reservasi.reasons import tidy_reason
from reservasi.tidying import tidy_date
from reservasi.waiting_room.draw import BEACON_CHARS_MAX, BEACON_PATTERN, tidy_beacon

_NOT_A_FLAG = Text("Harus true atau false.", "Must be true or false.")


class JoinRequest(msgspec.Struct, frozen=True):
    """A person who joins, validated."""

    nik: str
    altcha: str = ""  # "" if there is none


class OpeningRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A new opening, validated; None for what is not given."""

    program: str
    opens_at_ms: int
    first: str
    last: str
    id: str | None
    joins_from_ms: int | None
    ends_at_ms: int | None
    waiting_room: bool
    proof_of_work: bool | None
    rate_per_min: int | None
    rate_max_per_min: int | None
    adaptive: bool | None
    offices: tuple[str, ...]  # empty: all
    service: str | None
    channel: str | None
    beacon_source: str  # "" if none is given
    reason: str


def _check_altcha(value: Any) -> Wrong | None:
    if type(value) is not str:
        return Wrong("altcha-type", NOT_TEXT)
    if len(value) > ALTCHA_CHARS_MAX:
        text = Text(
            f"Jawaban paling banyak {ALTCHA_CHARS_MAX} karakter.",
            f"A solution has at most {ALTCHA_CHARS_MAX} characters.",
        )
        return Wrong("altcha-length", text)
    return None


def _check_moment(value: Any) -> Wrong | None:
    if type(value) is str and parse_moment_ms(value) is not None:
        return None
    return Wrong(
        "time-invalid",
        Text(
            "Waktu harus sesuai kalender, tahun 2000-2099, dan ditulis menurut RFC 3339 dengan zona.",
            "The time must exist, be in 2000-2099, and be written as in RFC 3339 with its offset.",
        ),
    )


def _check_date(value: Any) -> Wrong | None:
    return check_date_parameter(value) if type(value) is str else Wrong("date-type", NOT_TEXT)


def _check_flag(value: Any) -> Wrong | None:
    return None if type(value) is bool else Wrong("flag-type", _NOT_A_FLAG)


def _check_rate(least: int) -> Check:
    def check(value: Any) -> Wrong | None:
        if type(value) is int and least <= value <= RATE_PER_MIN_MAX:
            return None
        text = Text(
            f"Harus bilangan bulat {least} sampai {RATE_PER_MIN_MAX}.",
            f"Must be an integer of {least} to {RATE_PER_MIN_MAX}.",
        )
        return Wrong("rate-range", text)

    return check


_check_id = text_check("id", Text("Bentuk id tidak sah.", "This is not the form of an id."), pattern=ID_PATTERN[1:-1])


def _check_offices(value: Any) -> Wrong | None:
    if type(value) is not list:
        return Wrong("offices-type", NOT_AN_ARRAY)
    if not 1 <= len(value) <= OFFICES_MAX or any(_check_id(each) for each in value) or len(set(value)) < len(value):
        text = Text(f"1 sampai {OFFICES_MAX} id kantor yang berbeda.", f"1 to {OFFICES_MAX} different office ids.")
        return Wrong("offices-invalid", text)
    return None


JOIN = {
    "nik": Field(check_nik, required=True, tidy=tidy_nik),
    "birth_date": Field(check_birth_date, required=True, tidy=tidy_date),
    "altcha": Field(_check_altcha, left_out=NULL_OR_EMPTY),
}
OPENING = {
    "program": Field(_check_id, required=True),
    "opens_at": Field(_check_moment, required=True),
    "from": Field(_check_date, required=True),
    "to": Field(_check_date, required=True),
    "id": Field(
        text_check(
            "opening-id",
            Text(
                "Id pembukaan: 2 sampai 64 huruf a-z, angka, dan -.", "An opening's id has 2 to 64 of a-z, 0-9 and -."
            ),
            pattern=NEW_OPENING_PATTERN[1:-1],
        ),
        left_out=NULL,
    ),
    "joins_from": Field(_check_moment, left_out=NULL),
    "ends_at": Field(_check_moment, left_out=NULL),
    "waiting_room": Field(_check_flag, left_out=NULL),
    "proof_of_work": Field(_check_flag, left_out=NULL),
    "rate_per_min": Field(_check_rate(1), left_out=NULL),
    "rate_max_per_min": Field(_check_rate(1), left_out=NULL),
    "adaptive": Field(_check_flag, left_out=NULL),
    "office": Field(_check_id, left_out=NULL),
    "offices": Field(_check_offices, left_out=NULL),
    "service": Field(_check_id, left_out=NULL),
    "channel": Field(_check_id, left_out=NULL),
    "beacon_source": REASON,  # the same kind of text
    "reason": REASON,
}
ADMISSION = {
    "paused": Field(_check_flag, left_out=NULL),
    "rate_per_min": Field(_check_rate(0), left_out=NULL),
    "reason": REASON,
}


MOVE = {
    "opens_at": Field(_check_moment, left_out=NULL),
    "ends_at": Field(_check_moment, left_out=NULL),
    "cancelled": Field(_check_flag, left_out=NULL),
    "reason": REASON,
    "reason_en": REASON,
}
BEACON = {
    "reason": REASON,
    "value": Field(
        text_check(
            "beacon",
            Text(
                f"Nilai: 1 sampai {BEACON_CHARS_MAX} karakter ASCII tanpa spasi.",
                f"A value has 1 to {BEACON_CHARS_MAX} ASCII characters, no spaces.",
            ),
            pattern=BEACON_PATTERN,
        ),
        required=True,
        tidy=tidy_beacon,
    ),
}


def _read(body: bytes, fields: dict[str, Field], findings: Findings) -> dict[str, Any]:
    decoded = read_json(body, findings)
    return {} if findings else read_object(decoded, fields, "", findings)


def read_join(body: bytes) -> JoinRequest:
    """The person of a join; refuses with every finding at once."""
    findings = Findings()
    join = _read(body, JOIN, findings)
    if findings:
        raise Refused(INVALID_REQUEST, findings=findings.all())
    return JoinRequest(join["nik"], join.get("altcha", ""))


class _PlainJoin(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    nik: str
    birth_date: str


_decode_join = msgspec.json.Decoder(_PlainJoin).decode
_JOIN_MEMBERS = 2  # a body with no more colons has no repeated key


def plain_join(body: bytes) -> JoinRequest | None:
    """A join without a fault and without a proof of work; None if `read_join` must read it."""
    try:
        join = _decode_join(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    nik = join.nik
    if check_nik(nik):
        nik = tidy_nik(nik)
        if check_nik(nik):
            return None
    if check_birth_date(join.birth_date) and check_birth_date(tidy_date(join.birth_date)):
        return None
    if body.count(b":") != _JOIN_MEMBERS and has_repeated_keys(body):
        return None
    return JoinRequest(nik)


def read_opening(body: bytes, now_ms: int) -> OpeningRequest:
    """The opening that staff request; refuses with every finding at once."""
    findings = Findings()
    wanted = _read(body, OPENING, findings)
    if not findings:
        _check_together(wanted, now_ms, findings)
    if findings:
        raise Refused(INVALID_REQUEST, findings=findings.all())
    names = ("id", "proof_of_work", "rate_per_min", "rate_max_per_min", "adaptive", "service", "channel")
    return OpeningRequest(
        program=wanted["program"],
        opens_at_ms=parse_moment_ms(wanted["opens_at"]) or 0,
        first=wanted["from"],
        last=wanted["to"],
        waiting_room=wanted.get("waiting_room", True),
        joins_from_ms=_moment_ms(wanted, "joins_from"),
        ends_at_ms=_moment_ms(wanted, "ends_at"),
        offices=tuple(sorted(wanted.get("offices", [wanted["office"]] if "office" in wanted else []))),
        beacon_source=tidy_reason(wanted.get("beacon_source") or ""),
        reason=reason_of(wanted),
        **{name: wanted.get(name) for name in names},
    )


def _moment_ms(wanted: dict[str, Any], name: str) -> int | None:
    return parse_moment_ms(wanted[name]) if name in wanted else None


def _check_together(wanted: dict[str, Any], now_ms: int, findings: Findings) -> None:
    """Checks of fields in combination."""
    opens_at_ms = parse_moment_ms(wanted["opens_at"]) or 0
    joins_from_ms = parse_moment_ms(wanted.get("joins_from", "")) or 0
    ends_at_ms = parse_moment_ms(wanted.get("ends_at", ""))
    if opens_at_ms <= now_ms:
        findings.add("/opens_at", Wrong("in-the-past", Text("Waktu ini sudah lewat.", "This time has passed.")))
    if joins_from_ms > opens_at_ms:
        text = Text("Tidak boleh sesudah `opens_at`.", "Must not lie after `opens_at`.")
        findings.add("/joins_from", Wrong("after-the-opening", text))
    if ends_at_ms is not None and ends_at_ms <= opens_at_ms:
        text = Text("Harus sesudah `opens_at`.", "Must lie after `opens_at`.")
        findings.add("/ends_at", Wrong("before-the-opening", text))
    if wanted["from"] > wanted["to"]:
        text = Text("`from` tidak boleh sesudah `to`.", "`from` must not lie after `to`.")
        findings.add("/from", Wrong("dates-reversed", text))
    if "office" in wanted and "offices" in wanted:
        text = Text("Isi `office` atau `offices`, jangan keduanya.", "Give `office` or `offices`, not both.")
        findings.add("/offices", Wrong("given-twice", text))
    if not wanted.get("id", f"{wanted['program']}-").startswith(f"{wanted['program']}-"):
        text = Text("Harus diawali id program dan tanda hubung.", "Must begin with the program's id and a hyphen.")
        findings.add("/id", Wrong("id-prefix", text))


def read_admission(body: bytes) -> tuple[bool | None, int | None, str]:
    """Whether to pause, and the rate (None: unchanged), and the reason."""
    findings = Findings()
    change = _read(body, ADMISSION, findings)
    if not findings and not change.keys() - {"reason"}:
        findings.add("", Wrong("change-empty", Text("Isi paling sedikit satu kolom.", "Give at least one field.")))
    if findings:
        raise Refused(INVALID_REQUEST, findings=findings.all())
    return change.get("paused"), change.get("rate_per_min"), reason_of(change)


def read_beacon(body: bytes) -> tuple[str, str]:
    """The outside value, and the reason."""
    findings = Findings()
    beacon = _read(body, BEACON, findings)
    if findings:
        raise Refused(INVALID_REQUEST, findings=findings.all())
    return str(beacon["value"]), reason_of(beacon)


def read_move(body: bytes, opening: str, version: int, actor: str = "") -> MoveOpening:
    """The change of an opening that staff request."""
    findings = Findings()
    change = _read(body, MOVE, findings)
    if not findings:
        _check_move(change, findings)
    if findings:
        raise Refused(INVALID_REQUEST, findings=findings.all())
    return MoveOpening(
        opening=opening,
        opens_at_ms=_moment_ms(change, "opens_at"),
        ends_at_ms=_moment_ms(change, "ends_at"),
        cancelled=change.get("cancelled"),
        reason=reason_of(change),
        reason_en=tidy_reason(change.get("reason_en") or ""),
        version=version,
        actor=actor,
    )


def _check_move(change: dict[str, Any], findings: Findings) -> None:
    """Checks of fields in combination."""
    if not change.keys() & {"opens_at", "ends_at", "cancelled"}:
        text = Text("Sebutkan `opens_at`, `ends_at`, atau `cancelled`.", "Name `opens_at`, `ends_at` or `cancelled`.")
        findings.add("", Wrong("change-empty", text))
    if change.get("cancelled") and change.keys() & {"opens_at", "ends_at"}:
        text = Text(
            "Pembukaan yang dibatalkan tidak dapat dipindahkan.", "A cancelled opening cannot be moved as well."
        )
        findings.add("/cancelled", Wrong("cancelled-alone", text))
    if change.get("cancelled") and not reason_of(change):
        text = Text("Isi alasan, yang ditampilkan kepada masyarakat.", "Give the reason, which is shown to the public.")
        findings.add("/reason", Wrong("missing", text))
    if "reason_en" in change and not reason_of(change):
        text = Text("`reason_en` menyertai `reason`.", "`reason_en` needs `reason`.")
        findings.add("/reason_en", Wrong("reason-alone", text))
    opens_at_ms, ends_at_ms = _moment_ms(change, "opens_at"), _moment_ms(change, "ends_at")
    if opens_at_ms is not None and ends_at_ms is not None and ends_at_ms <= opens_at_ms:
        text = Text("Harus sesudah `opens_at`.", "Must lie after `opens_at`.")
        findings.add("/ends_at", Wrong("before-the-opening", text))
