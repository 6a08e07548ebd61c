"""Edge cases of HTTP: the same on both transports, for every method, and in the caller's language."""

import asyncio
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from reservasi.front.api.operations import OPERATIONS
from reservasi.front.pages import PAGES
from tests.acceptance.conftest import Stack
from tests.acceptance.two_ways import DOUBT, Answer, Way, exchange
from tests.acceptance.waiting import create_room

pytestmark = pytest.mark.asyncio(loop_scope="session")
WAYS = pytest.mark.parametrize("way", ["plain", "doubted"])
LANGUAGES = pytest.mark.parametrize("language", ["id", "en"])
COOKIES = "Cookie: " + "; ".join(f"c{number}={'x' * 300}" for number in range(29))  # some 9,000 bytes
NIK = "3578014107900001"
FILLED = {"{id}": "nowhere-1", "{type}": "sold-out", "{version}": "x", "{name}": "style.css"}
METHODS: dict[str, set[str]] = {}
for each in OPERATIONS:
    METHODS.setdefault(each.path, set()).update({"GET", "HEAD"} if each.method == "GET" else {each.method})
for page in PAGES:
    METHODS[page.path] = {"GET", "HEAD"}


def filled(path: str) -> str:
    for name, value in FILLED.items():
        path = path.replace(name, value)
    return path


async def ask(
    stack: Stack, way: Way, method: str, target: str, *lines: str, version: str = "HTTP/1.1", body: bytes = b""
) -> Answer:
    more = [f"Content-Length: {len(body)}"] if body else []
    doubt = [DOUBT] if way == "doubted" else []
    head = "\r\n".join([f"{method} {target} {version}", "Host: x", *lines, *doubt, *more])
    return await exchange(stack.url, head.encode("latin-1") + b"\r\n\r\n" + body, method)


def is_problem(answer: Answer, name: str, status: int, language: str = "id") -> dict[str, Any]:
    assert answer.status_line.startswith(f"HTTP/1.1 {status} "), answer
    assert answer.problem == name
    assert answer.header("Content-Language") == language
    assert answer.header("Server") == "reservasi"
    problem: dict[str, Any] = json.loads(answer.body)
    assert problem["status"] == status
    return problem


# -- how much a head may be --------------------------------------------------------------------------------------


@WAYS
async def test_nine_thousand_bytes_of_cookies_are_taken_everywhere(stack: Stack, way: Way) -> None:
    body = stack.body(await stack.quota())
    headers = (COOKIES, "Content-Type: application/json", f"Idempotency-Key: cookies-{way}")
    claimed = await ask(stack, way, "POST", "/v1/reservations", *headers, body=json.dumps(body).encode())
    assert claimed.status == 201, claimed
    held = json.loads(claimed.body)
    path, bearer = f"/v1/reservations/{held['id']}", f"Authorization: Bearer {held['manage_token']}"
    assert (await ask(stack, way, "GET", path, COOKIES, bearer)).status == 200
    assert (await ask(stack, way, "POST", f"{path}/confirm", COOKIES, bearer)).status in (200, 202)
    for target in ("/v1/programs", "/v1/availability", "/openings", "/openapi.json"):
        assert (await ask(stack, way, "GET", target, COOKIES)).status == 200


@WAYS
@LANGUAGES
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_too_long_a_header_is_named(stack: Stack, way: Way, language: str, method: str) -> None:
    lines = (f"Accept-Language: {language}", "Cookie: " + "x" * 40_000)
    target = "/v1/programs" if method == "GET" else "/v1/reservations"
    problem = is_problem(await ask(stack, way, method, target, *lines), "headers-too-large", 431, language)
    assert "Cookie" in problem["detail"]
    answer = await ask(stack, way, method, target, lines[1], lines[0])  # the language may come behind it
    assert answer.status == 431


