"""Booking frontends on other origins: only configured origins are allowed, and caches distinguish them."""

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from reservasi.bootstrap.fronts import open_front
from reservasi.front.api.operations import OPERATIONS
from reservasi.settings import Settings
from tests.acceptance.conftest import Stack
from tests.acceptance.test_http_edges import METHODS, ask, filled
from tests.acceptance.two_ways import Answer
from tests.acceptance.waiting import create_room

pytestmark = pytest.mark.asyncio(loop_scope="session")
WAYS = pytest.mark.parametrize("way", ["plain", "doubted"])
OURS = ("https://antrean.example.id", "http://localhost:3000")
ORIGIN = f"Origin: {OURS[0]}"
EXPOSED = {"ETag", "Location", "Retry-After", "Idempotent-Replayed", "X-Request-Id", "Content-Language", "Allow"}
ALLOWED = {"Idempotency-Key", "Authorization", "If-None-Match", "If-Match", "Content-Type", "X-API-Key", "X-Request-Id"}
STRANGERS = (
    "https://evil.example",
    "https://antrean.example.id.evil.example",
    "https://antrean.example.id:8443",
    "http://antrean.example.id",
    "https://ANTREAN.example.id.",
    "null",
    "",
    "*",
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(stack: Stack, listening: Any) -> AsyncIterator[Stack]:
    """A front that lets two other origins in."""
    settings = stack.front.settings.model_copy(update={"cors_origins": OURS, "rate_network_burst": 5000})
    async with open_front(settings) as front, listening(front) as url:

        async def serves() -> bool:
            return front.catalogue.program(stack.program) is not None and front.availability.knows(stack.program)

        await stack.eventually(serves)
        yield stack.at(url)


def varies_by_origin(answer: Answer) -> bool:
    return any(name == "Vary" and "Origin" in value.split(", ") for name, value in answer.headers)


def lets_in(answer: Answer, origin: str = OURS[0]) -> None:
    assert [value for name, value in answer.headers if name == "Access-Control-Allow-Origin"] == [origin]
    assert set(answer.header("Access-Control-Expose-Headers").split(", ")) >= EXPOSED
    assert varies_by_origin(answer)
    assert not answer.header("Access-Control-Allow-Credentials")


def shuts_out(answer: Answer) -> None:
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]


@WAYS
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
async def test_every_answer_of_the_api_may_be_read(shared: Stack, way: Any, operation: Any) -> None:
    target, body = filled(operation.path), b"{}" if operation.method != "GET" else b""
    lines = ("Content-Type: application/json", f"X-API-Key: {shared.operator_key}")
    for origin in OURS:
        lets_in(await ask(shared, way, operation.method, target, f"Origin: {origin}", *lines, body=body), origin)
    for origin in STRANGERS:
        answer = await ask(shared, way, operation.method, target, f"Origin: {origin}", *lines, body=body)
        shuts_out(answer)
        assert varies_by_origin(answer)
    answer = await ask(shared, way, operation.method, target, *lines, body=body)
    shuts_out(answer)
    assert varies_by_origin(answer), "a cache must not give this one to somebody of another origin"


@WAYS
async def test_a_booking_from_another_origin(shared: Stack, way: Any) -> None:
    room, quota = await create_room(shared), await shared.quota()
    body, json_type = shared.body(quota), "Content-Type: application/json"
    await shared.seen(quota, lambda _: True)
    headers = (ORIGIN, json_type, f"Idempotency-Key: {secrets.token_hex(8)}")
    for replayed in ("", "true"):
        claimed = await ask(shared, way, "POST", "/v1/reservations", *headers, body=json.dumps(body).encode())
        assert claimed.status == 201
        lets_in(claimed)
        assert claimed.header("Idempotent-Replayed") == replayed
    held = json.loads(claimed.body)
    path, bearer = f"/v1/reservations/{held['id']}", f"Authorization: Bearer {held['manage_token']}"
    for method, target in (("GET", path), ("POST", f"{path}/confirm"), ("GET", f"{path}/qr.svg")):
        answer = await ask(shared, way, method, target, ORIGIN, bearer)
        assert answer.status == 200
        lets_in(answer)
    person = {"nik": shared.nik(), "birth_date": "1990-07-01"}
    joined = await ask(
        shared, way, "POST", f"/v1/openings/{room.id}/tickets", ORIGIN, json_type, body=json.dumps(person).encode()
    )
    assert joined.status == 201
    lets_in(joined)
    listed = await ask(shared, way, "GET", "/v1/availability", ORIGIN)
    lets_in(listed)
    unchanged = await ask(shared, way, "GET", "/v1/availability", ORIGIN, f"If-None-Match: {listed.header('ETag')}")
    assert unchanged.status in (200, 304)
    lets_in(unchanged)
    full = await shared.quota(capacity=0)
    content = json.dumps(shared.body(full)).encode()
    lets_in(await ask(shared, way, "POST", "/v1/reservations", ORIGIN, json_type, "Idempotency-Key: k", body=content))


@WAYS
@pytest.mark.parametrize("path", sorted(each for each in METHODS if each.startswith("/v1/")))
async def test_a_preflight_lets_every_operation_in(shared: Stack, way: Any, path: str) -> None:
    methods = METHODS[path]
    for method in methods:
        headers = (f"Access-Control-Request-Method: {method}", "Access-Control-Request-Headers: idempotency-key")
        answer = await ask(shared, way, "OPTIONS", filled(path), ORIGIN, *headers)
        assert (answer.status, answer.body) == (204, b"")
        lets_in(answer)
        assert set(answer.header("Access-Control-Allow-Methods").split(", ")) >= methods
        assert set(answer.header("Access-Control-Allow-Headers").split(", ")) >= ALLOWED
        assert int(answer.header("Access-Control-Max-Age")) > 0
        for origin in STRANGERS:
            shuts_out(await ask(shared, way, "OPTIONS", filled(path), f"Origin: {origin}", *headers))


@WAYS
async def test_refusals_of_the_transport_may_be_read_as_well(shared: Stack, way: Any) -> None:
    for method, target, line in (
        ("GET", "/v1/nothing", "X: y"),
        ("DELETE", "/v1/programs", "X: y"),
        ("GET", "/v1/programs", f"Cookie: {'x' * 40_000}"),
        ("BREW", "/v1/programs", "X: y"),
    ):
        answer = await ask(shared, way, method, target, ORIGIN, line)
        assert answer.status >= 400
        lets_in(answer)


@WAYS
async def test_pages_are_nobody_else_s(shared: Stack, way: Any) -> None:
    for target in ("/openings", "/"):
        shuts_out(await ask(shared, way, "GET", target, ORIGIN))


@WAYS
async def test_without_the_setting_nobody_is_let_in(stack: Stack, way: Any) -> None:
    for method, target in (("GET", "/v1/programs"), ("GET", "/v1/availability"), ("OPTIONS", "/v1/reservations")):
        answer = await ask(stack, way, method, target, ORIGIN, "Access-Control-Request-Method: POST")
        shuts_out(answer)
        assert not varies_by_origin(answer)


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "null",
        "x.example",
        "ftp://x.example",
        "https://",
        "https://x.example/",
        "https://x.example/a",
        "https://X.example",
        "https://*.example.id",
        "https://u@x.example",
        "https://x.example:0",
        "https://x.example:443",
    ],
)
async def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        Settings(cors_origins=origins)


async def test_origins_are_given_with_commas() -> None:
    settings = Settings(cors_origins=" https://x.example , http://localhost:3000,")
    assert settings.cors_origins == ("https://x.example", "http://localhost:3000")
    assert Settings().cors_origins == ()
