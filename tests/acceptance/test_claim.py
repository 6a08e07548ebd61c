"""`POST /v1/reservations`: the answers to claims, one test per row of the contract."""

import asyncio
import secrets
import time
from typing import Any

import msgspec
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_program_that_was_just_imported_is_not_unknown(stack: Any) -> None:
    new = f"n-{secrets.token_hex(4)}"
    program = stack.front.catalogue.program(stack.program)
    assert program is not None
    await stack.worker.records.save_program(msgspec.structs.replace(program, id=new))
    body = stack.body(f"{new}.kanim.baru.20270301.0800.online")
    (await stack.claim(body)).is_problem("recovering", 503)  # until its ledger is owned and read

    async def is_known() -> bool:
        return bool(stack.front.availability.knows(new))

    await stack.eventually(is_known)
    (await stack.claim(body)).is_problem("unknown-quota", 404)  # it has no quotas


async def test_a_claim_is_held_and_can_be_read_back(stack: Any) -> None:
    quota = await stack.quota()
    reply = await stack.claim(stack.body(quota, 2, contact={"email": "siti@example.id", "phone": "+62 812 3456 7890"}))
    assert reply.status == 201
    assert set(reply.json) == {"id", "status", "quota", "places", "hold_expires_at", "manage_token"}
    assert (reply.json["status"], reply.json["quota"], reply.json["places"]) == ("held", quota, 2)
    assert reply.headers["Location"] == f"/v1/reservations/{reply.json['id']}"
    assert reply.headers["Cache-Control"] == "no-store"
    assert "Idempotent-Replayed" not in reply.headers
    view = await stack.seen(quota, lambda q: q.counts.held == 2)
    assert view.remaining == 8
    shown = await stack.managed("GET", reply.json)
    assert shown.status == 200
    assert shown.json == {
        **{name: reply.json[name] for name in ("id", "status", "quota", "places", "hold_expires_at")},
        "office": "kanim",
        "service": "baru",
        "channel": "online",
        "date": view.terms.date,
        "start": view.terms.start,
        "end": view.terms.end,
    }


async def test_a_repeat_gets_the_same_answer_and_takes_nothing_more(stack: Any) -> None:
    quota = await stack.quota()
    body, key = stack.body(quota), secrets.token_hex(8)
    first = await stack.claim(body, key)
    before = await stack.ledger_state()
    second = await stack.claim(body, key)
    assert (second.status, second.body) == (201, first.body)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert await stack.ledger_state() == before


async def test_a_repeat_of_a_sold_out_quota_still_finds_its_place(stack: Any) -> None:
    quota = await stack.quota(capacity=1)
    body, key = stack.body(quota), secrets.token_hex(8)
    first = await stack.claim(body, key)
    await stack.seen(quota, lambda q: q.remaining == 0)
    assert (await stack.claim(body, key)).body == first.body


async def test_a_key_used_for_something_else_is_refused(stack: Any) -> None:
    quota, other = await stack.quota(), await stack.quota()
    body, key = stack.body(quota), secrets.token_hex(8)
    assert (await stack.claim(body, key)).status == 201
    before = await stack.ledger_state()
    reply = await stack.claim({**body, "quota": other}, key)
    reply.is_problem("idempotency-key-reused", 422)
    assert await stack.ledger_state() == before


async def test_concurrent_repeats_have_one_effect(stack: Any) -> None:
    quota = await stack.quota()
    body, key = stack.body(quota), secrets.token_hex(8)
    replies = await asyncio.gather(*(stack.claim(body, key) for _ in range(20)))
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body for reply in replies}) == 1
    assert sum("Idempotent-Replayed" not in reply.headers for reply in replies) == 1
    assert (await stack.seen(quota, lambda q: q.counts.held > 0)).counts.held == 1


async def test_no_more_places_than_there_are(stack: Any) -> None:
    quota = await stack.quota(capacity=5)
    await stack.quota()
    replies = await asyncio.gather(*(stack.claim(stack.body(quota)) for _ in range(40)))
    assert sorted(reply.status for reply in replies) == [201] * 5 + [409] * 35
    refused = next(reply for reply in replies if reply.status == 409)
    problem = refused.is_problem("sold-out", 409)
    assert problem["alternatives"]
    assert all(q["remaining"] >= 1 and q["state"] == "open" for q in problem["alternatives"])
    assert "next_opening" in problem