@WAYS
@LANGUAGES
async def test_many_headers_together_are_too_many(stack: Stack, way: Way, language: str) -> None:
    lines = [f"X-Filler-{number}: {'x' * 4000}" for number in range(12)]
    answer = await ask(stack, way, "GET", "/v1/programs", f"Accept-Language: {language}", *lines)
    is_problem(answer, "headers-too-large", 431, language)
    lines = [f"X-Filler-{number}: x" for number in range(1000)]
    answer = await ask(stack, way, "GET", "/v1/programs", f"Accept-Language: {language}", *lines)
    is_problem(answer, "headers-too-large", 431, language)


@WAYS
@LANGUAGES
async def test_too_long_a_target_is_named(stack: Stack, way: Way, language: str) -> None:
    for target in (f"/v1/availability?office={'x' * 40_000}", "/" + "x" * 40_000):
        answer = await ask(stack, way, "GET", target, f"Accept-Language: {language}")
        is_problem(answer, "target-too-long", 414, language)


@pytest.mark.parametrize("line", [f"X-{NIK}: {'x' * 40_000}", f"{NIK}: {'x' * 40_000}", "é" * 40_000])
async def test_the_name_of_a_header_is_said_only_where_it_is_nobody_s_number(stack: Stack, line: str) -> None:
    answer = await ask(stack, "plain", "GET", "/v1/programs", line)
    assert answer.status in (400, 431)
    assert NIK.encode() not in answer.body


