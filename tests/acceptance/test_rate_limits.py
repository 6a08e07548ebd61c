"""Rate limits over HTTP: a caller above its limit gets Retry-After, and others are not affected."""

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from reservasi.bootstrap.fronts import open_front
from reservasi.front.deciding.rate_limits import JITTER_S_MAX

pytestmark = pytest.mark.asyncio(loop_scope="session")
SLOW_PER_S = 0.001  # so slow that nothing comes back while a test runs
WAIT_S = 1 / SLOW_PER_S
ALLOWED = 3
LONG_WAY = {"Trailer": "x"}  # a header that is left to aiohttp, and that changes nothing
WAYS = pytest.mark.parametrize("way", [{}, LONG_WAY], ids=["bytes", "aiohttp"])
Opened = Callable[..., contextlib.AbstractAsyncContextManager[Any]]


@pytest.fixture
def limited(stack: Any, listening: Any) -> Opened:
    """Another front of the same service, with limits of its own."""

    @contextlib.asynccontextmanager
    async def opened(**limits: Any) -> AsyncIterator[Any]:
        settings = stack.front.settings.model_copy(update={"processes": 1, **limits})
        async with open_front(settings) as front, listening(front) as url:

            async def serves() -> bool:
                return front.catalogue.program(stack.program) is not None and front.availability.knows(stack.program)

            await stack.eventually(serves)
            yield stack.at(url)

    return opened


def counted(kind: str) -> float:
    return REGISTRY.get_sample_value("reservasi_rate_limited_total", {"kind": kind}) or 0.0


def is_refused(reply: Any) -> None:
    reply.is_problem("rate-limited", 429)
    assert WAIT_S - 60 < int(reply.headers["Retry-After"]) <= WAIT_S + JITTER_S_MAX
    assert reply.headers["Cache-Control"] == "no-store"


@WAYS
async def test_a_person_who_claims_too_often_waits(stack: Any, limited: Opened, way: dict[str, str]) -> None:
    quota = await stack.quota()
    async with limited(rate_person_per_s=SLOW_PER_S, rate_person_burst=ALLOWED) as front:
        await stack.seen(quota, lambda _: True)
        body, before = stack.body(quota), counted("person")
        replies = [await front.claim(body, "the-same-key", **way) for _ in range(ALLOWED)]
        assert {reply.status for reply in replies} == {201}  # a replay counts as well
        is_refused(await front.claim(body, "the-same-key", **way))
        is_refused(await front.claim(body, **way))
        group = {**body, "applicants": [stack.applicant(), *body["applicants"]]}
        is_refused(await front.claim(group, **way))
        assert counted("person") == before + 3
        assert (await front.claim(stack.body(quota), **way)).status == 201  # somebody else
        held = replies[0].json
        assert (await front.managed("POST", held, "/cancel")).status == 200  # what they have stays in their hands


@WAYS
async def test_a_refusal_costs_a_network_one_request(stack: Any, limited: Opened, way: dict[str, str]) -> None:
    quota = await stack.quota()
    network = {"rate_network_per_s": SLOW_PER_S, "rate_network_burst": 5}
    async with limited(rate_person_per_s=SLOW_PER_S, rate_person_burst=1, **network) as front:
        headers, body = {**way, "X-Forwarded-For": "203.0.113.7"}, stack.body(quota)
        statuses = [(await front.claim(body, "one", **headers)).status for _ in range(3)]
        statuses += [(await front.claim(stack.body(quota), **headers)).status for _ in range(3)]
        assert statuses == [201, 429, 429, 201, 201, 429]


async def test_both_ways_count_together(stack: Any, limited: Opened) -> None:
    quota = await stack.quota()
    async with limited(rate_person_per_s=SLOW_PER_S, rate_person_burst=2) as front:
        body = stack.body(quota)
        assert (await front.claim(body, "one")).status == 201
        assert (await front.claim(body, "one", **LONG_WAY)).status == 201
        is_refused(await front.claim(body, "one"))
        is_refused(await front.claim(body, "one", **LONG_WAY))


async def test_a_claim_with_a_fault_is_not_counted_for_anybody(stack: Any, limited: Opened) -> None:
    quota = await stack.quota()
    async with limited(rate_person_per_s=SLOW_PER_S, rate_person_burst=1) as front:
        body = stack.body(quota)
        for _ in range(3):
            (await front.claim({**body, "contact": []})).is_problem("invalid-request", 422)
        assert (await front.claim(body)).status == 201