async def test_a_group_gets_all_places_or_none(stack: Any) -> None:
    quota = await stack.quota(capacity=2)
    reply = await stack.claim(stack.body(quota, 3))
    reply.is_problem("sold-out", 409)
    assert (await stack.claim(stack.body(quota, 2))).status == 201


async def test_sold_out_names_the_next_opening(stack: Any) -> None:
    quota = await stack.quota(capacity=0)
    ahead_ms = (int(time.time()) + 3600) * 1000
    await stack.quota(opens_at_ms=ahead_ms)
    deadline = time.monotonic() + 10  # alternatives may be a moment old
    while (opening := (await stack.claim(stack.body(quota))).is_problem("sold-out", 409)["next_opening"]) is None:
        assert time.monotonic() < deadline
    assert (opening["program"], opening["state"]) == (stack.program, "not-open")
    listed = (await stack.request("GET", f"/v1/openings?program={stack.program}")).json["openings"]
    assert opening["id"] in [listed_one["id"] for listed_one in listed]
    assert listed == sorted(listed, key=lambda o: o["opens_at"])


async def test_a_person_has_one_live_reservation(stack: Any) -> None:
    quota, other = await stack.quota(), await stack.quota()
    body = stack.body(quota)
    held = (await stack.claim(body)).json
    before = await stack.ledger_state()
    (await stack.claim({**body, "quota": other})).is_problem("duplicate-applicant", 409)
    assert await stack.ledger_state() == before
    assert (await stack.managed("POST", held, "/cancel")).status == 200
    assert (await stack.claim({**body, "quota": other})).status == 201


async def test_a_quota_that_opens_later(stack: Any) -> None:
    opens_at_ms = (int(time.time()) + 7200) * 1000
    quota = await stack.quota(opens_at_ms=opens_at_ms)
    problem = (await stack.claim(stack.body(quota))).is_problem("not-open", 409)
    assert problem["opens_at"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(opens_at_ms / 1000))


async def test_an_opening_needs_nobody(stack: Any) -> None:
    opens_at_ms = int(time.time() * 1000) + 700
    quota = await stack.quota(opens_at_ms=opens_at_ms)
    path = f"/v1/availability?program={stack.program}&from=2027-03-01"

    async def state() -> str:
        listed = (await stack.request("GET", path)).json["quotas"]
        return next(str(q["state"]) for q in listed if q["id"] == quota)

    assert await state() == "not-open"
    deadline = time.monotonic() + 10
    while (reply := await stack.claim(stack.body(quota))).status != 201:
        reply.is_problem("not-open", 409)
        assert time.monotonic() < deadline
    assert time.time() * 1000 >= opens_at_ms - 50
    while await state() != "open":
        assert time.monotonic() < deadline


@pytest.mark.parametrize("terms", [{"closed": True}, {"closes_at_ms": 1}, {"channel": "walk-in"}])
async def test_a_closed_quota(stack: Any, terms: dict[str, Any]) -> None:
    quota = await stack.quota(**terms)
    before = await stack.ledger_state()
    (await stack.claim(stack.body(quota))).is_problem("closed", 409)
    assert await stack.ledger_state() == before


async def test_a_ticket_is_accepted_and_ignored(stack: Any) -> None:
    assert (await stack.claim(stack.body(await stack.quota(), ticket="t" * 2048))).status == 201


async def test_refusals_speak_the_callers_language(stack: Any) -> None:
    body = stack.body(f"{stack.program}.kanim.baru.20270301.0000.online")
    indonesian = await stack.claim(body)
    english = await stack.claim(body, **{"Accept-Language": "de, en-GB;q=0.8, id;q=0.1"})
    assert (indonesian.headers["Content-Language"], english.headers["Content-Language"]) == ("id", "en")
    assert indonesian.json["title"] == "Kuota tidak dikenal"
    assert english.json["title"] == "Unknown quota"
    explained = await stack.request("GET", english.json["type"], headers={"Accept-Language": "en"})
    assert explained.status == 200
    assert explained.json["title"] == "Unknown quota"