async def test_a_kept_connection_has_the_same_limits(stack: Stack) -> None:
    address = urlsplit(stack.url)
    for line in ("", f"\r\n{DOUBT}"):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        with closing(writer):
            writer.write(f"GET /v1/programs HTTP/1.1\r\nHost: x{line}\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = next(each for each in head.split(b"\r\n") if each.lower().startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            writer.write(f"GET /v1/programs HTTP/1.1\r\nHost: x{line}\r\n{COOKIES}\r\n\r\n".encode())
            assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"200"
            writer.write(f"GET /v1/programs HTTP/1.1\r\nHost: x\r\nCookie: {'x' * 40_000}\r\n\r\n".encode())
            assert b"HTTP/1.1 431 " in await asyncio.wait_for(reader.read(), 10)


# -- versions, methods, codings ----------------------------------------------------------------------------------


@WAYS
@LANGUAGES
@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/1.2", "HTTP/2"])
async def test_another_version_is_not_supported(stack: Stack, way: Way, language: str, version: str) -> None:
    answer = await ask(stack, way, "GET", "/v1/programs", f"Accept-Language: {language}", version=version)
    is_problem(answer, "http-version-not-supported", 505, language)
    answer = await ask(stack, way, "POST", "/v1/reservations", f"Accept-Language: {language}", version=version)
    is_problem(answer, "http-version-not-supported", 505, language)


@pytest.mark.parametrize("version", ["HTTP/1", "HTTP/x.y", f"HTTP/9.{NIK}", "http/1.1", "FTP/1.1"])
async def test_what_is_no_version_is_no_request(stack: Stack, version: str) -> None:
    answer = await ask(stack, "plain", "GET", "/v1/programs", version=version)
    is_problem(answer, "bad-request", 400)
    assert NIK.encode() not in answer.body


@WAYS
@LANGUAGES
@pytest.mark.parametrize("method", ["BREW", "get", "PROPFIND", "X-ANYTHING", "A" * 200])
@pytest.mark.parametrize("target", ["/v1/programs", "/v1/reservations", "/openings", "/nothing", "/"])
async def test_an_unknown_method_is_not_implemented(
    stack: Stack, way: Way, language: str, method: str, target: str
) -> None:
    answer = await ask(stack, way, method, target, f"Accept-Language: {language}")
    is_problem(answer, "method-not-implemented", 501, language)
    assert method not in answer.body.decode()


@WAYS
@LANGUAGES
@pytest.mark.parametrize(
    "line",
    [
        "GET  /openings HTTP/1.1",
        "GET  /openings HTTP/2.0",
        "GET /openings  HTTP/0.9",
        "GET /openings HTTP/1.1 ",
        "GET /openings RTSP/1.0",
        "GET /openings",
        "BREW  /openings HTTP/1.1",
    ],
)
async def test_a_request_line_of_another_form_is_no_request(stack: Stack, way: Way, language: str, line: str) -> None:
    doubt = f"{DOUBT}\r\n" if way == "doubted" else ""
    raw = f"{line}\r\nHost: x\r\nAccept-Language: {language}\r\n{doubt}\r\n"
    is_problem(await exchange(stack.url, raw.encode(), "GET"), "bad-request", 400, language)


@pytest.mark.parametrize("field", ["no colon", "X Y: z", "X-Y : z", " folded: z", ": z", "X-Y: a\rb"])
async def test_a_header_of_another_form_is_no_request(stack: Stack, field: str) -> None:
    answer = await ask(stack, "plain", "GET", "/v1/programs", "X-Request-Id: mine", field)
    is_problem(answer, "bad-request", 400)
    assert answer.header("X-Request-Id") == "mine"


@pytest.mark.parametrize("method", ["GE T", "G@T", "GÉT", ""])
async def test_what_is_no_method_is_no_request(stack: Stack, method: str) -> None:
    is_problem(await ask(stack, "plain", method, "/v1/programs"), "bad-request", 400)


@WAYS
@LANGUAGES
@pytest.mark.parametrize("coding", ["identity, chunked", "gzip, chunked", "chunked, chunked", "identity", "x", ""])
async def test_another_transfer_coding_is_refused(stack: Stack, way: Way, language: str, coding: str) -> None:
    lines = (f"Accept-Language: {language}", f"Transfer-Encoding: {coding}", "Content-Type: application/json")
    answer = await ask(stack, way, "POST", "/v1/reservations", *lines)
    is_problem(answer, "bad-request", 400, language)


async def test_a_transfer_coding_of_an_older_version_is_refused(stack: Stack) -> None:
    raw = b"POST /nothing HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    answer = await exchange(stack.url, raw, "POST")
    is_problem(answer, "bad-request", 400)
    assert answer.header("Connection") == "close"


@WAYS
@pytest.mark.parametrize("length", ["0" * 4_300 + "2", "9" * 5_000, "9" * 20])
async def test_a_length_of_too_many_digits_is_refused(stack: Stack, way: Way, length: str) -> None:
    answer = await ask(stack, way, "POST", "/v1/find", "Accept-Language: en", f"Content-Length: {length}")
    is_problem(answer, "bad-request", 400, "en")


async def test_chunked_is_taken_however_it_is_written(stack: Stack) -> None:
    content = json.dumps(stack.body(await stack.quota())).encode()
    for coding in ("chunked", "Chunked", " chunked "):
        head = (
            f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {coding}\r\nIdempotency-Key: chunks\r\n"
        )
        raw = head.encode() + b"Content-Type: application/json\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
        assert (await exchange(stack.url, raw, "POST")).status == 201


@WAYS
@pytest.mark.parametrize("option", ["close", "Close", "keep-alive, close", "TE, close", "close, x"])
@pytest.mark.parametrize("target", ["/v1/availability", "/v1/programs", "/openings", "/nothing"])
async def test_connection_close_closes(stack: Stack, way: Way, option: str, target: str) -> None:
    address = urlsplit(stack.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    doubt = f"{DOUBT}\r\n" if way == "doubted" else ""
    with closing(writer):
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n{doubt}Connection: {option}\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)  # to its end, which comes at once
    assert b"\r\nConnection: close\r\n" in answer.partition(b"\r\n\r\n")[0] + b"\r\n"


# -- HEAD and OPTIONS --------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("path", sorted(METHODS))
async def test_options_names_the_methods_of_every_path(stack: Stack, way: Way, path: str) -> None:
    answer = await ask(stack, way, "OPTIONS", filled(path))
    assert (answer.status, answer.body) == (204, b"")
    assert set(answer.header("Allow").split(", ")) == METHODS[path] | {"OPTIONS"}
    assert not answer.header("Content-Length")
    assert not answer.header("Access-Control-Allow-Origin")


@WAYS
@pytest.mark.parametrize("path", sorted(METHODS))
async def test_another_method_is_told_the_same_methods(stack: Stack, way: Way, path: str) -> None:
    for method in {"DELETE", "TRACE", "HEAD", "GET", "QUERY"} - METHODS[path]:
        answer = await ask(stack, way, method, filled(path))
        assert answer.status == 405
        assert set(answer.header("Allow").split(", ")) == METHODS[path] | {"OPTIONS"}


@WAYS
@pytest.mark.parametrize("path", sorted(path for path, methods in METHODS.items() if "HEAD" in methods))
async def test_head_says_what_get_would(stack: Stack, way: Way, path: str) -> None:
    room = await create_room(stack)
    target = filled(path.replace("/openings/{id}", f"/openings/{room.id}"))
    if path == "/v1/openings.ics":
        target = f"{target}?program={stack.program}"
    got, head = [
        await ask(stack, way, method, target, f"X-API-Key: {stack.operator_key}") for method in ("GET", "HEAD")
    ]
    assert (head.status, head.body) == (got.status, b"")
    ignored = {"Date", "X-Request-Id", "Transfer-Encoding", "X-Accel-Buffering", "Connection"}
    lengths = {"Content-Length"} if path.endswith(("stream", "challenge")) else set()
    kept = [{name for name, _ in each.headers} - ignored - lengths for each in (got, head)]
    assert kept[0] == kept[1]
    if not lengths:
        assert head.header("Content-Length") == got.header("Content-Length")


async def test_options_of_nothing_and_of_everything(stack: Stack) -> None:
    assert (await ask(stack, "plain", "OPTIONS", "/nothing")).status == 404
    answer = await ask(stack, "plain", "OPTIONS", "*")
    assert answer.status == 204
    assert {"GET", "HEAD", "OPTIONS", "POST"} <= set(answer.header("Allow").split(", "))


@WAYS
@pytest.mark.parametrize("lines", [("fr", "en"), ("en;q=0.5", "id;q=0.1"), ("id;q=0.1", "en;q=0.5")])
async def test_lines_of_languages_are_one_list(stack: Stack, way: Way, lines: tuple[str, str]) -> None:
    headers = [f"Accept-Language: {each}" for each in lines]
    is_problem(await ask(stack, way, "GET", "/nothing", *headers), "not-found", 404, "en")
    is_problem(await ask(stack, way, "BREW", "/nothing", *headers), "method-not-implemented", 501, "en")


# -- query parameters --------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.path.startswith("/v1/")], ids=lambda o: o.id)
async def test_an_unknown_parameter_is_named_by_every_operation(stack: Stack, way: Way, operation: Any) -> None:
    room = await create_room(stack)
    target = filled(operation.path.replace("/openings/{id}", f"/openings/{room.id}"))
    lines = (f"X-API-Key: {stack.operator_key}", "Content-Type: application/json", "Accept-Language: en")
    body = b"{}" if operation.method != "GET" else b""
    answer = await ask(stack, way, operation.method, f"{target}?colour=red", *lines, body=body)
    errors = is_problem(answer, "invalid-request", 422, "en")["errors"]
    assert ("colour", "unknown-parameter") in [(each["pointer"], each["code"]) for each in errors]
    assert "colour" in next(each["detail"] for each in errors if each["pointer"] == "colour")
    answer = await ask(stack, way, operation.method, f"{target}?{NIK}=1", *lines, body=body)
    assert answer.status == 422
    assert NIK.encode() not in answer.body


@WAYS
async def test_pages_ignore_what_they_do_not_know(stack: Stack, way: Way) -> None:
    room = await create_room(stack)
    for target in ("/openings", f"/openings/{room.id}", "/"):
        plain, more = [await ask(stack, way, "GET", each) for each in (target, f"{target}?utm_source=x&fbclid=y")]
        assert plain.status == more.status
        assert plain.status in (200, 302, 303, 307, 308)


# -- addresses that people type ----------------------------------------------------------------------------------

BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@WAYS
@pytest.mark.parametrize(("target", "to"), [("/", "/openings"), ("/openings/", "/openings"), ("/?x=y", "/openings")])
async def test_what_people_type_leads_to_a_page(stack: Stack, way: Way, target: str, to: str) -> None:
    for accept in (BROWSER, "Accept: */*"):
        answer = await ask(stack, way, "GET", target, accept)
        assert answer.status in (302, 303, 307, 308)
        assert answer.header("Location") == to
        head = await ask(stack, way, "HEAD", target, accept)
        assert (head.status, head.header("Content-Length")) == (answer.status, answer.header("Content-Length"))


@WAYS
@LANGUAGES
@pytest.mark.parametrize("target", ["/nothing", "/openings/nowhere-1", "/favicon.ico", "/openings/x/y"])
async def test_a_browser_never_sees_json(stack: Stack, way: Way, target: str, language: str) -> None:
    answer = await ask(stack, way, "GET", target, BROWSER, f"Accept-Language: {language}")
    assert answer.status == 404
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    assert answer.header("Content-Language") == language
    assert b'href="/openings"' in answer.body


@WAYS
async def test_a_program_gets_a_problem(stack: Stack, way: Way) -> None:
    for target, accept in (
        ("/nothing", "Accept: */*"),
        ("/v1/nothing", BROWSER),
        ("/nothing", "Accept: application/json"),
    ):
        assert (await ask(stack, way, "GET", target, accept)).problem == "not-found"


# -- If-Match ----------------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("header", ['"77", {}', '{}, "77"', ' "a" , {} ,"b"', "*", 'W/"9", {}'])
async def test_if_match_takes_a_list(stack: Stack, way: Way, header: str) -> None:
    quota = await stack.quota()
    version = (await stack.seen(quota, lambda _: True)).counts.version
    lines = (f"X-API-Key: {stack.operator_key}", "Content-Type: application/json")
    for capacity in (21, 22):
        match = "If-Match: " + header.replace("{}", f'"{version}"')
        body = json.dumps({"capacity": capacity}).encode()
        answer = await ask(stack, way, "PUT", f"/v1/staff/quotas/{quota}", *lines, match, body=body)
        assert answer.status == 200, answer
        version = json.loads(answer.body)["version"]
    stale = ("If-Match: " + header.replace("{}", '"1"')) if header != "*" else 'If-Match: "1", "77"'
    body = json.dumps({"capacity": 23}).encode()
    refused = await ask(stack, way, "PUT", f"/v1/staff/quotas/{quota}", *lines, stale, body=body)
    assert is_problem(refused, "version-mismatch", 412)["version"] == version
    two_lines = ('If-Match: "77"', f'If-Match: "{version}"')
    answer = await ask(stack, way, "PUT", f"/v1/staff/quotas/{quota}", *lines, *two_lines, body=body)
    assert answer.status == 200


@WAYS
async def test_if_match_takes_a_list_for_openings(stack: Stack, way: Way) -> None:
    room = await create_room(stack)
    lines = (f"X-API-Key: {stack.operator_key}", "Content-Type: application/json")
    body = json.dumps({"cancelled": True, "reason": "banjir"}).encode()
    path = f"/v1/staff/openings/{room.id}"
    assert (await ask(stack, way, "PATCH", path, *lines, 'If-Match: "7", "8"', body=body)).status == 412
    assert (await ask(stack, way, "PATCH", path, *lines, 'If-Match: "7", "1"', body=body)).status == 200
