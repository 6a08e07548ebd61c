"""What is plainly one whole request, and what is left to aiohttp's parser."""

import pytest

from reservasi.front import heads
from reservasi.front.heads import Incomplete, Request, Unclear, read_request

PLAIN = b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nIDEMPOTENCY-key:  k 1 \r\nContent-Length: 2\r\n\r\n{}"
MAX = 100


def test_a_plain_request_is_read() -> None:
    request = read_request(PLAIN, MAX)
    assert isinstance(request, Request)
    assert (request.head.method, request.head.target, request.body) == ("POST", "/v1/reservations", b"{}")
    assert request.idempotency_key == "k 1"


@pytest.mark.parametrize("cut", range(1, len(PLAIN)))
def test_every_part_of_it_is_incomplete(cut: int) -> None:
    head_bytes = PLAIN.index(b"\r\n\r\n") + 4
    lacks = read_request(PLAIN[:cut], MAX)
    assert isinstance(lacks, Incomplete)
    assert (lacks.head, lacks.whole_bytes) == ((True, 0) if cut < head_bytes else (False, len(PLAIN)))


@pytest.mark.parametrize(
    "data",
    [
        PLAIN + b"G",  # more than one
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN.replace(b"POST ", b"POST  "),
        PLAIN.replace(b"/v1", b"http://x/v1"),
        PLAIN.replace(b"Host: x\r\n", b""),
        PLAIN.replace(b"Host: x", b"Host: x\r\nHost: y"),
        PLAIN.replace(b"Host: x", b"Host: x\r\n folded"),
        PLAIN.replace(b"Host: x", b"Host: x\nX: y"),
        PLAIN.replace(b"Host: x", b"Host: x\rX: y"),
        PLAIN.replace(b"Host: x", b"Host: x\x00"),
        PLAIN.replace(b"Host: x", b"Host: \xc3\xa9"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nno colon"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nBad Name: y"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nContent-Length: 2"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nContent-Length : 2"),
        PLAIN.replace(b"Content-Length: 2\r\n", b"Content-Length: 2\nX: y\r\n"),
        PLAIN.replace(b"Content-Length: 2\r\n", b"Content-Length: 2\r\n 3\r\n"),
        PLAIN.replace(b"k 1", b"k\x001"),
        PLAIN.replace(b"k 1", b"k\xc3\xa91"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nIdempotency-Key: k 2"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: +2"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 0x2"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2, 2"),
        PLAIN.replace(b"Content-Length: 2", b"Content-Length: 101"),
        PLAIN.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nContent-Encoding: gzip"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nConnection: close"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nUpgrade: h2c"),
        b"x" * 20_000,
    ],
)
def test_what_is_not_plain_is_unclear(data: bytes) -> None:
    with pytest.raises(Unclear):
        read_request(data, MAX)


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> dict[object, object]:
    known: dict[object, object] = {}
    monkeypatch.setattr(heads, "_SHAPES", known)
    return known


def read(data: bytes) -> Request:
    request = read_request(data, MAX)
    assert isinstance(request, Request)
    return request


def test_heads_that_differ_in_key_length_and_origin_are_read_once(nothing_known: dict[object, object]) -> None:
    first = read(
        PLAIN.replace(b"Host: x", b"Host: x\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2\r\nx-forwarded-for: 10.0.0.3")
    )
    second = read(
        PLAIN.replace(b"Host: x", b"Host: x\r\nX-Forwarded-For:10.0.0.4\r\nx-forwarded-for: ")
        .replace(b"k 1", b"k 2")
        .replace(b"Length: 2", b"Length: 3")
        + b" "
    )
    assert second.head is first.head
    assert len(nothing_known) == 1
    assert (first.idempotency_key, first.body, list(first.forwarded)) == (
        "k 1",
        b"{}",
        ["10.0.0.1, 10.0.0.2", "10.0.0.3"],
    )
    assert (second.idempotency_key, second.body, list(second.forwarded)) == ("k 2", b"{} ", ["10.0.0.4", ""])


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace(b"POST", b"GET"),
        PLAIN.replace(b"reservations", b"availability"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nAccept-Language: en"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nContent-Type: text/plain"),
        PLAIN.replace(b"Host: x", b'Host: x\r\nIf-None-Match: "1"'),
    ],
)
def test_any_other_difference_is_another_head(nothing_known: dict[object, object], other: bytes) -> None:
    assert read(PLAIN).head is not read(other).head
    assert read(other).head is read(other).head
    assert len(nothing_known) == 2


@pytest.mark.parametrize("name", ["Authorization", "cookie", "Proxy-Authorization"])
def test_a_head_with_a_secret_is_not_remembered(nothing_known: dict[object, object], name: str) -> None:
    read(PLAIN.replace(b"Host: x", f"Host: x\r\n{name}: secret".encode()))
    assert not nothing_known


def test_no_value_that_changes_is_remembered(nothing_known: dict[object, object]) -> None:
    read(PLAIN.replace(b"k 1", b"3578014107900001"))
    assert "3578014107900001" not in repr(nothing_known)


def test_what_is_remembered_is_bounded(nothing_known: dict[object, object]) -> None:
    for number in range(heads.SHAPES_KEPT_MAX * 2 + 1):
        read(PLAIN.replace(b"/v1", f"/v{number}".encode()))
    assert len(nothing_known) <= heads.SHAPES_KEPT_MAX
    read(PLAIN.replace(b"Host: x", b"Host: x\r\nX: " + b"x" * heads.SHAPE_BYTES_MAX))
    assert not any(b"xxx" in repr(shape).encode() for shape in nothing_known)


def test_a_request_without_a_body_has_no_length() -> None:
    request = read(b"GET /v1/availability HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (request.body, request.idempotency_key, list(request.forwarded)) == (b"", "", [])
