"""Requests that follow another one on a connection: each is judged as if it were alone, however the bytes arrive."""

import asyncio
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.two_ways import WAIT_S, exchange, read_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")


def head(line: str, *lines: str) -> bytes:
    return "\r\n".join([line, "Host: x", "Accept-Language: en", *lines]).encode("latin-1") + b"\r\n\r\n"


def chunked(body: bytes) -> bytes:
    lines = ("Transfer-Encoding: chunked", "Content-Type: application/json", "Idempotency-Key: row")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (body[:7], body[7:]) if each)
    return head("POST /v1/reservations HTTP/1.1", *lines) + chunks + b"0\r\n\r\n"


def sized(body: bytes) -> bytes:
    lines = (f"Content-Length: {len(body)}", "Content-Type: application/json", "Idempotency-Key: row")
    return head("POST /v1/reservations HTTP/1.1", *lines) + body


FIRST = {
    "plain": head("GET /v1/programs HTTP/1.1"),
    "plain with a body": sized(b"{}"),
    "doubted": head("GET /v1/programs HTTP/1.1", "Trailer: x"),
    "doubted with a body": head("POST /v1/reservations HTTP/1.1", "Trailer: x", "Content-Length: 2") + b"{}",
    "chunked": chunked(b'{\r\n\r\n"a": 1}'),
    "chunked with a trailer": chunked(b"{}")[:-2] + b"X-Sum: 1\r\n\r\n",
    "chunked to a page": head("GET /openings HTTP/1.1", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    "too large": sized(b" " * 20_000),
    "HEAD": head("HEAD /v1/programs HTTP/1.1", "Trailer: x"),
    "an offered upgrade": head("GET /v1/programs HTTP/1.1", "Connection: upgrade", "Upgrade: websocket"),
}
LAST = {  # after which the connection ends
    "another version": head("GET /v1/programs HTTP/2.0"),
    "a long target": head(f"GET /v1/availability?office={'x' * 17_000} HTTP/1.1"),
    "many headers": head("GET /v1/programs HTTP/1.1", *(f"X-{number}: x" for number in range(120))),
    "a long header": head("GET /v1/programs HTTP/1.1", "Cookie: " + "x" * 40_000),
    "an unknown method": head("BREW /v1/programs HTTP/1.1"),
    "another coding": head("POST /v1/reservations HTTP/1.1", "Transfer-Encoding: identity, chunked"),
    "no request": b"nonsense\r\n\r\n",
    "no header": b"GET /v1/programs HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
}
SECOND = {
    **FIRST,
    **LAST,
    "not found": head("GET /nothing HTTP/1.1"),
    "after empty lines": b"\r\n\r\n" + head("GET /v1/programs HTTP/1.1"),
}


def method_of(raw: bytes) -> str:
    return raw.lstrip().split(b" ")[0].decode()


def shown(answer: Any) -> tuple[str, dict[str, str], Any]:
    """An answer without what no two share."""
    headers = {name: value for name, value in answer.headers if name not in ("Date", "X-Request-Id", "Content-Length")}
    body = json.loads(answer.body) if "json" in answer.header("Content-Type") and answer.body else answer.body
    if isinstance(body, dict):
        body.pop("request_id", None)
    return answer.status_line, headers, body


async def opened(stack: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(stack.url)
    return await asyncio.open_connection(address.hostname, address.port)


ARRIVALS = ("together", "in the middle", "after the answer", "after the answer, in pieces")


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("first", FIRST)
async def test_a_request_that_follows_another_is_answered_as_if_alone(stack: Any, first: str, arrival: str) -> None:
    before = FIRST[first]
    expected = shown(await exchange(stack.url, before, method_of(before)))

    async def follow(second: bytes) -> None:
        reader, writer = await opened(stack)
        with closing(writer):
            async with asyncio.timeout(WAIT_S):
                ahead = {"together": len(second), "in the middle": 3}.get(arrival, 0)
                writer.write(before + second[:ahead])
                answers = [await read_answer(reader, method_of(before))]
                for piece in (second[:9], second[9:-1], second[-1:]) if "pieces" in arrival else (second[ahead:],):
                    writer.write(piece)
                    await asyncio.sleep(0.02)  # so that pieces are mostly read apart
                answers.append(await read_answer(reader, method_of(second)))
                alone = shown(await exchange(stack.url, second, method_of(second)))
                assert [shown(each) for each in answers] == [expected, alone]
                writer.write_eof()
                assert await reader.read() == b"", "nothing else is answered"

    await asyncio.gather(*map(follow, SECOND.values()))


@pytest.mark.parametrize("last", LAST)
async def test_nothing_is_read_behind_a_request_that_ends_its_connection(stack: Any, last: str) -> None:
    reader, writer = await opened(stack)
    with closing(writer):
        writer.write(LAST[last] + FIRST["plain"])
        async with asyncio.timeout(WAIT_S):
            assert (await read_answer(reader, "GET")).header("Connection") == "close"
            assert await reader.read() == b""


async def test_many_requests_of_all_kinds_in_one_piece_are_answered_in_order(stack: Any) -> None:
    quota = await stack.quota(capacity=100)
    sent: list[bytes] = []
    for number in range(60):
        body = json.dumps(stack.body(quota)).encode()
        form = (sized, chunked)[number % 2](body).replace(b"Key: row", b"Key: row-%d" % number)
        sent += [form, FIRST["plain"], FIRST["doubted"]]
    reader, writer = await opened(stack)
    with closing(writer):
        writer.write(b"".join(sent))
        async with asyncio.timeout(WAIT_S):
            answers = [await read_answer(reader, method_of(each)) for each in sent]
            assert [each.status for each in answers] == [201, 200, 200] * 60
            ids = [json.loads(each.body)["id"] for each in answers[::3]]
            writer.write(sent[0] + sent[-3])
            repeated = [json.loads((await read_answer(reader, "POST")).body)["id"] for _ in range(2)]
    assert repeated == [ids[0], ids[-1]]


async def test_a_chunked_body_without_a_findable_end_is_the_last_of_its_connection(stack: Any) -> None:
    reader, writer = await opened(stack)
    with closing(writer):
        writer.write(chunked(b"\r\n\r\n" * 2_000) + FIRST["plain"])
        async with asyncio.timeout(WAIT_S):
            answer = await read_answer(reader, "POST")
            assert (answer.status, answer.header("Connection")) == (422, "close")
            assert await reader.read() == b""


@pytest.mark.parametrize("cut", [0, 1, 5, 12])
async def test_a_body_that_breaks_off_its_coding_is_refused_once(stack: Any, cut: int) -> None:
    whole = chunked(b"")[: -len(b"0\r\n\r\n")] + b"2\r\n{}\r\nzz\r\n{}\r\n"
    reader, writer = await opened(stack)
    with closing(writer):
        writer.write(whole[: len(whole) - cut])
        if cut:
            await asyncio.sleep(0.05)  # so that the front has read this much
            writer.write(whole[len(whole) - cut :] + FIRST["plain"])
        async with asyncio.timeout(WAIT_S):
            answer = await read_answer(reader, "POST")
            assert (answer.status, answer.problem, answer.header("Connection")) == (400, "bad-request", "close")
            assert await reader.read() == b""


@pytest.mark.parametrize("target", ["example.org:443", "/v1/programs", "*"])
@pytest.mark.parametrize("lines", [(), ("Trailer: x",), ("Content-Length: 75",), ("Transfer-Encoding: chunked",)])
async def test_nothing_is_read_behind_connect(stack: Any, target: str, lines: tuple[str, ...]) -> None:
    """What follows is for a tunnel (RFC 9110, section 9.3.6), or a body that other readers see elsewhere."""
    reader, writer = await opened(stack)
    with closing(writer):
        writer.write(head(f"CONNECT {target} HTTP/1.1", *lines) + FIRST["plain"])
        async with asyncio.timeout(WAIT_S):
            answer = await read_answer(reader, "CONNECT")
            assert (answer.status // 100, answer.header("Connection")) == (4, "close")
            assert await reader.read() == b""


BROKEN = (
    b"zz\r\n",
    b"-1\r\n\r\n",
    b"0x1\r\na\r\n0\r\n\r\n",
    b"0\r\nX y: 1\r\n\r\n",
    b"fffffffffffffffffff\r\n",
    b"5\r\nabcdefgh\r\n",
)


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("pause_s", [0, 0.1])
@pytest.mark.parametrize("blank", [b"", b"\r\n\r\n" * 1_100])
async def test_a_whole_body_with_a_broken_end_is_not_carried_out(
    stack: Any, broken: bytes, pause_s: float, blank: bytes
) -> None:
    quota = await stack.quota()
    whole = chunked(json.dumps(stack.body(quota)).encode() + blank)[: -len(b"0\r\n\r\n")]
    reader, writer = await opened(stack)
    with closing(writer):
        writer.write(whole)
        await asyncio.sleep(pause_s)  # in which the front reads the chunks
        writer.write(broken + FIRST["plain"])
        async with asyncio.timeout(WAIT_S):
            answer = await read_answer(reader, "POST")
            assert (answer.status, answer.problem, answer.header("Connection")) == (400, "bad-request", "close")
            assert await reader.read() == b""
    assert stack.front.availability.quota(quota).counts.held == 0


@pytest.mark.parametrize("broken", [*BROKEN, b"5\r\n" + b"\r\n\r\n" * 2_000])
@pytest.mark.parametrize("line", ["POST /nothing", "GET /openings", "DELETE /v1/programs"])
async def test_a_body_that_breaks_after_its_answer_gets_no_second_one(
    stack: Any, caplog: pytest.LogCaptureFixture, line: str, broken: bytes
) -> None:
    reader, writer = await opened(stack)
    with closing(writer):
        writer.write(head(f"{line} HTTP/1.1", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n")
        async with asyncio.timeout(WAIT_S):
            assert (await read_answer(reader, "GET")).status in (200, 404, 405)
            writer.write(broken + FIRST["plain"])
            assert await reader.read() == b""
    assert not [each for each in caplog.records if each.levelname in ("ERROR", "WARNING")], caplog.text


@pytest.mark.parametrize("pause_s", [0, 0.05])
@pytest.mark.parametrize("form", ["sized", "chunked", "expecting"])
async def test_a_caller_who_leaves_in_the_middle_is_no_fault(
    stack: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, form: str, pause_s: float
) -> None:
    more = {"sized": ("Trailer: x", "Content-Length: 50"), "expecting": ("Expect: 100-continue", "Content-Length: 50")}
    lines = more.get(form, ("Transfer-Encoding: chunked",))
    begun = head("POST /v1/find HTTP/1.1", "Content-Type: application/json", *lines) + b"1"
    reader, writer = await opened(stack)
    writer.write(begun if pause_s else FIRST["plain"] + begun)
    await asyncio.sleep(pause_s)  # in which the front begins to wait for the body
    if pause_s:
        writer.transport.abort()
    else:  # before the front has begun it
        writer.write_eof()
        await reader.read()
        writer.close()
    assert (await exchange(stack.url, FIRST["plain"], "GET")).status == 200
    output = capsys.readouterr()
    assert "connection_failed" not in output.out + output.err + caplog.text


INCOMPLETE = {
    "BREW /x HTTP/1.1": 501,
    "POST /x HTTP/2.0": 505,
    "POST /nothing HTTP/1.1": 404,
    "DELETE /v1/programs HTTP/1.1": 405,
    "GET /v1/programs HTTP/1.1": 200,
}


@pytest.mark.parametrize("line", INCOMPLETE)
async def test_what_needs_no_body_is_answered_before_it_arrives(stack: Any, line: str) -> None:
    plain, doubted = [
        await exchange(stack.url, head(line, "Content-Length: 10", *more) + b"abc", "GET")
        for more in ((), ("Trailer: x",))
    ]
    assert plain.status == INCOMPLETE[line]
    assert shown(plain) == shown(doubted)


@pytest.mark.parametrize("body", ["sized", "chunked", "broken"])
async def test_a_cancellation_that_does_not_arrive_completely_cancels_nothing(stack: Any, body: str) -> None:
    held = await stack.held(await stack.quota())
    lines, content = {
        "sized": ("Content-Length: 60", b"{"),
        "chunked": ("Transfer-Encoding: chunked", b"2\r\n{}\r\n"),
        "broken": ("Transfer-Encoding: chunked", b"2\r\n{}\r\nzz\r\n"),
    }[body]
    path = f"/v1/reservations/{held['id']}"
    bearer = f"Authorization: Bearer {held['manage_token']}"
    answer = await exchange(stack.url, head(f"POST {path}/cancel HTTP/1.1", bearer, lines) + content, "POST")
    assert answer.status == (400 if body == "broken" else 408)
    assert (await stack.managed("GET", held)).json["status"] == "held"


async def test_a_caller_who_is_still_sending_can_read_the_refusal_of_a_late_request(stack: Any) -> None:
    """An immediate close would reset the connection, which discards the answer on some systems."""
    reader, writer = await opened(stack)
    with closing(writer):
        writer.write(sized(b"{" + b" " * 99)[:-99])
        async with asyncio.timeout(WAIT_S):
            assert (await read_answer(reader, "POST")).status == 408
            for _ in range(5):
                writer.write(b" ")
                await asyncio.sleep(0.05)
            assert await reader.read() == b""  # and not a reset


async def test_an_answered_request_whose_body_does_not_come_holds_no_process_up(stack: Any, listening: Any) -> None:
    async with asyncio.timeout(8), listening(stack.front) as url:  # aiohttp alone waits ten seconds for the rest
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head("POST /nothing HTTP/1.1", "Content-Length: 100") + b"1")
        assert (await read_answer(reader, "POST")).status == 404
    writer.close()


async def test_a_refusal_of_head_has_no_body(stack: Any) -> None:
    for raw in (
        LAST["another version"],
        LAST["a long target"],
        LAST["a long header"],
        head("GET /v1/programs HTTP/1.1", "Transfer-Encoding: x"),
    ):
        reader, writer = await opened(stack)
        with closing(writer):
            writer.write(raw.replace(b"GET", b"HEAD", 1))
            async with asyncio.timeout(WAIT_S):
                answered = await reader.read()
        assert answered.endswith(b"\r\n\r\n"), answered


async def test_an_unreadable_request_keeps_its_name(stack: Any) -> None:
    """Also where aiohttp's parser refuses it."""
    raw = head("POST /v1/find HTTP/1.1", "X-Request-Id: mine", "Content-Length: 5", "Content-Length: 6")
    answer = await exchange(stack.url, raw, "POST")
    assert (answer.status, answer.header("X-Request-Id"), answer.header("Content-Language")) == (400, "mine", "en")


@pytest.mark.parametrize("option", ["close", "keep-alive"])
async def test_a_stream_says_whether_its_connection_ends(stack: Any, option: str) -> None:
    target = f"/v1/availability/stream?program={stack.program}"
    raw = head(f"GET {target} HTTP/1.1", f"Connection: {option}", "Accept: text/event-stream")
    answer = await exchange(stack.url, raw, "GET")
    assert answer.status == 200
    assert answer.header("Connection") == ("close" if option == "close" else "")
