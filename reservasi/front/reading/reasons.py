"""The `reason` of a change by staff."""

from collections.abc import Mapping
from typing import Any

from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import INVALID_REQUEST
from reservasi.front.api.problems import Refused
from reservasi.front.reading.findings import NOT_TEXT, NULL_OR_EMPTY, Field, Findings, Wrong, read_json, read_object
from reservasi.model import REASON_CHARS_MAX
from reservasi.reasons import ReasonRefused, tidy_reason

_WRONG = {
    "reason-length": Text(
        f"Alasan paling banyak {REASON_CHARS_MAX} karakter.", f"A reason has at most {REASON_CHARS_MAX} characters."
    ),
    "reason-characters": Text(
        "Alasan memuat karakter yang tidak dapat dicetak: {character}.",
        "The reason has a character that cannot be printed: {character}.",
    ),
    "reason-nik": Text(
        "Alasan dicatat tanpa enkripsi: jangan mencantumkan NIK.",
        "A reason is recorded unencrypted: do not include identity numbers.",
    ),
}


def _check_reason(value: Any) -> Wrong | None:
    if type(value) is not str:
        return Wrong("reason-type", NOT_TEXT)
    try:
        tidy_reason(value)
    except ReasonRefused as refused:
        words = (each.replace("{character}", refused.character) for each in _WRONG[refused.code])
        return Wrong(refused.code, Text(*words))
    return None


REASON = Field(_check_reason, left_out=NULL_OR_EMPTY)


def read_reason(body: bytes) -> str:
    """The reason of a request that has nothing else; "" if there is no body."""
    if not body:
        return ""
    findings = Findings()
    decoded = read_json(body, findings)
    read = {} if findings else read_object(decoded, {"reason": REASON}, "", findings)
    if findings:
        raise Refused(INVALID_REQUEST, findings=findings.all())
    return reason_of(read)


def reason_of(change: Mapping[str, Any]) -> str:
    """The checked reason in a request's body; "" if there is none."""
    return tidy_reason(change.get("reason") or "")
