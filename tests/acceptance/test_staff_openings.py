"""Openings created by staff: the quotas that they cover, refusals, and what the public sees."""

from typing import Any

import pytest

from reservasi.front.views import answer_cache
from reservasi.front.views.quota_json import moment
from tests.acceptance.conftest import Stack
from tests.acceptance.waiting import ELSEWHERE, HOUR_MS, Room, create_room, listed, now_ms, wanted

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_staff_create_an_opening_and_its_quotas_open_with_it(stack: Stack) -> None:
    source = "drand quicknet, the first round after 13:00 WIB"
    body, quota = await wanted(
        stack, in_ms=5 * HOUR_MS + 1000, rate_per_min=30, proof_of_work=True, beacon_source=f" {source} "
    )
    reply = await stack.staff("POST", "/v1/staff/openings", json=body)
    assert reply.status == 201, reply.text
    created = reply.json
    assert reply.headers["Location"] == f"/v1/openings/{created['id']}"
    assert created["id"].startswith(f"{stack.program}-")
    assert created["opens_at"] == body["opens_at"]
    assert (created["quotas"] >= 1, created["waiting_room"], created["proof_of_work"]) == (True, True, True)
    assert (await stack.request("GET", reply.headers["Location"])).json == created
    assert moment((await stack.seen(quota, lambda _: True)).terms.opens_at_ms) == body["opens_at"]
    queue = (await stack.request("GET", f"/v1/openings/{created['id']}/queue")).json
    assert (queue["commitment"], queue["rate_per_min"]) == (created["commitment"], 30)
    assert queue["beacon_source"] == source
    again = await stack.staff("POST", "/v1/staff/openings", json=body)
    assert (again.status, again.json) == (201, created)
    for changed in ({"id": f"{stack.program}-another"}, {"rate_per_min": 31}, {"beacon_source": "a coin of ours"}):
        reply = await stack.staff("POST", "/v1/staff/openings", json={**body, **changed})
        assert reply.is_problem("opening-exists", 409)["opening"] == created["id"]


