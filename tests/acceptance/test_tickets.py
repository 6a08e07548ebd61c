"""Joining a waiting room gives one ticket per person; the seed is secret until the opening."""

import asyncio
import base64
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

import altcha
import pytest

from reservasi.bootstrap.fronts import open_front
from reservasi.front.services import FrontServices
from reservasi.model import Admit, Join, Outcome
from reservasi.sealing import KeyRing, Sealing, load_key_ring
from reservasi.waiting_room.room import WaitingRoom
from tests.acceptance.conftest import Stack, eventually
from tests.acceptance.waiting import HOUR_MS, Room, create_room, now_ms

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEED_CHARS = 64


async def test_a_person_gets_the_same_ticket_however_often_they_ask(stack: Stack) -> None:
    room = await create_room(stack)
    person = stack.applicant()
    replies = await asyncio.gather(*(room.join(person) for _ in range(5)))
    assert [reply.status for reply in replies] == [201] * 5
    assert len({reply.body for reply in replies}) == 1
    assert replies[0].headers["Cache-Control"] == "no-store"
    assert set(replies[0].json) == {"ticket", "ticket_id"}
    assert len(replies[0].json["ticket_id"]) == 22
    assert person["nik"] not in replies[0].text
    assert (await room.joined(stack.applicant()))["ticket_id"] != replies[0].json["ticket_id"]
    other = await create_room(stack)
    assert (await other.joined(person))["ticket_id"] != replies[0].json["ticket_id"]


async def test_who_joins_after_the_opening_comes_after_the_others(stack: Stack) -> None:
    room = await create_room(stack)
    for _ in range(4):
        await room.joined(stack.applicant())
    queue = await room.open()
    late = [stack.applicant() for _ in range(3)]
    numbers = [(await room.joined(person))["number"] for person in late]
    assert numbers == [queue["joined"] + at for at in (1, 2, 3)]
    queue = await room.until(lambda queue: queue["arrived"] == 7)
    assert queue["joined"] == 4
    again = await room.joined(late[0])
    assert again["number"] >= numbers[0]


async def test_who_joined_before_the_opening_gets_the_same_ticket_after_it(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=3000)
    people = [stack.applicant() for _ in range(5)]
    before = [await room.joined(person) for person in people]
    queue = await room.opened()
    after = [await room.joined(person) for person in people]
    assert after == before
    assert all("number" not in ticket for ticket in after)
    assert {room.number(queue, ticket) for ticket in after} <= set(range(5))
    await room.joined(stack.applicant())
    assert (await room.until(lambda queue: queue["arrived"] == 6))["joined"] == 5


async def test_a_thousand_joins_of_one_person_count_once_and_improve_nothing(stack: Stack) -> None:
    room = await create_room(stack)
    others = [await room.joined(stack.applicant()) for _ in range(3)]
    await room.open()
    front = stack.front.waiting_room
    person = stack.applicant()
    first = (await room.joined(person))["number"]
    assert first == len(others) + 1
    limited = stack.front.settings.rate_person_burst
    statuses, numbers = [], []
    for at in range(0, 1000, 50):
        for reply in await asyncio.gather(*(room.join(person) for _ in range(at, at + 50))):
            statuses.append(reply.status)
            if reply.status == 201:
                numbers.append(reply.json["number"])
            else:
                reply.is_problem("rate-limited", 429)
    assert set(statuses) == {201, 429}
    assert statuses.count(201) >= limited // 2
    assert min(numbers) >= first
    # Past the rate limits, straight to the ledger: a hundred thousand.
    ticket_id = front.ticket_id(stack.program, room.id, front.person(stack.program, person["nik"]))
    for _ in range(200):
        joins = [front.join(stack.program, room.id, ticket_id) for _ in range(500)]
        for answer in await asyncio.gather(*joins):
            assert answer.outcome is Outcome.JOINED
            assert answer.number >= first
    assert (await room.until(lambda queue: queue["arrived"] > 3))["arrived"] == len(others) + 1


