"""Finding one whole request in the bytes of a connection, and reading its head.

Strict on purpose: what is not plainly one HTTP/1.1 request with a Content-Length (RFC 9112) is called unclear, and is
left to aiohttp's parser, whose judgement counts. Nothing is refused here.

A caller's requests differ in their key, their length, whom they are forwarded for and what they are called in logs;
the rest of their heads is the same. So those lines are cut out, and what is left is read once and remembered. Where
most callers' heads are of one shape, as behind a booking site, they are not even cut: what stays is compared, what lies
between is the values.
"""

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from reservasi.front.languages import Language, negotiate
from reservasi.front.tracing import Trace, trace_of

HEAD_BYTES_MAX = 16_384  # more than aiohttp takes in one line; beyond it aiohttp refuses
SHAPES_KEPT_MAX = 1024  # all are dropped when there are more
SHAPE_BYTES_MAX = 2048  # of a head that is remembered
BEGINNING_BYTES = 24  # by which the one that is tried first is found, of those that begin alike
MISSES_MAX = 16  # after which another one is tried first
_LENGTH, _KEY, _FORWARDED = b"content-length", b"idempotency-key", b"x-forwarded-for"
_REQUEST_ID, _TRACEPARENT = b"x-request-id", b"traceparent"
_CHANGES = {each: each for each in (_LENGTH, _KEY, _FORWARDED, _REQUEST_ID, _TRACEPARENT)}
_NOBODY: Sequence[str] = ()
_CHANGING = re.compile(
    rb"\r\n(?i:(content-length|idempotency-key|x-forwarded-for|x-request-id|traceparent)):([^\r\n]*)"
)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE = bytes([9, 10, 13, *range(32, 127)])
_UNCLEAR = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"te", b"trailer"))
# One line of each.
_READ = frozenset((b"host", b"connection", b"content-type", b"accept-language", b"accept-encoding", b"if-none-match"))
_SECRET = frozenset((b"authorization", b"cookie", b"proxy-authorization"))  # heads with these are not remembered


class Head:
    """The lines that stay the same; header values are without the spaces around them, "" where there is no line."""

    __slots__ = ("accept_encoding", "content_type", "if_none_match", "language", "method", "target")

    def __init__(self, method: str, target: str, values: dict[bytes, str]) -> None:
        self.method = method
        self.target = target
        self.content_type = values.get(b"content-type", "")
        self.accept_encoding = values.get(b"accept-encoding", "")
        self.if_none_match = values.get(b"if-none-match", "")
        self.language: Language = negotiate(values.get(b"accept-language", ""))


class Request:
    """One whole request."""

    __slots__ = ("body", "forwarded", "head", "idempotency_key")
    trace: Trace | None = None  # where the caller names the request

    def __init__(self, head: Head, idempotency_key: str, forwarded: Sequence[str], body: bytes) -> None:
        self.head = head
        self.idempotency_key = idempotency_key  # "" where there is none
        self.forwarded = forwarded  # every X-Forwarded-For line
        self.body = body


class TracedRequest(Request):
    """One that its caller names."""

    __slots__ = ("trace",)

    def __init__(self, trace: Trace, head: Head, idempotency_key: str, forwarded: Sequence[str], body: bytes) -> None:
        super().__init__(head, idempotency_key, forwarded, body)
        self.trace = trace


class Unclear(Exception):
    """Not plainly one request: aiohttp must judge."""


class Incomplete:
    """More bytes must come: of the head, or of the body."""

    def __init__(self, *, head: bool, whole_bytes: int = 0) -> None:
        self.head = head
        self.whole_bytes = whole_bytes  # of the request; 0 while its head is incomplete


HEAD_INCOMPLETE: Final = Incomplete(head=True)


