"""X-Request-Id and traceparent are accepted, returned and logged on both transports; claims are counted by outcome."""

import asyncio
import re
import uuid
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from reservasi.front.api.tracing import REQUEST_ID, TRACEPARENT
from reservasi.metrics import LAG_S

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LONG_WAY = {"Connection": "close"}  # left to aiohttp, and no later test gets a connection that is
WAYS = pytest.mark.parametrize("way", [{}, LONG_WAY], ids=["hot", "aiohttp"])


async def claim(stack: Any, body: Any, **headers: str) -> Any:
    key = headers.pop("key", uuid.uuid4().hex)
    return await stack.request("POST", "/v1/reservations", json=body, headers={"Idempotency-Key": key, **headers})


@WAYS
async def test_what_a_caller_names_is_answered_as_it_came(stack: Any, way: dict[str, str]) -> None:
    named = {REQUEST_ID: "booking-site/7:1", TRACEPARENT: PARENT}
    held = await claim(stack, stack.body(await stack.quota()), **named, **way)
    refused = await claim(stack, {"quota": "x"}, **named, **way)
    read = await stack.request("GET", "/v1/availability", headers={**named, **way})
    missing = await stack.request("GET", "/v1/nothing", headers={**named, **way})
    assert [each.status for each in (held, refused, read, missing)] == [201, 422, 200, 404]
    for answer in (held, refused, read, missing):
        assert answer.headers[REQUEST_ID] == "booking-site/7:1"
        assert answer.headers[TRACEPARENT] == PARENT


@WAYS
@pytest.mark.parametrize("name", ["a b", "x" * 129, 'quote"', "semi;colon"])
async def test_a_name_that_cannot_be_used_is_replaced(stack: Any, way: dict[str, str], name: str) -> None:
    held = await claim(stack, stack.body(await stack.quota()), **{REQUEST_ID: name}, **way)
    assert held.status == 201
    assert re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]+", held.headers[REQUEST_ID])


async def test_a_name_in_other_letters_is_replaced(stack: Any) -> None:
    held = await claim(stack, stack.body(await stack.quota()), **{REQUEST_ID: "täglich"}, **LONG_WAY)
    assert held.status == 201
    assert held.headers[REQUEST_ID].isascii()


@WAYS
@pytest.mark.parametrize(
    "parent",
    [
        PARENT.replace("00-", "01-", 1),
        PARENT.upper(),
        PARENT[:-1],
        f"{PARENT}-x",
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
    ],
)
async def test_a_traceparent_that_is_no_such_thing_is_ignored(stack: Any, way: dict[str, str], parent: str) -> None:
    held = await claim(stack, stack.body(await stack.quota()), **{TRACEPARENT: parent}, **way)
    assert held.status == 201
    assert TRACEPARENT not in held.headers


@WAYS
async def test_a_fault_is_logged_under_the_name_that_is_answered(
    stack: Any, way: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> web.Response:
        raise RuntimeError("planted")

    monkeypatch.setattr("reservasi.front.handlers.reservations.claimed_body", broken)
    with capture_logs() as logged:
        failed = await claim(stack, stack.body(await stack.quota()), **{REQUEST_ID: "mine", TRACEPARENT: PARENT}, **way)
        unnamed = await claim(stack, stack.body(await stack.quota()), **way)
    assert failed.status == unnamed.status == 500
    assert failed.headers[REQUEST_ID] == failed.json["request_id"] == "mine"
    assert unnamed.headers[REQUEST_ID] == unnamed.json["request_id"]
    lines = [line for line in logged if line["event"] == "request_failed"]
    assert [line["request_id"] for line in lines] == ["mine", unnamed.json["request_id"]]
    assert lines[0]["trace_id"] == PARENT[3:35]


async def test_answers_that_take_no_short_way_have_a_name_in_any_case(stack: Any) -> None:
    for path in ("/v1/programs", "/v1/nothing", "/openings"):
        assert (await stack.request("GET", path)).headers[REQUEST_ID]


async def counted() -> dict[str, float]:
    await asyncio.sleep(2 * LAG_S)  # as a scrape does
    metric = next(each for each in REGISTRY.collect() if each.name == "reservasi_claims")
    return {each.labels["outcome"]: each.value for each in metric.samples if each.name.endswith("_total")}


@WAYS
async def test_claims_are_counted_by_outcome_whichever_way_they_go(stack: Any, way: dict[str, str]) -> None:
    before = await counted()
    assert {"held", "replayed", "sold_out", "not_open", "not_admitted", "overloaded", "invalid"} <= before.keys()
    quota = await stack.quota(capacity=1)
    body, key = stack.body(quota), uuid.uuid4().hex
    assert (await claim(stack, body, key=key, **way)).status == 201
    assert (await claim(stack, body, key=key, **way)).headers["Idempotent-Replayed"] == "true"
    assert (await claim(stack, {**body, "quota": await stack.quota()}, **way)).status == 409
    assert (await claim(stack, stack.body(quota), **way)).status == 409
    assert (await claim(stack, {"quota": quota}, **way)).status == 422
    assert (await claim(stack, stack.body(f"{stack.program}.kanim.baru.20990101.0800.online"), **way)).status == 404
    later = await stack.quota(opens_at_ms=4_000_000_000_000)
    assert (await claim(stack, stack.body(later), **way)).status == 409
    changes = {outcome: value - before[outcome] for outcome, value in (await counted()).items()}
    assert {outcome: change for outcome, change in changes.items() if change} == {
        "held": 1,
        "replayed": 1,
        "duplicate_applicant": 1,
        "sold_out": 1,
        "invalid": 1,
        "unknown_quota": 1,
        "not_open": 1,
    }