async def test_a_key_rotation_in_the_middle_spoils_no_ticket(stack: Stack, listening: Any) -> None:
    room = await create_room(stack)
    early, later = stack.applicant(), stack.applicant()
    before = await room.joined(early)
    ring = load_key_ring(stack.worker.settings.secrets_path, create=False)
    rotated = KeyRing(identity=ring.identity, active="later", sealing={**ring.sealing, "later": b"2" * 32})
    renewed = WaitingRoom(Sealing(rotated), stack.front.availability)
    renewed.serve(stack.program, stack.front.waiting_room._groups[stack.program])
    async with listening(dataclasses.replace(stack.front, waiting_room=renewed)) as url:
        there = Room(stack.at(url), room.id, room.quota, room.opens_at_ms)
        again, after = await there.joined(early), await there.joined(later)
        assert again["ticket_id"] == before["ticket_id"]
        assert again["ticket"] != before["ticket"]
        await room.open()
        await room.admit_all()
        assert await there.opened() == await room.queue()  # the seed was sealed under the old key
        assert (await there.claim(early, before["ticket"])).status == 201
        assert (await there.claim(later, after["ticket"])).status == 201
    # A front that was not told of the new key yet says so, rather than to take what it cannot verify.
    problem = (await room.claim(later, after["ticket"])).is_problem("waiting-room-required", 403)
    assert problem["reason"] == "ticket-invalid"


async def test_before_the_window_nobody_joins(stack: Stack) -> None:
    room = await create_room(stack, joins_before_ms=HOUR_MS // 2)
    problem = (await room.join(stack.applicant())).is_problem("not-open", 409)
    queue = await room.queue()
    assert problem["opens_at"] == queue["joins_from"]
    assert queue["state"] == "announced"


@pytest.mark.parametrize("name", ["nowhere", "UPPER", "a", "%20", "x" * 200])
async def test_an_unknown_opening_is_not_found(stack: Stack, name: str) -> None:
    body = {"nik": stack.nik(), "birth_date": "1990-07-01"}
    (await stack.request("POST", f"/v1/openings/{name}/tickets", json=body)).is_problem("not-found", 404)
    for path in ("", "/queue", "/queue/stream", "/challenge"):
        (await stack.request("GET", f"/v1/openings/{name}{path}")).is_problem("not-found", 404)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"nik": "1"}, "/nik"),
        ({"nik": 3578014107900001}, "/nik"),
        ({"birth_date": "1990-02-30"}, "/birth_date"),
        ({"altcha": 1}, "/altcha"),
        ({"altcha": "x" * 5000}, "/altcha"),
        ({"name": "Siti"}, "/name"),
    ],
)
async def test_every_fault_of_a_join_is_named(stack: Stack, change: dict[str, Any], pointer: str) -> None:
    room = await create_room(stack)
    body = {"nik": stack.nik(), "birth_date": "1990-07-01", **change}
    reply = await stack.request("POST", f"/v1/openings/{room.id}/tickets", json=body)
    assert [each["pointer"] for each in reply.is_problem("invalid-request", 422)["errors"]] == [pointer]


# -- proof of work -----------------------------------------------------------------------------------------------


def solved(document: dict[str, Any]) -> str:
    """A challenge's solution, as the widget writes it."""
    challenge = altcha.Challenge.from_dict(document)
    solution = altcha.solve_challenge(challenge)
    assert solution is not None
    content = {"challenge": document, "solution": solution.to_dict()}
    return base64.b64encode(json.dumps(content).encode()).decode()


async def test_a_proof_of_work_is_asked_for_once_for_each_person_and_opening(stack: Stack) -> None:
    room, other = await create_room(stack, proof_of_work=True), await create_room(stack, proof_of_work=True)
    person = stack.applicant()
    problem = (await room.join(person)).is_problem("proof-of-work-required", 422)
    assert problem["opening"] == room.id
    for none in (None, ""):
        assert (await room.join(person, altcha=none)).is_problem("proof-of-work-required", 422) == problem
    reply = await stack.request("GET", f"/v1/openings/{room.id}/challenge")
    assert (reply.status, reply.headers["Cache-Control"]) == (200, "no-store")
    proof = solved(reply.json)
    (await other.join(person, altcha=proof)).is_problem("proof-of-work-invalid", 422)
    first = await room.join(person, altcha=proof)
    assert first.status == 201, first.text
    assert (await room.join(person, altcha=proof)).json == first.json
    (await room.join(stack.applicant(), altcha=proof)).is_problem("proof-of-work-invalid", 422)
    for forged in ("e30=", "x", proof[:-8] + "AAAAAAA="):
        (await room.join(person, altcha=forged)).is_problem("proof-of-work-invalid", 422)


async def test_nobody_waits_for_quotas_that_have_all_closed(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=400, proof_of_work=True, closes_at_ms=await now_ms(stack) + 1200)
    proof = solved((await stack.request("GET", f"/v1/openings/{room.id}/challenge")).json)
    await room.until(lambda queue: queue["state"] == "ended")
    (await room.join(stack.applicant(), altcha=proof)).is_problem("joining-closed", 410)
    (await stack.request("GET", f"/v1/openings/{room.id}/challenge")).is_problem("joining-closed", 410)