async def test_a_staff_key_that_is_used_too_often_waits(stack: Any, limited: Opened) -> None:
    path = f"/v1/staff/quotas?program={stack.program}"
    async with limited(rate_api_key_per_s=SLOW_PER_S, rate_api_key_burst=ALLOWED) as front:
        before = counted("api_key")
        assert {(await front.staff("GET", path)).status for _ in range(ALLOWED)} == {200}
        is_refused(await front.staff("GET", path))
        assert counted("api_key") == before + 1
        assert (await front.staff("GET", path, key=stack.viewer_key)).status == 200
        (await front.staff("GET", path, key="unknown")).is_problem("api-key-required", 401)


@pytest.mark.parametrize("path", ["/v1/availability", "/v1/programs", "/v1/nothing", "/v1/availability?what"])
async def test_a_network_that_asks_too_often_waits(stack: Any, limited: Opened, path: str) -> None:
    async with limited(rate_network_per_s=SLOW_PER_S, rate_network_burst=ALLOWED) as front:

        async def ask(forwarded: str, path: str = path) -> Any:
            return await front.request("GET", path, headers={"X-Forwarded-For": forwarded} if forwarded else {})

        before = counted("network")
        usual = (await ask("")).status
        for number in range(ALLOWED):
            assert (await ask(f"10.9.8.{number}, 203.0.113.{number}")).status == usual
        is_refused(await ask("198.51.100.1, 203.0.113.77"))  # of the same network, whatever it claims to be
        is_refused(await ask("203.0.113.9", "/v1/availability/stream"))
        is_refused(await ask("203.0.113.9, 127.0.0.1"))
        assert counted("network") == before + 3
        assert (await ask("203.0.114.9")).status == usual
        assert (await ask("2001:db8::1")).status == usual
        assert (await ask("203.0.113.9", "/openapi.json")).status == 200
        assert (await ask("203.0.113.9", "/problems/rate-limited")).status == 200
        assert {(await ask("")).status for _ in range(2 * ALLOWED)} == {usual}  # the proxy itself
        english = await front.request(
            "GET", path, headers={"X-Forwarded-For": "203.0.113.9", "Accept-Language": "en-GB"}
        )
        assert english.is_problem("rate-limited", 429)["title"] == "Too many requests"


async def test_a_peer_that_is_no_proxy_cannot_say_where_it_is(stack: Any, limited: Opened) -> None:
    limits = {"rate_network_per_s": SLOW_PER_S, "rate_network_burst": ALLOWED}
    async with limited(trusted_proxies=(), **limits) as front:
        statuses = [
            (await front.request("GET", "/v1/programs", headers={"X-Forwarded-For": f"203.0.{number}.1"})).status
            for number in range(ALLOWED + 1)
        ]
        assert statuses == [200] * ALLOWED + [429]


@WAYS
async def test_a_claim_over_the_limit_of_its_network_does_nothing(
    stack: Any, limited: Opened, way: dict[str, str]
) -> None:
    quota = await stack.quota()
    async with limited(rate_network_per_s=SLOW_PER_S, rate_network_burst=1) as front:
        headers = {"X-Forwarded-For": "203.0.113.9", **way}
        assert (await front.claim(stack.body(quota), **headers)).status == 201
        before = await stack.ledger_state()
        body = stack.body(quota)
        is_refused(await front.claim(body, **headers))
        assert await stack.ledger_state() == before
        assert (await front.claim(body, **way)).status == 201


@WAYS
async def test_a_claim_counts_for_its_network_once_it_is_well_formed(
    stack: Any, limited: Opened, way: dict[str, str]
) -> None:
    quota = await stack.quota()
    async with limited(rate_network_per_s=SLOW_PER_S, rate_network_burst=1) as front:
        headers = {"X-Forwarded-For": "203.0.113.9", **way}
        for body, status in (
            (b"{", 422),
            (json.dumps({**stack.body(quota), "what": 1}).encode(), 422),
            (json.dumps(stack.body(f"{stack.program}.kanim.baru.20270101.0800.nothing")).encode(), 404),
            (json.dumps(stack.body(quota)).encode(), 201),
            (json.dumps(stack.body(quota)).encode(), 429),
            (b"{", 422),
        ):
            key = {"Idempotency-Key": secrets.token_hex(8), "Content-Type": "application/json"}
            reply = await front.request("POST", "/v1/reservations", data=body, headers={**headers, **key})
            assert reply.status == status, reply.text
        other = await front.request("GET", "/v1/programs", headers=headers)
        assert other.status == 429
