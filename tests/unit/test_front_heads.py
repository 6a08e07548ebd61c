"""What is plainly one whole request, and what is left to aiohttp's parser."""

import pytest

from reservasi.front.heads import BODY_INCOMPLETE, HEAD_INCOMPLETE, Request, Unclear, read_request

PLAIN = b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nIDEMPOTENCY-key:  k 1 \r\nContent-Length: 2\r\n\r\n{}"
MAX = 100


def test_a_plain_request_is_read() -> None:
    request = read_request(PLAIN, MAX)
    assert isinstance(request, Request)
    assert (request.method, request.target, request.body) == ("POST", "/v1/reservations", b"{}")
    assert request.headers["idempotency-key"] == "k 1"


@pytest.mark.parametrize("cut", range(1, len(PLAIN)))
def test_every_part_of_it_is_incomplete(cut: int) -> None:
    head_bytes = PLAIN.index(b"\r\n\r\n") + 4
    assert read_request(PLAIN[:cut], MAX) is (HEAD_INCOMPLETE if cut < head_bytes else BODY_INCOMPLETE)


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
