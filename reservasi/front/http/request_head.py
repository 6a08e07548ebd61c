"""Finds one whole request in the bytes of a connection, and reads its head.

Strict on purpose: what is not plainly an HTTP/1.1 request with a Content-Length (RFC 9112) is `Unclear` and left to
aiohttp's parser, whose judgement counts. Nothing is refused here.

The requests of one client differ only in key, length, forwarded address and trace; the rest of their heads is equal. So
the variable lines are cut out, and the rest is parsed once and cached as a shape. If most heads have one shape, as
behind a booking site, they are not even cut: the constant parts are compared, and the values are between them.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from reservasi.front.api.languages import DEFAULT, Language, negotiate
from reservasi.front.api.request import (
    API_KEY,
    AUTHORIZATION,
    IF_MATCH,
    IF_NONE_MATCH,
    NOTHING,
    REQUEST_ID,
    TRACEPARENT,
    Head,
    Request,
)
from reservasi.front.http.head_faults import HEAD_BYTES_MAX, HEADERS_MAX, METHODS, TARGET_BYTES_MAX

SHAPES_KEPT_MAX = 1024  # all are dropped when there are more
SHAPE_BYTES_MAX = 2048  # of a cached head
LINES_KEPT_MAX = 4096  # cached request lines; all are dropped when there are more
BEGINNING_BYTES = 20  # with the length of the request line the key of the shape that is tried first
MISSES_MAX = 16  # after which another shape is tried first
_LENGTH, _KEY, _FORWARDED, _COOKIE = b"content-length", b"idempotency-key", b"x-forwarded-for", b"cookie"
_CHANGES = {
    each: each
    for each in (
        _LENGTH,
        _KEY,
        _FORWARDED,
        REQUEST_ID,
        TRACEPARENT,
        AUTHORIZATION,
        API_KEY,
        IF_MATCH,
        IF_NONE_MATCH,
        _COOKIE,
    )
}
_NOBODY: Sequence[str] = ()
_CHANGING = re.compile(rb"\r\n(?i:(" + b"|".join(_CHANGES) + rb")):([^\r\n]*)")
_ACCEPT_LANGUAGE = re.compile(rb"\r\n(?i:accept-language):([^\r\n]*)")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[!-\"$-~]*) HTTP/1\.1")
_VISIBLE = bytes([9, 10, 13, *range(32, 127)])
_READ_METHODS = METHODS - {b"CONNECT"}  # what follows a CONNECT is no body (RFC 9110, section 9.3.6)
_UNCLEAR = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"te", b"trailer"))
# Headers of which there must be one line.
_READ = frozenset(
    (b"host", b"connection", b"content-type", b"accept", b"accept-language", b"accept-encoding", b"origin")
)
_SECRET = frozenset((b"proxy-authorization",))  # heads with these are not cached


class Unclear(Exception):
    """Not plainly one request: aiohttp must decide, except on a plain one that others follow."""

    def __init__(self, first_bytes: int = 0) -> None:
        super().__init__()
        self.first_bytes = first_bytes  # length of the first request, if only bytes that follow it are unclear


class Incomplete:
    """More bytes must arrive: of the head, or of the body."""

    def __init__(self, *, head: bool, whole_bytes: int = 0, line: "_Line | None" = None) -> None:
        self.head = head
        self.whole_bytes = whole_bytes  # of the request; 0 while its head is incomplete
        self.line = line  # the method and the target, once the head is complete


HEAD_INCOMPLETE: Final = Incomplete(head=True)


def read_late(data: bytes, missing_bytes: int, body_bytes_max: int) -> Request | None:
    """A request whose head is complete and whose body did not arrive in time; it has no body. None if it is unclear."""
    try:
        request = read_request(data + bytes(missing_bytes), body_bytes_max)
    except Unclear:
        return None
    if isinstance(request, Incomplete):
        return None
    request.body = b""
    return request


def language_of(data: bytes) -> Language:
    """The language of an incomplete request, if its head is far enough."""
    values = _ACCEPT_LANGUAGE.findall(data.partition(b"\r\n\r\n")[0])
    return negotiate(b",".join(values).decode("latin-1")) if values else DEFAULT


def read_request(data: bytes, body_bytes_max: int) -> Request | Incomplete:  # noqa: C901 - calls cost more
    """The one request in `data`, or what it lacks.

    Raises:
        Unclear: it is something else, larger than allowed, or more than one: then with the length of the first.
    """
    line_bytes = data.find(b"\r\n")
    beginning = (line_bytes, data[:BEGINNING_BYTES])
    shape = _TRIED.get(beginning)
    values, body_at = shape.match(data, line_bytes) if shape is not None else _NO_MATCH
    if shape is None or values is None:
        head_bytes = data.find(b"\r\n\r\n")
        if head_bytes < 0:
            if len(data) > HEAD_BYTES_MAX:
                raise Unclear
            return HEAD_INCOMPLETE
        # Constant part, name of a variable line, its value, constant part, ...
        pieces = _CHANGING.split(data[line_bytes:head_bytes])
        values = pieces[2::3]
        del pieces[2::3]
        shape, body_at = _shape_of(tuple(pieces), beginning, instead=shape), head_bytes + 4
    body_bytes, keys, forwarded = 0, _NOBODY, _NOBODY
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
            keys = (text,)
        elif name is _FORWARDED:
            forwarded = [*forwarded, text]
        elif named is None:
            named = {name: text}
        else:
            named[name] = text
    complete_bytes = body_at + body_bytes
    if body_bytes > body_bytes_max or body_at > HEAD_BYTES_MAX:
        raise Unclear
    line = data[:line_bytes]
    line_read = method, target = _LINES.get(line) or _read_line(line)
    if len(data) != complete_bytes:
        if len(data) > complete_bytes:
            raise Unclear(complete_bytes)
        return Incomplete(head=False, whole_bytes=complete_bytes, line=line_read)
    values_named = NOTHING if named is None else named
    return Request(method, target, shape.head, keys, forwarded, values_named, data[body_at:])


class _Line(NamedTuple):
    """The parts of a request line."""

    method: str
    target: str


_LINES: dict[bytes, _Line] = {}


def _read_line(line: bytes) -> _Line:
    match = _LINE.fullmatch(line)
    if match is None or len(line) > TARGET_BYTES_MAX or match[1] not in _READ_METHODS:
        raise Unclear
    read = _Line(match[1].decode(), match[2].decode())
    if len(line) <= SHAPE_BYTES_MAX:
        if len(_LINES) >= LINES_KEPT_MAX:
            _LINES.clear()
        _LINES[line] = read
    return read


_NO_MATCH: tuple[list[bytes] | None, int] = None, 0


class _Shape:
    """The header lines without their variable values, parsed once."""

    __slots__ = ("_end", "_texts", "head", "head_bytes", "misses", "names")

    def __init__(self, head: Head, names: tuple[bytes, ...], texts: Sequence[bytes]) -> None:
        self.head = head
        self.names = names  # of the variable lines, in order
        *before, end = texts
        self._texts = [(text, len(text)) for text in before]  # the constant text before each variable value
        self._end = end
        self.head_bytes = sum(map(len, texts))
        self.misses = 0  # heads that were compared and differ

    def match(self, data: bytes, at: int) -> tuple[list[bytes] | None, int]:
        """The variable values of the lines from `at` on, and where the body begins; None if the lines differ."""
        values: list[bytes] = []
        for text, text_bytes in self._texts:
            if not data.startswith(text, at):
                return _NO_MATCH
            value_at = at + text_bytes
            at = data.find(b"\r\n", value_at)
            values.append(data[value_at:at])  # after a value without an end, nothing matches
        return (values, at + len(self._end)) if data.startswith(self._end, at) else _NO_MATCH


_Pieces = tuple[bytes, ...]
_Beginning = tuple[int, bytes]  # the length of the request line, and its beginning
_Key = TypeVar("_Key", _Pieces, _Beginning)
_SHAPES: dict[_Pieces, _Shape] = {}
_TRIED: dict[_Beginning, _Shape] = {}  # the shape that is tried first


def _shape_of(pieces: _Pieces, beginning: _Beginning, *, instead: _Shape | None) -> _Shape:
    """The shape with these constant parts, cached unless it contains secrets.

    It differs from `instead`, which was tried first. That one is replaced only now and then: if heads of many shapes
    alternate, the next one differs again.
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
    """Parse a head without its variable values; returns also whether it contains secrets."""
    names = tuple([_CHANGES[name.lower()] for name in pieces[1::2]])
    if any(names.count(each) > 1 for each in _CHANGES if each is not _FORWARDED):
        raise Unclear
    head, secret = _read_head(b"".join(pieces[0::2]))
    if len(names) + sum(each.count(b"\r\n") for each in pieces[0::2]) > HEADERS_MAX:
        raise Unclear
    texts = [b"%b\r\n%b:" % each for each in zip(pieces[0:-1:2], pieces[1::2], strict=True)]
    return _Shape(head, names, [*texts, pieces[-1] + b"\r\n\r\n"]), secret


def _read_head(lines: bytes) -> tuple[Head, bool]:
    """The values of the constant lines, each after its line end, and whether they contain secrets."""
    nothing, *fields = lines.split(b"\r\n")
    if nothing or lines.translate(None, _VISIBLE) or not lines.count(b"\n") == lines.count(b"\r") == len(fields):
        raise Unclear
    values: dict[bytes, str] = {}
    secret = False
    for line in fields:
        name, colon, value = line.partition(b":")
        kind = name.lower()
        if not colon or not _TOKEN.fullmatch(name) or kind in _UNCLEAR or kind in values:
            raise Unclear
        if kind in _READ:
            values[kind] = value.decode("ascii").strip(" \t")
        secret = secret or kind in _SECRET
    if b"host" not in values or values.get(b"connection", "keep-alive").lower() != "keep-alive":
        raise Unclear
    return Head(values), secret