async def test_an_opening_takes_no_quota_from_one_that_people_can_join(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=2 * HOUR_MS, service="hilang")
    quota = await stack.seen(room.quota, lambda _: True)
    free = await stack.quota(service="hilang", date=quota.terms.date)
    body = {
        "program": stack.program,
        "opens_at": moment(await now_ms(stack) // 1000 * 1000 + 3 * HOUR_MS + 23_000),
        "from": quota.terms.date,
        "to": quota.terms.date,
        "service": "hilang",
    }
    before = await stack.ledger_state()
    refused = await stack.staff("POST", "/v1/staff/openings", json=body)
    assert refused.is_problem("quota-of-opening", 409)["opening"] == room.id
    assert await stack.ledger_state() == before
    assert (await stack.seen(free, lambda _: True)).terms.opens_at_ms == 0
    assert (await room.queue())["state"] == "joining"


async def test_availability_says_which_quotas_need_a_ticket(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "REST_RATIO", 0)
    room = await create_room(stack, opens_in_ms=300, lasts_ms=4000, **ELSEWHERE)
    plain = await create_room(stack, waiting_room=False)
    free = await stack.quota()

    async def opening_of(quota: str) -> tuple[Any, Any]:
        (public,) = [
            each
            for each in (await stack.request("GET", f"/v1/availability?program={stack.program}")).json["quotas"]
            if each["id"] == quota
        ]
        (staff,) = [
            each
            for each in (await stack.staff("GET", f"/v1/staff/quotas?program={stack.program}")).json["quotas"]
            if each["id"] == quota
        ]
        assert (staff["opening"], staff["ticket_required"]) == (public["opening"], public["ticket_required"])
        return public["opening"], public["ticket_required"]

    assert await opening_of(room.quota) == (room.id, True)
    assert await opening_of(plain.quota) == (plain.id, False)
    assert await opening_of(free) == (None, False)
    await room.until(lambda queue: queue["state"] == "ended")

    async def over() -> bool:  # by the clock alone: nothing changes in the ledger
        return await opening_of(room.quota) == (room.id, False)

    await stack.eventually(over)
    assert (await room.claim(stack.applicant())).status == 201


async def test_two_offices_open_at_one_moment_each_with_its_waiting_room(stack: Stack) -> None:
    quotas = {office: await stack.quota(service="rusak", office=office) for office in ("kanim", "ulp-wiyung", "mpp")}
    day = (await stack.seen(quotas["kanim"], lambda _: True)).terms.date
    opens_at_ms = await now_ms(stack) // 1000 * 1000 + HOUR_MS + 17_000
    body = {
        "program": stack.program,
        "opens_at": moment(opens_at_ms),
        "joins_from": moment(await now_ms(stack) - 1000),
        "from": day,
        "to": day,
        "service": "rusak",
    }
    openings = {}
    for office, offices in (("kanim", {"office": "kanim"}), ("ulp-wiyung", {"offices": ["ulp-wiyung"]})):
        reply = await stack.staff("POST", "/v1/staff/openings", json={**body, **offices})
        assert reply.status == 201, reply.text
        again = await stack.staff("POST", "/v1/staff/openings", json={**body, **offices})
        assert (again.status, again.json) == (201, reply.json)
        openings[office] = reply.json
        assert reply.json["offices"] == [office]
    assert openings["ulp-wiyung"]["id"] == f"{openings['kanim']['id']}-2"
    for offices in ({}, {"offices": ["kanim", "mpp"]}):
        reply = await stack.staff("POST", "/v1/staff/openings", json={**body, **offices})
        assert reply.is_problem("opening-exists", 409)["opening"] == openings["kanim"]["id"]
    both = await listed(stack)
    assert [both[each["id"]] for each in openings.values()] == list(openings.values())
    rooms = [Room(stack, openings[office]["id"], quotas[office], opens_at_ms) for office in openings]
    ani = stack.applicant()
    assert (await rooms[0].joined(ani))["ticket_id"] != (await rooms[1].joined(ani))["ticket_id"]
    for room in rooms:
        opening = stack.front.availability.opening_of(await stack.seen(room.quota, lambda _: True))
        assert opening is not None
        assert opening.id == room.id
    assert (await stack.seen(quotas["mpp"], lambda _: True)).terms.opens_at_ms == 0


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"offices": []}, "/offices", "offices-invalid"),
        ({"offices": ["kanim", "kanim"]}, "/offices", "offices-invalid"),
        ({"offices": "kanim"}, "/offices", "offices-type"),
        ({"offices": ["kanim", 7]}, "/offices", "offices-invalid"),
        ({"offices": ["kanim"], "office": "kanim"}, "/offices", "given-twice"),
        ({"offices": ["nowhere"]}, "", "nothing-matches"),
        ({"opens_at": "2020-01-01T00:00:00Z"}, "/opens_at", "in-the-past"),
        ({"opens_at": "tomorrow"}, "/opens_at", "time-invalid"),
        ({"opens_at": None}, "/opens_at", "time-invalid"),
        ({"joins_from": "2098-01-01T00:00:00Z"}, "/joins_from", "after-the-opening"),
        ({"ends_at": "2021-01-01T00:00:00Z"}, "/ends_at", "before-the-opening"),
        ({"from": "2027-03-02", "to": "2027-03-01"}, "/from", "dates-reversed"),
        ({"from": "2027-02-30"}, "/from", "date-invalid"),
        ({"id": "elsewhere-1"}, "/id", "id-prefix"),
        ({"id": "UPPER"}, "/id", "opening-id-invalid"),
        ({"rate_per_min": 0}, "/rate_per_min", "rate-range"),
        ({"waiting_room": "yes"}, "/waiting_room", "flag-type"),
        ({"office": "nowhere"}, "", "nothing-matches"),
        ({"what": 1}, "/what", "unknown-field"),
    ],
)
async def test_a_wrong_opening_is_refused_and_changes_nothing(
    stack: Stack, change: dict[str, Any], pointer: str, code: str
) -> None:
    body, quota = await wanted(stack)
    problem = (await stack.staff("POST", "/v1/staff/openings", json={**body, **change})).is_problem(
        "invalid-request", 422
    )
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [(pointer, code)]
    assert (await stack.seen(quota, lambda _: True)).terms.opens_at_ms == 0


async def test_who_may_not_create_openings_is_told_so(stack: Stack) -> None:
    body, _ = await wanted(stack)
    (await stack.staff("POST", "/v1/staff/openings", stack.viewer_key, json=body)).is_problem("role-not-allowed", 403)
    (await stack.request("POST", "/v1/staff/openings", json=body)).is_problem("api-key-required", 401)
    elsewhere = {**body, "program": "nowhere"}
    (await stack.staff("POST", "/v1/staff/openings", json=elsewhere)).is_problem("not-found", 404)
    for path in ("admission", "beacon"):
        change = {"paused": True} if path == "admission" else {"value": "x"}
        (await stack.staff("PUT", f"/v1/staff/openings/nowhere/{path}", json=change)).is_problem("not-found", 404)
        room = await create_room(stack, waiting_room=False)
        reply = await stack.staff("PUT", f"/v1/staff/openings/{room.id}/{path}", json=change)
        reply.is_problem("no-waiting-room", 409)
