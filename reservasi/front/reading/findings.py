"""Reads untrusted JSON: reports every finding at once, each with a pointer, and repeats nothing."""

import codecs
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from reservasi.front.api.languages import Text
from reservasi.front.api.problems import FINDINGS_MAX, Finding

HARMLESS_KEY = re.compile(r"[A-Za-z_][A-Za-z_-]{0,31}")  # without digits: a NIK used as a key must not be repeated

INVALID_UTF8 = Text("Isi permintaan bukan UTF-8 yang sah.", "The body is not valid UTF-8.")
BYTE_ORDER_MARK = Text(
    "Isi permintaan diawali tanda urutan bita (BOM). Kirim tanpa tanda tersebut.",
    "The body begins with a byte order mark (BOM). Send it without.",
)
INVALID_JSON = Text("Isi permintaan bukan JSON yang sah.", "The body is not valid JSON.")
NOT_AN_OBJECT = Text("Harus berupa objek JSON.", "Must be a JSON object.")
NOT_AN_ARRAY = Text("Harus berupa larik JSON.", "Must be a JSON array.")
NOT_TEXT = Text("Harus berupa teks dalam tanda kutip.", "Must be a string.")
MISSING = Text("Wajib diisi.", "This field is required.")
UNKNOWN_FIELD = Text("Isian ini tidak dikenal.", "There is no such field.")


class Wrong(NamedTuple):
    """A fault that a check found: a stable code and a text."""

    code: str
    detail: Text


Check = Callable[[Any], Wrong | None]
NULL: tuple[Any, ...] = (None,)
NULL_OR_EMPTY: tuple[Any, ...] = (None, "")


class Field(NamedTuple):
    """One field of an object: how its value is tidied and checked, and whether it is required."""

    check: Check  # of the tidied value
    required: bool = False
    tidy: Callable[[str], str] | None = None
    left_out: tuple[Any, ...] = ()  # tidied values that mean the same as leaving it out


class Findings:
    """The findings of one request; bounded, so that a hostile body costs little."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []

    def add(self, pointer: str, wrong: Wrong) -> None:
        """Add one finding."""
        if len(self._findings) < FINDINGS_MAX:
            self._findings.append(Finding(pointer, wrong.code, wrong.detail))

    def __bool__(self) -> bool:
        return bool(self._findings)

    def all(self) -> tuple[Finding, ...]:
        """In the order in which they were added."""
        return tuple(self._findings)


def read_json(body: bytes, findings: Findings) -> Any:
    """The decoded body; adds a finding if it is not JSON (then None), or if an object has a key twice."""
    try:
        body.decode()
    except UnicodeDecodeError:
        findings.add("", Wrong("invalid-utf8", INVALID_UTF8))
        return None
    try:
        decoded = msgspec.json.decode(body)
        if body.count(b":") != _count_members(decoded):
            _name_repeated(json.loads(body, object_pairs_hook=_Pairs), "", findings)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        marked = body.startswith(codecs.BOM_UTF8)  # which RFC 8259, section 8.1, forbids
        findings.add("", Wrong("invalid-json", BYTE_ORDER_MARK if marked else INVALID_JSON))
        return None
    return decoded


def _count_members(value: Any) -> int:
    """The number of members of all objects in a value. A body with as many colons has no repeated key."""
    if type(value) is dict:
        return len(value) + sum(map(_count_members, value.values()))
    return sum(map(_count_members, value)) if type(value) is list else 0


class _Pairs(list[tuple[str, Any]]):
    """An object's members as written."""


def _name_repeated(value: Any, pointer: str, findings: Findings) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, inner in value:
            place = _place(pointer, name)
            if name in seen:
                findings.add(place, Wrong("repeated-key", _repeated_key(name)))
            seen.add(name)
            _name_repeated(inner, place, findings)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _name_repeated(inner, f"{pointer}/{index}", findings)


def _repeated_key(name: str) -> Text:
    if not HARMLESS_KEY.fullmatch(name):
        return Text("Ada kunci yang ditulis lebih dari satu kali.", "There is a key that is given more than once.")
    return Text(f"Kunci `{name}` ditulis lebih dari satu kali.", f"The key `{name}` is given more than once.")


def has_repeated_keys(body: bytes) -> bool:
    """Whether an object in a JSON body has a key twice, in whatever spelling."""
    findings = Findings()
    _name_repeated(json.loads(body, object_pairs_hook=_Pairs), "", findings)
    return bool(findings)


def read_object(value: Any, fields: Mapping[str, Field], pointer: str, findings: Findings) -> dict[str, Any]:
    """An object's known fields, tidied and checked; empty if the value is something else."""
    if type(value) is not dict:
        findings.add(pointer, Wrong("object-expected", NOT_AN_OBJECT))
        return {}
    read: dict[str, Any] = {}
    for name, field in fields.items():
        if name in value:
            given = value[name]
            if field.tidy is not None and type(given) is str:
                given = field.tidy(given)
            if given in field.left_out:
                continue
            wrong = field.check(given)
            if wrong is not None:
                findings.add(f"{pointer}/{name}", wrong)
            read[name] = given
        elif field.required:
            findings.add(f"{pointer}/{name}", Wrong("missing", MISSING))
    if not value.keys() <= fields.keys():
        _name_unknown(value, fields, pointer, findings)
    return read


def _place(pointer: str, name: str) -> str:
    """The pointer to a member, or to its object if the member's name may contain a person's number."""
    return f"{pointer}/{name}" if HARMLESS_KEY.fullmatch(name) else pointer


def _name_unknown(value: dict[str, Any], fields: Mapping[str, Field], pointer: str, findings: Findings) -> None:
    for name in value:
        if name not in fields:
            findings.add(_place(pointer, name), Wrong("unknown-field", UNKNOWN_FIELD))


def text_check(code: str, detail: Text, *, pattern: str) -> Check:
    """A check that a value is a string that matches the pattern completely."""
    whole = re.compile(pattern)

    def check(value: Any) -> Wrong | None:
        if type(value) is not str:
            return Wrong(f"{code}-type", NOT_TEXT)
        return None if whole.fullmatch(value) else Wrong(f"{code}-invalid", detail)

    return check
