"""Finding one whole request in the bytes of a connection, and reading its head.

Strict on purpose: what is not plainly one HTTP/1.1 request with a Content-Length (RFC 9112) is called unclear, and is
left to aiohttp's parser, whose judgement counts. Nothing is refused here.
"""

import re
from typing import Final

HEAD_BYTES_MAX = 16_384  # more than aiohttp takes in one line; beyond it aiohttp refuses
NAMES_KEPT_MAX = 1024  # spellings of header names remembered
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE = bytes([9, 10, 13, *range(32, 127)])
_IGNORED, _UNCLEAR = "", "?"
_KINDS = {
    **{name: name.decode() for name in (b"content-type", b"idempotency-key", b"accept-language", b"content-length")},
    **{name: name.decode() for name in (b"x-forwarded-for", b"if-none-match", b"connection", b"host")},
    **dict.fromkeys((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"te", b"trailer"), _UNCLEAR),
}


class Request:
    """One whole request; header values are text without the spaces around them, None where there is no such line."""

    __slots__ = ("body", "forwarded", "headers", "method", "target")

    def __init__(self, method: str, target: str, headers: dict[str, str], forwarded: list[str]) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.forwarded = forwarded  # every X-Forwarded-For line
        self.body = b""


class Unclear(Exception):
    """Not plainly one request: aiohttp must judge."""


class Incomplete:
    """More bytes must come: of the head, or of the body."""

    def __init__(self, *, head: bool) -> None:
        self.head = head


HEAD_INCOMPLETE: Final = Incomplete(head=True)
BODY_INCOMPLETE: Final = Incomplete(head=False)


def read_request(data: bytes, body_bytes_max: int) -> Request | Incomplete:
    """The one request that `data` is, or what it lacks.

    Raises:
        Unclear: it is something else, more than one, or larger than allowed.
    """
    head_bytes = data.find(b"\r\n\r\n")
    if head_bytes < 0:
        if len(data) > HEAD_BYTES_MAX:
            raise Unclear
        return HEAD_INCOMPLETE
    head = data[:head_bytes]
    request = _read_head(head)
    length = request.headers.get("content-length", "0")
    if not (length.isdecimal() and len(length) < 10):
        raise Unclear
    missing = head_bytes + 4 + int(length) - len(data)
    if missing < 0 or int(length) > body_bytes_max:
        raise Unclear
    if missing:
        return BODY_INCOMPLETE
    request.body = data[head_bytes + 4 :]
    return request


def _read_head(head: bytes) -> Request:
    lines = head.split(b"\r\n")
    if head.translate(None, _VISIBLE) or not head.count(b"\n") == head.count(b"\r") == len(lines) - 1:
        raise Unclear
    method, _, rest = lines[0].partition(b" ")
    target, _, version = rest.partition(b" ")
    if version != b"HTTP/1.1" or not target.startswith(b"/"):
        raise Unclear
    headers: dict[str, str] = {}
    forwarded: list[str] = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        kind = _NAMES.get(name)
        if kind is None:
            kind = _learn(name)
        if kind == _IGNORED and colon:
            continue
        if kind == _UNCLEAR or not colon:
            raise Unclear
        text = value.decode("ascii").strip(" \t")
        if kind == "x-forwarded-for":
            forwarded.append(text)
        elif kind in headers:
            raise Unclear
        else:
            headers[kind] = text
    if "host" not in headers or headers.get("connection", "keep-alive").lower() != "keep-alive":
        raise Unclear
    return Request(method.decode("ascii"), target.decode("ascii"), headers, forwarded)


_NAMES: dict[bytes, str] = {}


def _learn(name: bytes) -> str:
    """What a spelling of a header name stands for; remembered, since callers send the same few."""
    kind = _KINDS.get(name.lower(), _IGNORED) if _TOKEN.fullmatch(name) else _UNCLEAR
    if len(_NAMES) < NAMES_KEPT_MAX:
        _NAMES[name] = kind
    return kind
