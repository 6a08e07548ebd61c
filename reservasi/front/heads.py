"""Finding one whole request in the bytes of a connection, and reading its head.

Strict on purpose: what is not plainly one HTTP/1.1 request with a Content-Length (RFC 9112) is called unclear, and is
left to aiohttp's parser, whose judgement counts. Nothing is refused here.

A caller's requests differ in their key, their length and whom they are forwarded for; the rest of their heads is the
same. So those three lines are cut out, and what is left is read once and remembered.
"""

import re
from collections.abc import Sequence
from typing import Final

from reservasi.front.languages import Language, negotiate

HEAD_BYTES_MAX = 16_384  # more than aiohttp takes in one line; beyond it aiohttp refuses
SHAPES_KEPT_MAX = 1024  # all are dropped when there are more
SHAPE_BYTES_MAX = 2048  # of a head that is remembered
_LENGTH, _KEY, _FORWARDED = b"content-length", b"idempotency-key", b"x-forwarded-for"
_CHANGES = {each: each for each in (_LENGTH, _KEY, _FORWARDED)}
_NOBODY: Sequence[str] = ()
_CHANGING = re.compile(rb"\r\n(?i:(content-length|idempotency-key|x-forwarded-for)):([^\r\n]*)")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE = bytes([9, 10, 13, *range(32, 127)])
_UNCLEAR = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"te", b"trailer"))
_READ = frozenset((b"host", b"connection", b"content-type", b"accept-language", b"if-none-match"))  # one line of each
_SECRET = frozenset((b"authorization", b"cookie", b"proxy-authorization"))  # heads with these are not remembered


class Head:
    """The lines that stay the same; header values are without the spaces around them, "" where there is no line."""

    __slots__ = ("content_type", "if_none_match", "language", "method", "target")

    def __init__(self, method: str, target: str, values: dict[bytes, str]) -> None:
        self.method = method
        self.target = target
        self.content_type = values.get(b"content-type", "")
        self.if_none_match = values.get(b"if-none-match", "")
        self.language: Language = negotiate(values.get(b"accept-language", ""))


class Request:
    """One whole request."""

    __slots__ = ("body", "forwarded", "head", "idempotency_key")

    def __init__(self, head: Head, idempotency_key: str, forwarded: Sequence[str], body: bytes) -> None:
        self.head = head
        self.idempotency_key = idempotency_key  # "" where there is none
        self.forwarded = forwarded  # every X-Forwarded-For line
        self.body = body


class Unclear(Exception):
    """Not plainly one request: aiohttp must judge."""


class Incomplete:
    """More bytes must come: of the head, or of the body."""

    def __init__(self, *, head: bool, whole_bytes: int = 0) -> None:
        self.head = head
        self.whole_bytes = whole_bytes  # of the request; 0 while its head is incomplete


HEAD_INCOMPLETE: Final = Incomplete(head=True)


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
    pieces = _CHANGING.split(data[:head_bytes])  # what stays, a changing line's name, its value, what stays, ...
    values = pieces[2::3]
    del pieces[2::3]
    shape = tuple(pieces)
    head, names = _SHAPES.get(shape) or _learn(shape)
    body_bytes, key, forwarded = 0, "", _NOBODY
    for name, value in zip(names, values):  # noqa: B905 - as many, and saying so costs more than the loop
        text = value.decode() if value.isascii() else "\n"
        if not text.isprintable():
            raise Unclear
        text = text.strip(" ")
        if name is _LENGTH:
            if not (text.isdecimal() and len(text) < 10):
                raise Unclear
            body_bytes = int(text)
        elif name is _KEY:
            key = text
        else:
            forwarded = [*forwarded, text]
    whole_bytes = head_bytes + 4 + body_bytes
    if len(data) > whole_bytes or body_bytes > body_bytes_max:
        raise Unclear
    if len(data) < whole_bytes:
        return Incomplete(head=False, whole_bytes=whole_bytes)
    return Request(head, key, forwarded, data[head_bytes + 4 :])


_Shape = tuple[bytes, ...]
_SHAPES: dict[_Shape, tuple[Head, tuple[bytes, ...]]] = {}


def _learn(shape: _Shape) -> tuple[Head, tuple[bytes, ...]]:
    """Read a head without its changing values, and remember it: the head, and the names of what changes, in order."""
    names = tuple([_CHANGES[name.lower()] for name in shape[1::2]])
    if names.count(_LENGTH) > 1 or names.count(_KEY) > 1:
        raise Unclear
    lines = b"".join(shape[0::2])
    head, secret = _read_head(lines)
    known = (head, names)
    if not secret and len(lines) <= SHAPE_BYTES_MAX:
        if len(_SHAPES) >= SHAPES_KEPT_MAX:
            _SHAPES.clear()
        _SHAPES[shape] = known
    return known


def _read_head(head: bytes) -> tuple[Head, bool]:
    """A head, and whether it holds what must not be kept."""
    lines = head.split(b"\r\n")
    if head.translate(None, _VISIBLE) or not head.count(b"\n") == head.count(b"\r") == len(lines) - 1:
        raise Unclear
    method, _, rest = lines[0].partition(b" ")
    target, _, version = rest.partition(b" ")
    if version != b"HTTP/1.1" or not target.startswith(b"/"):
        raise Unclear
    values: dict[bytes, str] = {}
    secret = False
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        kind = name.lower()
        if not colon or not _TOKEN.fullmatch(name) or kind in _UNCLEAR or kind in values:
            raise Unclear
        if kind in _READ:
            values[kind] = value.decode("ascii").strip(" \t")
        secret = secret or kind in _SECRET
    if b"host" not in values or values.get(b"connection", "keep-alive").lower() != "keep-alive":
        raise Unclear
    return Head(method.decode("ascii"), target.decode("ascii"), values), secret
