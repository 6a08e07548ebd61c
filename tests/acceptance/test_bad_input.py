"""Each kind of bad input gets its own problem and changes nothing."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from tests.acceptance.lines import connect, request

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def unchanged(stack: Any) -> AsyncIterator[str]:
    """A quota; at the end of the test the ledger must be what it was."""
    quota = await stack.quota()
    before = await stack.ledger_state()
    yield quota
    assert await stack.ledger_state() == before


def errors(problem: dict[str, Any]) -> set[tuple[str, str]]:
    return {(error["pointer"], error["code"]) for error in problem["errors"]}


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"nik": "357801410790000"}, "nik", "nik-length"),
        ({"nik": "35780141079000012"}, "nik", "nik-length"),
        ({"nik": 3578014107900001}, "nik", "nik-type"),
        ({"nik": None}, "nik", "nik-type"),
        ({"nik": "³⁵⁷⁸⁰¹⁴¹⁰⁷⁹⁰⁰⁰⁰¹"}, "nik", "nik-digits"),
        ({"nik": "3578014107900001\x00"}, "nik", "nik-length"),
        ({"nik": "357801410790000\x00"}, "nik", "nik-digits"),
        ({"nik": "357801410790000\n"}, "nik", "nik-digits"),
        ({"nik": " 357801410790000"}, "nik", "nik-digits"),
        ({"nik": "9978014107900001"}, "nik", "nik-invalid"),
        ({"nik": "3578013002900001"}, "nik", "nik-invalid"),
        ({"nik": "3578018107900001"}, "nik", "nik-invalid"),
        ({"birth_date": "1990-02-30"}, "birth_date", "birth-date-invalid"),
        ({"birth_date": "1990-07-\n01"}, "birth_date", "birth-date-invalid"),
        ({"birth_date": " "}, "birth_date", "birth-date-invalid"),
        ({"birth_date": "19900701"}, "birth_date", "birth-date-invalid"),
        ({"birth_date": "1990-07-01T00:00:00"}, "birth_date", "birth-date-invalid"),
        ({"birth_date": "1899-12-31"}, "birth_date", "birth-date-range"),
        ({"birth_date": "2999-01-01"}, "birth_date", "birth-date-range"),
        ({"birth_date": 1990}, "birth_date", "birth-date-type"),
        ({"name": ""}, "name", "name-length"),
        ({"name": "x" * 101}, "name", "name-length"),
        ({"name": "Siti\x00"}, "name", "name-characters"),
        ({"name": "   "}, "name", "name-characters"),
        ({"name": ["Siti"]}, "name", "name-type"),
    ],
)
async def test_an_applicants_field(
    stack: Any, unchanged: str, changes: dict[str, Any], pointer: str, code: str
) -> None:
    body = {"quota": unchanged, "applicants": [stack.applicant(), stack.applicant(**changes)]}
    reply = await stack.claim(body)
    assert errors(reply.is_problem("invalid-request", 422)) == {(f"/applicants/1/{pointer}", code)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"quota": 5}, {("/quota", "quota-type")}),
        ({"quota": "surabaya"}, {("/quota", "quota-invalid")}),
        ({"applicants": {}}, {("/applicants", "array-expected")}),
        ({"applicants": []}, {("/applicants", "applicants-count")}),
        ({"applicants": ["x"]}, {("/applicants/0", "object-expected")}),
        ({"contact": []}, {("/contact", "object-expected")}),
        ({"contact": {"email": "nobody"}}, {("/contact/email", "email-invalid")}),
        ({"contact": {"email": "a@" + "b." * 200 + "id"}}, {("/contact/email", "email-invalid")}),
        ({"contact": {"phone": "+62"}}, {("/contact/phone", "phone-invalid")}),
        ({"contact": {"fax": "1"}}, {("/contact/fax", "unknown-field")}),
        ({"ticket": "t" * 2049}, {("/ticket", "ticket-length")}),
        ({"price": 0}, {("/price", "unknown-field")}),
        ({"3578014107900001": 0}, {("", "unknown-field")}),
    ],
)
async def test_a_claims_field(
    stack: Any, unchanged: str, changes: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    reply = await stack.claim({**stack.body(unchanged), **changes})
    assert errors(reply.is_problem("invalid-request", 422)) == expected


async def test_every_finding_is_named_at_once(stack: Any, unchanged: str) -> None:
    body = {
        "quota": unchanged,
        "applicants": [{"nik": "1", "name": "", "birth_date": "x", "age": 3}, {"name": "Siti"}],
        "contact": {"email": "x", "phone": "x"},
    }
    assert errors((await stack.claim(body)).is_problem("invalid-request", 422)) == {
        ("/applicants/0/nik", "nik-length"),
        ("/applicants/0/name", "name-length"),
        ("/applicants/0/birth_date", "birth-date-invalid"),
        ("/applicants/0/age", "unknown-field"),
        ("/applicants/1/nik", "missing"),
        ("/applicants/1/birth_date", "missing"),
        ("/contact/email", "email-invalid"),
        ("/contact/phone", "phone-invalid"),
    }


async def test_six_applicants(stack: Any, unchanged: str) -> None:
    reply = await stack.claim(stack.body(unchanged, 6))
    assert errors(reply.is_problem("invalid-request", 422)) == {("/applicants", "applicants-count")}


async def test_the_same_nik_twice_in_one_group(stack: Any, unchanged: str) -> None:
    applicant = stack.applicant()
    body = {"quota": unchanged, "applicants": [applicant, stack.applicant(), {**applicant, "name": "Sita"}]}
    reply = await stack.claim(body)
    assert errors(reply.is_problem("invalid-request", 422)) == {("/applicants/2/nik", "nik-repeated")}


@pytest.mark.parametrize(
    "quota", ["{program}.kanim.baru.20270301.0759.online", "nowhere.kanim.baru.20270301.0800.online"]
)
async def test_an_unknown_quota(stack: Any, unchanged: str, quota: str) -> None:
    body = stack.body(quota.format(program=stack.program))
    (await stack.claim(body)).is_problem("unknown-quota", 404)


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": ""}])
async def test_a_missing_key(stack: Any, unchanged: str, headers: dict[str, str]) -> None:
    reply = await stack.request("POST", "/v1/reservations", json=stack.body(unchanged), headers=headers)
    reply.is_problem("idempotency-key-missing", 400)


@pytest.mark.parametrize("key", ["k" * 256, "kunci-é", "a\tb"])
async def test_a_key_that_is_none(stack: Any, unchanged: str, key: str) -> None:
    reply = await stack.claim(stack.body(unchanged), key)
    assert errors(reply.is_problem("invalid-request", 422)) == {("Idempotency-Key", "idempotency-key-invalid")}


async def test_two_keys(stack: Any, unchanged: str) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    reply = await stack.request("POST", "/v1/reservations", json=stack.body(unchanged), headers=headers)
    reply.is_problem("invalid-request", 422)


async def test_a_key_of_the_greatest_length(stack: Any) -> None:
    assert (await stack.claim(stack.body(await stack.quota()), "k" * 255)).status == 201


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_a_megabyte(stack: Any, unchanged: str, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield b" " * 65_536

    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    data = pieces() if chunked else b" " * 1_048_576
    reply = await stack.request("POST", "/v1/reservations", data=data, headers=headers)
    reply.is_problem("body-too-large", 413)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"quota": "\xff\xfe"}', "invalid-utf8"),
        (b"\xc3", "invalid-utf8"),
        (b"", "invalid-json"),
        (b"{", "invalid-json"),
        (b"{'quota': 1}", "invalid-json"),
        (b"\xef\xbb\xbf{}", "invalid-json"),
        (b"[" * 16_000, "invalid-json"),
        (b'{"quota": NaN}', "invalid-json"),
        (b'{"quota": 1e999}', "invalid-json"),
        (b'{"quota": "\\ud800"}', "invalid-json"),
        (b"[]", "object-expected"),
        (b"null", "object-expected"),
        (b"9" * 10_000, "invalid-json"),
    ],
)
async def test_a_body_that_is_no_claim(stack: Any, unchanged: str, data: bytes, code: str) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    reply = await stack.request("POST", "/v1/reservations", data=data, headers=headers)
    assert errors(reply.is_problem("invalid-request", 422)) == {("", code)}


@pytest.mark.parametrize("way", [[], ["Trailer"]], ids=["plain", "trailer"])
@pytest.mark.parametrize(("written", "name"), [('"quota"', "quota"), ('"\\u0071uota" ', "quota"), ('"price"', "")])
async def test_a_key_given_twice_is_named(stack: Any, unchanged: str, way: list[str], written: str, name: str) -> None:
    body = json.dumps(stack.body(unchanged))
    data = f'{{{written}: "x",' + (f"{written}:1," if not name else "") + body[1:]
    headers = {"Idempotency-Key": secrets.token_hex(8), "Content-Type": "application/json", **dict.fromkeys(way, "x")}
    problem = (await stack.request("POST", "/v1/reservations", data=data, headers=headers)).is_problem(
        "invalid-request", 422
    )
    assert errors(problem) == {(f"/{name or 'price'}", "repeated-key")}
    assert (name or "price") in problem["errors"][0]["detail"]


async def test_a_key_given_twice_is_refused_by_every_operation(stack: Any) -> None:
    held = await stack.held(await stack.quota())
    quota = await stack.quota()
    before = await stack.ledger_state()
    json_body = {"headers": {"Content-Type": "application/json"}}
    replies = [
        await stack.managed(
            "POST", held, "/confirm", data='{"payment_reference":"a","payment_reference":"a"}', **json_body
        ),
        await stack.staff("PUT", f"/v1/staff/quotas/{quota}", data='{"closed":true,"closed":true}', **json_body),
        await stack.staff("POST", "/v1/staff/openings", data='{"program":"a","program":"a"}', **json_body),
    ]
    for reply in replies:
        assert {code for _, code in errors(reply.is_problem("invalid-request", 422))} == {"repeated-key"}
    assert await stack.ledger_state() == before


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/json; charset=utf-16", ""])
async def test_another_content_type(stack: Any, unchanged: str, content_type: str) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": content_type}
    data = json.dumps(stack.body(unchanged)).encode()
    reply = await stack.request("POST", "/v1/reservations", data=data, headers=headers)
    reply.is_problem("unsupported-media-type", 415)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "nonsense", "identity"])
async def test_a_compressed_body_is_refused_unread(stack: Any, unchanged: str, encoding: str) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json", "Content-Encoding": encoding}
    reply = await stack.request("POST", "/v1/reservations", data=b"zz", headers=headers)
    reply.is_problem("unsupported-media-type", 415)


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        ("Content-Length: 100\r\n", b'{"quota"', 408),
        ("Transfer-Encoding: chunked\r\n", b"5\r\n{}", 408),
        ("Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n", 400),
        ("Content-Length: 2\r\nExpect: miracles\r\n", b"{}", 417),
    ],
)
async def test_a_body_that_does_not_come(stack: Any, unchanged: str, head: str, body: bytes, status: int) -> None:
    host, _, port = stack.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = "POST /v1/reservations HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n"
    writer.write((request + head + "\r\n").encode() + body)
    async with asyncio.timeout(10):
        answer = await reader.read(65_536)
    writer.close()
    assert answer.split(b" ")[1] == str(status).encode(), answer
    assert b"Server: reservasi\r\n" in answer
    assert b"application/problem+json" in answer


NIK = "3578014107900001"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (f"{NIK}\r\n\r\n", b"400"),
        (f"GET /v1/programs HTTP/9.{NIK}\r\n\r\n", b"400"),
        (f"GET /v1/programs HTTP/1.1\r\nHost: x\r\nX-NIK: {NIK}{'x' * 40_000}\r\n\r\n", b"431"),
        (f"GET /v1/programs?{NIK}={'x' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (f"GET /v1/programs HTTP/1.1\r\nHost: x\r\n{NIK}\r\n\r\n", b"400"),
        (f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Length: {NIK}x\r\n\r\n", b"400"),
    ],
)
async def test_bytes_that_are_not_http(  # noqa: PLR0917 - what pytest captures is two
    stack: Any,
    unchanged: str,
    data: str,
    status: bytes,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    host, _, port = stack.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data.encode())
    async with asyncio.timeout(10):
        answer = await reader.read(65_536)
    writer.close()
    assert answer.split(b" ")[1] == status, answer
    assert b"application/problem+json" in answer
    output = capsys.readouterr()
    for shown in (answer.decode(), output.out, output.err, caplog.text):
        assert NIK not in shown


async def test_a_request_that_never_ends(stack: Any, listening: Any) -> None:
    settings = stack.front.settings.model_copy(update={"keepalive_s": 1, "head_timeout_ms": 1500})
    async with listening(replace(stack.front, settings=settings)) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        for head in (b"", b"POST /v1/res", b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(head)
            async with asyncio.timeout(10):
                answer = await reader.read()
            assert answer.split(b" ")[1:2] == ([b"408"] if head else [])
            writer.close()


@pytest.mark.parametrize("request_head", [b"GET /v1/programs HTTP/1.1\r\nHost: x\r\n", None])
async def test_a_request_that_arrives_slowly_outlives_an_idle_connection(
    stack: Any, listening: Any, request_head: bytes | None
) -> None:
    body = json.dumps(stack.body(await stack.quota())).encode()
    whole = request_head + b"\r\n" if request_head else request(stack, body, "slowly")
    settings = stack.front.settings.model_copy(update={"keepalive_s": 1, "body_timeout_ms": 5000})
    async with listening(replace(stack.front, settings=settings)) as url:
        line = await connect(url)
        await asyncio.sleep(0.7)  # so that the connection's time ends while the request arrives
        line.writer.write(whole[:-1])
        await asyncio.sleep(1.0)
        line.writer.write(whole[-1:])
        assert (await line.answer())[0].split(" ")[1] in ("200", "201")
        line.writer.close()


async def test_expect_continue_is_honoured(stack: Any) -> None:
    body = stack.body(await stack.quota())
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    reply = await stack.request("POST", "/v1/reservations", json=body, headers=headers, expect100=True)
    assert reply.status == 201


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {("", "change-empty")}),
        ({"capacity": 1.0}, {("/capacity", "capacity-type")}),
        ({"capacity": True}, {("/capacity", "capacity-type")}),
        ({"capacity": "5"}, {("/capacity", "capacity-type")}),
        ({"capacity": -1}, {("/capacity", "capacity-range")}),
        ({"capacity": 100_001}, {("/capacity", "capacity-range")}),
        ({"opens_at": "2027-02-30T00:00:00Z"}, {("/opens_at", "time-invalid")}),
        ({"closes_at": "2027-02-03T00:00:00"}, {("/closes_at", "time-invalid")}),
        ({"closed": 1, "price": 2}, {("/closed", "closed-type"), ("/price", "unknown-field")}),
    ],
)
async def test_a_quota_change(stack: Any, unchanged: str, body: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    reply = await stack.staff("PUT", f"/v1/staff/quotas/{unchanged}", json=body)
    assert errors(reply.is_problem("invalid-request", 422)) == expected


async def test_a_quota_set_below_what_is_taken(stack: Any) -> None:
    quota = await stack.quota()
    await stack.held(quota, 3)
    before = await stack.ledger_state()
    reply = await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json={"capacity": 2})
    assert reply.is_problem("below-taken", 409)["taken"] == 3
    assert await stack.ledger_state() == before


@pytest.mark.parametrize(
    "query",
    [
        "from=2027-02-30",
        "from=tomorrow",
        "from=2027-03-02&to=2027-03-01",
        "colour=red",
        "office=%00",
        "office=a.b",
        "from=2027-03-01&from=2027-03-02",
    ],
)
async def test_a_query_that_makes_no_sense(stack: Any, unchanged: str, query: str) -> None:
    (await stack.request("GET", f"/v1/availability?{query}")).is_problem("invalid-request", 422)
    (await stack.request("GET", f"/v1/availability/stream?{query}")).is_problem("invalid-request", 422)
    (await stack.staff("GET", f"/v1/staff/quotas?{query}")).is_problem("invalid-request", 422)