def read_request(data: bytes, body_bytes_max: int) -> Request | Incomplete:  # noqa: C901 - calls cost more
    """The one request that `data` is, or what it lacks.

    Raises:
        Unclear: it is something else, more than one, or larger than allowed.
    """
    shape = _TRIED.get(data[:BEGINNING_BYTES])
    values, body_at = shape.match(data) if shape is not None else _NO_MATCH
    if shape is None or values is None:
        head_bytes = data.find(b"\r\n\r\n")
        if head_bytes < 0:
            if len(data) > HEAD_BYTES_MAX:
                raise Unclear
            return HEAD_INCOMPLETE
        # What stays, a changing line's name, its value, what stays, ...
        pieces = _CHANGING.split(data[:head_bytes])
        values = pieces[2::3]
        del pieces[2::3]
        shape, body_at = _shape_of(tuple(pieces), data[:BEGINNING_BYTES], instead=shape), head_bytes + 4
    body_bytes, key, forwarded = 0, "", _NOBODY
    named: dict[bytes, str] | None = None
    for name, padded in zip(shape.names, values):  # noqa: B905 - as many, and saying so costs more than the loop
        value = padded.strip(b" ")
        if name is _LENGTH:
            if not (value.isdigit() and len(value) < 10):
                raise Unclear
            body_bytes = int(value)
            continue
        text = value.decode() if value.isascii() else "\n"
        if not text.isprintable():
            raise Unclear
        if name is _KEY:
            key = text
        elif name is _FORWARDED:
            forwarded = [*forwarded, text]
        else:
            named = {**(named or {}), name: text}
    whole_bytes = body_at + body_bytes
    if len(data) > whole_bytes or body_bytes > body_bytes_max:
        raise Unclear
    if len(data) < whole_bytes:
        return Incomplete(head=False, whole_bytes=whole_bytes)
    if named is None:
        return Request(shape.head, key, forwarded, data[body_at:])
    return TracedRequest(_trace(named), shape.head, key, forwarded, data[body_at:])


def _trace(named: dict[bytes, str]) -> Trace:
    return trace_of(*([named[each]] if each in named else () for each in (_REQUEST_ID, _TRACEPARENT)))


_NO_MATCH: tuple[list[bytes] | None, int] = None, 0


class _Shape:
    """A head without its changing values, as it was read once."""

    __slots__ = ("_end", "_texts", "head", "head_bytes", "misses", "names")

    def __init__(self, head: Head, names: tuple[bytes, ...], texts: Sequence[bytes]) -> None:
        self.head = head
        self.names = names  # of what changes, in order
        *before, end = texts
        self._texts = [(text, len(text)) for text in before]  # what stands in front of each changing value
        self._end = end
        self.head_bytes = sum(map(len, texts))
        self.misses = 0  # heads that were tried and are others

    def match(self, data: bytes) -> tuple[list[bytes] | None, int]:
        """The changing values, and where the body begins; None where the head is another one, or not whole."""
        values: list[bytes] = []
        at = 0
        for text, text_bytes in self._texts:
            if not data.startswith(text, at):
                return _NO_MATCH
            value_at = at + text_bytes
            at = data.find(b"\r\n", value_at)
            values.append(data[value_at:at])  # one that does not end has nothing behind it that could match
        return (values, at + len(self._end)) if data.startswith(self._end, at) else _NO_MATCH


_Pieces = tuple[bytes, ...]
_Key = TypeVar("_Key", bytes, tuple[bytes, ...])
_SHAPES: dict[_Pieces, _Shape] = {}
_TRIED: dict[bytes, _Shape] = {}  # the one that is tried first, by how a head begins


def _shape_of(pieces: _Pieces, beginning: bytes, *, instead: _Shape | None) -> _Shape:
    """The shape that is cut into these pieces, remembered unless it holds what must not be kept.

    It is not the one that was tried `instead`. That one gives way at times only: where heads of many shapes come by
    turns, the next one is another in any case.
    """
    shape = _SHAPES.get(pieces)
    if shape is None:
        shape, secret = _learn(pieces)
        if secret or shape.head_bytes > SHAPE_BYTES_MAX:
            return shape
        _keep(_SHAPES, pieces, shape)
    if instead is None:
        _keep(_TRIED, beginning, shape)
        return shape
    instead.misses += 1
    if instead.misses % MISSES_MAX == 0:
        _keep(_TRIED, beginning, shape)
    return shape


def _keep(shapes: dict[_Key, _Shape], key: _Key, shape: _Shape) -> None:
    if len(shapes) >= SHAPES_KEPT_MAX:
        shapes.clear()
    shapes[key] = shape


def _learn(pieces: _Pieces) -> tuple[_Shape, bool]:
    """Read a head without its changing values; whether it holds what must not be kept."""
    names = tuple([_CHANGES[name.lower()] for name in pieces[1::2]])
    if any(names.count(each) > 1 for each in _CHANGES if each is not _FORWARDED):
        raise Unclear
    head, secret = _read_head(b"".join(pieces[0::2]))
    texts = [b"%b\r\n%b:" % each for each in zip(pieces[0:-1:2], pieces[1::2], strict=True)]
    return _Shape(head, names, [*texts, pieces[-1] + b"\r\n\r\n"]), secret


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
