"""Faults of a request head that are refused before routing: form, length, version, method or transfer coding.

Both transports use it, so that they refuse the same requests. aiohttp's parser alone would take a request line without
a version, or with that of another protocol.
"""

import re

from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import (
    BAD_REQUEST,
    HEADERS_TOO_LARGE,
    HTTP_VERSION_NOT_SUPPORTED,
    METHOD_NOT_IMPLEMENTED,
    TARGET_TOO_LONG,
)
from reservasi.front.api.problems import Refused

HEAD_BYTES_MAX = 32_768  # of one head: several times the possible cookies of a domain
TARGET_BYTES_MAX = 16_384
HEADERS_MAX = 100
LENGTH_DIGITS_MAX = 19  # of a Content-Length, zeros in front included
# The methods that the service knows, whether or not an operation uses them (RFC 9110, and QUERY of the HTTP working
# group).
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"QUERY"))
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^ \r\n]+) HTTP/([0-9]\.[0-9]|[2-9])")
_FIELDS = re.compile(rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*)*")
_BEGINNING = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ /")
_LENGTHS = re.compile(rb"\r\n(?i:content-length)[ \t]*:[ \t]*([^\r\n]*)")
_CODINGS = re.compile(rb"\r\n(?i:transfer-encoding)[ \t]*:([^\r\n]*)")
_NAMEABLE = re.compile(rb"[A-Za-z][A-Za-z-]{0,63}")  # without digits, which could be part of a person's number
ALL_TOGETHER = Text("semua header bersama-sama", "all headers together")
_TOO_MANY = Text("jumlah header", "the number of headers")


def fault_of(head: bytes) -> Refused | None:
    """The refusal of a head; None if nothing is wrong. A head that is too long may be incomplete.

    `head` ends before the empty line.
    """
    line, _, rest = head.partition(b"\r\n")
    read = _REQUEST_LINE.fullmatch(line)
    if len(line) > TARGET_BYTES_MAX:
        return Refused(TARGET_TOO_LONG) if read or _BEGINNING.match(line) else Refused(BAD_REQUEST)
    if len(head) > HEAD_BYTES_MAX or head.count(b"\r\n") > HEADERS_MAX:
        what = _longest(rest) if len(head) > HEAD_BYTES_MAX else _TOO_MANY
        return Refused(HEADERS_TOO_LARGE, words={"what": what})
    if read is None or not _FIELDS.fullmatch(head, len(line)):
        return Refused(BAD_REQUEST)
    if read[3] not in (b"1.0", b"1.1"):
        return Refused(HTTP_VERSION_NOT_SUPPORTED)
    if read[1] not in METHODS:
        return Refused(METHOD_NOT_IMPLEMENTED)
    if any(len(each) > LENGTH_DIGITS_MAX for each in _LENGTHS.findall(head)):
        return Refused(BAD_REQUEST)
    codings = _CODINGS.findall(head)
    if codings and (read[3] == b"1.0" or b",".join(codings).strip(b" \t").lower() != b"chunked"):
        return Refused(BAD_REQUEST)  # HTTP/1.0 has no codings, so that older readers see another end of the body
    return None


def _longest(lines: bytes) -> Text:
    """The longest header, by its name if it cannot contain a person's number."""
    longest = max(lines.split(b"\r\n"), key=len)
    name = longest.partition(b":")[0]
    if len(longest) * 2 < HEAD_BYTES_MAX or not _NAMEABLE.fullmatch(name):
        return ALL_TOGETHER
    text = f"header `{name.decode()}`"
    return Text(text, f"the {text}")
