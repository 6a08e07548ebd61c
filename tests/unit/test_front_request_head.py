"""What is plainly one whole request, and what is left to aiohttp's parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservasi.front.api.request import Request
from reservasi.front.http import request_head as heads
from reservasi.front.http.head_faults import HEAD_BYTES_MAX
from reservasi.front.http.request_head import Incomplete, Unclear, read_request

PLAIN = b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nIDEMPOTENCY-key:  k 1 \r\nContent-Length: 2\r\n\r\n{}"
MAX = 100


def test_a_plain_request_is_read() -> None:
    request = read_request(PLAIN, MAX)
    assert isinstance(request, Request)
    assert (request.method, request.target, request.body) == ("POST", "/v1/reservations", b"{}")
    assert list(request.idempotency_keys) == ["k 1"]


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
        b"x" * (HEAD_BYTES_MAX + 1),
    ],
)
def test_what_is_not_plain_is_unclear(nothing_known: dict[object, object], data: bytes) -> None:
    with pytest.raises(Unclear):
        read_request(data, MAX)
    read_request(PLAIN, MAX)  # from now on a head of this shape is compared, not cut
    with pytest.raises(Unclear):
        read_request(data, MAX)


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> dict[object, object]:
    shapes: dict[object, object] = {}
    monkeypatch.setattr(heads, "_SHAPES", shapes)
    monkeypatch.setattr(heads, "_TRIED", {})
    return shapes


def remembered() -> str:
    """All that is kept of any head, and by what it is found."""
    return repr(
        [(by, _slots(shape), _slots(shape.head)) for by, shape in [*heads._SHAPES.items(), *heads._TRIED.items()]]
    )


def _slots(of: object) -> dict[str, object]:
    return {name: getattr(of, name) for name in type(of).__slots__}  # type: ignore[attr-defined]


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
    assert (*first.idempotency_keys, first.body, list(first.forwarded)) == (
        "k 1",
        b"{}",
        ["10.0.0.1, 10.0.0.2", "10.0.0.3"],
    )
    assert (*second.idempotency_keys, second.body, list(second.forwarded)) == ("k 2", b"{} ", ["10.0.0.4", ""])


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace(b"Host: x", b"Host: y"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nAccept: text/html"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nAccept-Language: en"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nContent-Type: text/plain"),
        PLAIN.replace(b"Host: x", b"Host: x\r\nUser-Agent: y"),
    ],
)
def test_any_other_difference_is_another_head(nothing_known: dict[object, object], other: bytes) -> None:
    assert read(PLAIN).head is not read(other).head
    assert read(other).head is read(other).head
    assert len(nothing_known) == 2


@pytest.mark.parametrize(
    "line",
    [b"GET / HTTP/1.1", b"POST /v1/reservations/abc/confirm HTTP/1.1", b"POST /v1/availability?program=x HTTP/1.1"],
)
def test_heads_behind_other_request_lines_are_read_once(nothing_known: dict[object, object], line: bytes) -> None:
    first, other = read(PLAIN), read(PLAIN.replace(b"POST /v1/reservations HTTP/1.1", line))
    assert other.head is first.head
    assert f"{other.method} {other.target} HTTP/1.1".encode() == line
    assert len(nothing_known) == 1


@pytest.mark.parametrize(
    "name", ["Authorization", "cookie", "X-API-Key", "if-match", "If-None-Match", "Proxy-Authorization"]
)
def test_a_secret_is_not_remembered(nothing_known: dict[object, object], name: str) -> None:
    request = read(PLAIN.replace(b"Host: x", f"Host: x\r\n{name}: secret".encode()))
    assert "secret" not in remembered()
    if name != "Proxy-Authorization":  # which nobody reads
        assert request.values == {name.lower().encode(): "secret"}


def test_no_value_that_changes_is_remembered(nothing_known: dict[object, object]) -> None:
    read(PLAIN.replace(b"k 1", b"3578014107900001"))
    assert "3578014107900001" not in remembered()


def test_what_is_remembered_is_bounded(nothing_known: dict[object, object]) -> None:
    for number in range(heads.SHAPES_KEPT_MAX * 2 + 1):
        read(PLAIN.replace(b"/v1", f"/v{number}".encode()).replace(b"Host: x", f"Host: {number}".encode()))
        assert max(len(nothing_known), len(heads._TRIED)) <= heads.SHAPES_KEPT_MAX
        assert len(heads._LINES) <= heads.LINES_KEPT_MAX
    forwarded = b"\r\nX-Forwarded-For: 10.0.0.1" * 90
    read(PLAIN.replace(b"Host: x", b"Host: x" + forwarded + b"\r\nX: " + b"x" * heads.SHAPE_BYTES_MAX))
    assert "xxx" not in remembered()
    assert "Forwarded" not in remembered()


def test_heads_of_many_shapes_by_turns_are_read_as_well(nothing_known: dict[object, object]) -> None:
    shapes = [PLAIN.replace(b"Host: x", f"Host: x\r\nUser-Agent: {number}".encode()) for number in range(5)]
    expected = [read(data).head for data in shapes]
    for _ in range(heads.MISSES_MAX):
        assert [read(data).head for data in shapes] == expected
    for _ in range(heads.MISSES_MAX):
        read(shapes[4])
    (tried,) = heads._TRIED.values()
    assert tried.head is expected[4]  # from now on these are the ones that are not cut


@pytest.mark.parametrize("cut", range(1, len(PLAIN)))
def test_a_part_of_a_known_head_is_incomplete_as_well(nothing_known: dict[object, object], cut: int) -> None:
    anew = read_request(PLAIN[:cut], MAX)
    read(PLAIN)
    again = read_request(PLAIN[:cut], MAX)
    assert isinstance(anew, Incomplete)
    assert isinstance(again, Incomplete)
    assert (again.head, again.whole_bytes) == (anew.head, anew.whole_bytes)


BYTES = b"\r\n :0k\xc3-"


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(PLAIN) - 1),
            st.integers(0, 2),
            st.binary(max_size=3) | st.sampled_from(list(BYTES)).map(lambda each: bytes([each])),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_head_that_is_known_is_read_as_one_that_is_not(changes: list[tuple[int, int, bytes]]) -> None:
    data = PLAIN
    for at, cut, put in changes:
        data = data[:at] + put + data[at + cut :]
    heads._SHAPES.clear()
    heads._TRIED.clear()
    anew = outcome(data)
    heads._SHAPES.clear()
    heads._TRIED.clear()
    read(PLAIN)
    assert outcome(data) == anew
    assert outcome(data) == anew  # now this head is the latest that began so


def outcome(data: bytes) -> object:
    """All that is read of a request, or what it lacks."""
    try:
        request = read_request(data, MAX)
    except Unclear:
        return "unclear"
    if isinstance(request, Incomplete):
        return request.head, request.whole_bytes
    line = (request.method, request.target)
    return line, _slots(request.head), list(request.idempotency_keys), list(request.forwarded), request.body


def test_a_request_without_a_body_has_no_length() -> None:
    request = read(b"GET /v1/availability HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (request.body, list(request.idempotency_keys), list(request.forwarded)) == (b"", [], [])