async def test_a_challenge_ends_with_the_opening(stack: Stack) -> None:
    closes_at_ms = await now_ms(stack) + 60_000
    room = await create_room(stack, opens_in_ms=400, proof_of_work=True, closes_at_ms=closes_at_ms)
    document = (await stack.request("GET", f"/v1/openings/{room.id}/challenge")).json
    assert document["parameters"]["expiresAt"] <= closes_at_ms // 1000


async def test_no_challenge_without_a_waiting_room(stack: Stack) -> None:
    room = await create_room(stack, waiting_room=False)
    (await stack.request("GET", f"/v1/openings/{room.id}/challenge")).is_problem("no-waiting-room", 409)


# -- the seed ----------------------------------------------------------------------------------------------------


async def test_no_request_before_the_opening_sees_the_seed(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=1500)
    await room.joined(stack.applicant())
    count = 0
    while True:
        queue = await room.queue()
        after_ms = await now_ms(stack)
        if "seed" in queue:
            break
        count += 1
        assert queue["state"] in ("joining", "open")
    assert count
    assert after_ms >= room.opens_at_ms
    assert len(queue["seed"]) == SEED_CHARS
    assert stack.front.waiting_room.seed_of(room.opening, room.opens_at_ms) == bytes.fromhex(queue["seed"])
    assert stack.front.waiting_room.seed_of(room.opening, room.opens_at_ms - 1) is None


def follows_of(front: FrontServices, room: Room) -> Callable[[], Awaitable[bool]]:
    async def follows() -> bool:
        return front.availability.opening(room.id) is not None and front.availability.knows(room.stack.program)

    return follows


async def test_a_front_that_starts_again_does_not_show_it_either(stack: Stack, listening: Any) -> None:
    room = await create_room(stack, opens_in_ms=4000)
    await room.joined(stack.applicant())
    async with open_front(stack.front.settings) as front:
        await eventually(follows_of(front, room))
        async with listening(front) as url:
            restarted = Room(stack.at(url), room.id, room.quota, room.opens_at_ms)
            while True:
                queue = await restarted.queue()
                if await now_ms(stack) >= room.opens_at_ms:
                    break
                assert "seed" not in queue
                assert queue["state"] == "joining"
            queue = await restarted.opened()
            assert queue == await room.opened()
    async with open_front(stack.front.settings) as front:
        await eventually(follows_of(front, room))
        async with listening(front) as url:
            assert (await Room(stack.at(url), room.id, room.quota, 0).queue())["seed"] == queue["seed"]


async def test_the_ledger_draws_only_from_the_opening_on(stack: Stack) -> None:
    room = await create_room(stack)
    group = stack.front.waiting_room._groups[stack.program]
    await group.submit(Join(opening=room.id, ticket_id="a" * 22))
    await group.submit(Admit(opening=room.id, controller="somebody", lease_ms=1))
    assert not room.opening.drawn
    assert "seed" not in await room.queue()


# -- the beacon --------------------------------------------------------------------------------------------------


async def test_a_value_from_outside_is_part_of_the_draw_and_fixed(stack: Stack) -> None:
    room = await create_room(stack)
    path = f"/v1/staff/openings/{room.id}/beacon"
    people = [stack.applicant() for _ in range(6)]
    tickets = [await room.joined(person) for person in people]
    (await stack.staff("PUT", path, json={"value": "a b"})).is_problem("invalid-request", 422)
    (await stack.staff("PUT", path, stack.viewer_key, json={"value": "x"})).is_problem("role-not-allowed", 403)
    reply = await stack.staff("PUT", path, json={"value": "drand:1234"})
    assert (reply.status, reply.json["beacon"]) == (200, "drand:1234")
    assert (await stack.staff("PUT", path, json={"value": "drand:1234"})).status == 200
    (await stack.staff("PUT", path, json={"value": "another"})).is_problem("beacon-fixed", 409)
    queue = await room.open()
    assert queue["beacon"] == "drand:1234"
    without = {key: value for key, value in queue.items() if key != "beacon"}
    assert [room.number(queue, each) for each in tickets] != [room.number(without, each) for each in tickets]
    for person, ticket in zip(people, tickets, strict=True):
        if (number := room.number(queue, ticket)) > 0:
            assert (await room.claim(person, ticket["ticket"])).is_problem("not-admitted", 403)["number"] == number
    empty = await create_room(stack, opens_in_ms=100)
    await empty.opened()
    path = f"/v1/staff/openings/{empty.id}/beacon"
    (await stack.staff("PUT", path, json={"value": "late"})).is_problem("beacon-fixed", 409)
