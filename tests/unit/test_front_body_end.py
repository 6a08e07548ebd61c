"""Where a body that aiohttp reads may end."""

from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from reservasi.front.http.body_end import POSSIBLE_ENDS_MAX, BodyEnd


def body_end(length: str | None = None) -> BodyEnd:
    headers = CIMultiDictProxy(CIMultiDict({} if length is None else {"Content-Length": length}))
    return BodyEnd(
        RawRequestMessage("POST", "/", HttpVersion11, headers, (), False, None, False, length is None, URL("/"))
    )


def pieces(end: BodyEnd, data: bytes) -> list[bytes]:
    found, at = [], 0
    while (then := end.next(data, at)) > at:
        found.append(data[at:then])
        at = then
    return found


def test_a_sized_body_ends_after_its_length() -> None:
    end = body_end("5")
    assert pieces(end, b"abc") == [b"abc"]
    assert pieces(end, b"deGET /") == [b"de"]
    assert pieces(end, b"GET /") == []


def test_a_chunked_body_may_end_after_each_empty_line() -> None:
    assert pieces(body_end(), b"4\r\n\r\n\r\n\r\n0\r\n\r\nGET /") == [b"4\r\n\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"GET /"]


def test_a_part_of_an_empty_line_is_left_over() -> None:
    for part in (b"\r", b"\r\n", b"\r\n\r"):
        assert pieces(body_end(), b"0" + part) == [b"0"]
        assert pieces(body_end(), part) == []
    assert pieces(body_end(), b"0\r\n\r\n\r") == [b"0\r\n\r\n"]


def test_an_end_behind_many_possible_ones_is_too_far() -> None:
    end = body_end()
    assert len(pieces(end, b"\r\n\r\n" * POSSIBLE_ENDS_MAX)) == POSSIBLE_ENDS_MAX
    assert not end.is_too_far
    pieces(end, b"\r\n\r\n")
    assert end.is_too_far
