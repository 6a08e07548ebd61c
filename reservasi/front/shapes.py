"""Reading JSON that strangers send: every finding at once, each with a pointer, and nothing echoed."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from reservasi.front.languages import Text
from reservasi.front.problems import FINDINGS_MAX, Finding

_HARMLESS_KEY = re.compile(r"[A-Za-z_][A-Za-z_-]{0,31}")  # no digits: a NIK used as a key must not come back

INVALID_UTF8 = Text("Isi bukan UTF-8 yang sah.", "The body is not valid UTF-8.")
INVALID_JSON = Text("Isi bukan JSON yang sah.", "The body is not valid JSON.")
NOT_AN_OBJECT = Text("Harus berupa objek JSON.", "Must be a JSON object.")
NOT_AN_ARRAY = Text("Harus berupa larik JSON.", "Must be a JSON array.")
NOT_TEXT = Text("Harus berupa teks dalam tanda kutip.", "Must be a string.")
MISSING = Text("Wajib diisi.", "This field is required.")
UNKNOWN_FIELD = Text("Isian ini tidak dikenal.", "There is no such field.")


class Wrong(NamedTuple):
    """What a check found: a stable code for programs and a text for people."""

    code: str
    detail: Text


Check = Callable[[Any], Wrong | None]


class Field(NamedTuple):
    """One field of an object: how its value is checked, and whether it must be there."""

    check: Check
    required: bool = False


class Findings:
    """What is wrong in one request; bounded, so that a hostile body costs little."""

    def __init__(self) -> None:
        self._found: list[Finding] = []

    def add(self, pointer: str, wrong: Wrong) -> None:
        """Remember one finding."""
        if len(self._found) < FINDINGS_MAX:
            self._found.append(Finding(pointer, wrong.code, wrong.detail))

    def __bool__(self) -> bool:
        return bool(self._found)

    def all(self) -> tuple[Finding, ...]:
        """In the order in which they were found."""
        return tuple(self._found)


def read_json(body: bytes, findings: Findings) -> Any:
    """The decoded body; None, with a finding, when it is not JSON."""
    try:
        body.decode()
    except UnicodeDecodeError:
        findings.add("", Wrong("invalid-utf8", INVALID_UTF8))
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        findings.add("", Wrong("invalid-json", INVALID_JSON))
        return None


def read_object(value: Any, fields: Mapping[str, Field], pointer: str, findings: Findings) -> dict[str, Any]:
    """Check an object's fields; the object itself, or an empty one when it is something else."""
    if type(value) is not dict:
        findings.add(pointer, Wrong("object-expected", NOT_AN_OBJECT))
        return {}
    for name, field in fields.items():
        if name in value:
            wrong = field.check(value[name])
            if wrong is not None:
                findings.add(f"{pointer}/{name}", wrong)
        elif field.required:
            findings.add(f"{pointer}/{name}", Wrong("missing", MISSING))
    if not value.keys() <= fields.keys():
        _name_unknown(value, fields, pointer, findings)
    return value


def _name_unknown(value: dict[str, Any], fields: Mapping[str, Field], pointer: str, findings: Findings) -> None:
    for name in value:
        if name not in fields:
            place = f"{pointer}/{name}" if _HARMLESS_KEY.fullmatch(name) else pointer
            findings.add(place, Wrong("unknown-field", UNKNOWN_FIELD))


def text_check(code: str, detail: Text, *, pattern: str) -> Check:
    """A check that a value is a string that matches the whole pattern."""
    whole = re.compile(pattern)

    def check(value: Any) -> Wrong | None:
        if type(value) is not str:
            return Wrong(f"{code}-type", NOT_TEXT)
        return None if whole.fullmatch(value) else Wrong(f"{code}-invalid", detail)

    return check
