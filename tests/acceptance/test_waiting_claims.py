"""Claims of a quota with a waiting room: who may claim when, and the refusals of the others."""

import datetime as dt
from typing import Any

import pytest

from tests.acceptance.conftest import Stack
from tests.acceptance.waiting import HOUR_MS, Room, create_room

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOON_MS = 2000  # time enough for a few people to join
LONG_WAY = {"Trailer": "x"}  # which the byte transport leaves to aiohttp


async def test_only_numbers_up_to_the_mark_may_claim(stack: Stack) -> None:
    room = await create_room(stack)
    people = [stack.applicant() for _ in range(8)]
    tickets = [await room.joined(person) for person in people]
    assert all("number" not in ticket for ticket in tickets)
    queue = await room.open()
    assert queue["joined"] == len(people)
    numbers = [room.number(queue, ticket) for ticket in tickets]
    held = []
    for person, ticket, number in zip(people, tickets, numbers, strict=True):
        reply = await room.claim(person, ticket["ticket"])
        if number <= queue["admitted_through"]:
            assert reply.status == 201, reply.text
            held.append(ticket)
            continue
        problem = reply.is_problem("not-admitted", 403)
        assert (problem["number"], problem["opening"]) == (number, room.id)
        assert problem["admitted_through"] < number
    assert len(held) < len(people)
    assert (await room.admit_all())["state"] == "open"
    for person, ticket in zip(people, tickets, strict=True):
        if ticket not in held:
            assert (await room.claim(person, ticket["ticket"])).status == 201


async def test_a_ticket_is_required_and_every_other_one_is_told_why_not(stack: Stack) -> None:
    room, other = await create_room(stack, opens_in_ms=SOON_MS), await create_room(stack)
    person, stranger = stack.applicant(), stack.applicant()
    ticket = await room.joined(person)
    elsewhere = await other.joined(person)
    await room.opened()
    await room.admit_all()
    head, payload, signature = ticket["ticket"].split(".")
    flipped = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    reasons = [
        (None, "ticket-missing"),
        ("", "ticket-missing"),
        ("nonsense", "ticket-invalid"),
        ("é" * 10, "ticket-invalid"),
        (f"{head}.{payload}.{flipped}", "ticket-invalid"),
        (f"{head}.{payload}.", "ticket-invalid"),
        (f"{head}.{payload[:-2]}AA.{signature}", "ticket-invalid"),
        ("eyJhbGciOiJub25lIn0." + payload + ".", "ticket-invalid"),
        (elsewhere["ticket"], "ticket-for-other-opening"),
    ]
    for text, reason in reasons:
        problem = (await room.claim(person, text)).is_problem("waiting-room-required", 403)
        assert (problem["reason"], problem["opening"]) == (reason, room.id)
    problem = (await room.claim(stranger, ticket["ticket"])).is_problem("waiting-room-required", 403)
    assert problem["reason"] == "ticket-for-other-person"
    assert (await room.claim(person, ticket["ticket"])).status == 201


async def test_before_the_opening_it_is_not_open_whatever_ticket_is_shown(stack: Stack) -> None:
    room = await create_room(stack)
    person = stack.applicant()
    ticket = await room.joined(person)
    for text in (None, ticket["ticket"], "nonsense"):
        problem = (await room.claim(person, text)).is_problem("not-open", 409)
        assert problem["opens_at"] == (await room.queue())["opens_at"]
        assert 1 <= len(problem["next_openings"]) <= 3
        assert all(each["opens_at"] for each in problem["next_openings"])
        assert problem["opening"] == room.id


WIB = dt.timezone(dt.timedelta(hours=7))


async def joins_from(room: Room) -> str:
    """As people of the program read it."""
    at = dt.datetime.fromisoformat((await room.queue())["joins_from"]).astimezone(WIB)
    return f"{at:%Y-%m-%d %H:%M} WIB"


@pytest.mark.parametrize(
    ("language", "first", "has_joined"),
    [
        (
            "id",
            "Silakan bergabung terlebih dahulu di ruang tunggu itu (dibuka sejak {})",
            "Anda sudah bergabung di ruang tunggu pembukaan {}",
        ),
        (
            "en",
            "Join that waiting room first (which began at {})",
            "You have joined the waiting room of the opening {}",
        ),
    ],
)
async def test_before_the_opening_people_are_told_to_join_first(
    stack: Stack, language: str, first: str, has_joined: str
) -> None:
    room, person, headers = await create_room(stack), stack.applicant(), {"Accept-Language": language}
    body = {"quota": room.quota, "applicants": [person]}
    for way in ({}, LONG_WAY):
        problem = (await stack.claim(body, **headers, **way)).is_problem("not-open", 409)
        assert first.format(await joins_from(room)) in problem["detail"]
        assert room.id in problem["detail"]
        assert (problem["opening"], "/tickets" in problem["next"]) == (room.id, True)
    body["ticket"] = (await room.joined(person))["ticket"]
    problem = (await stack.claim(body, **headers)).is_problem("not-open", 409)
    assert has_joined.format(room.id) in problem["detail"]
    assert (problem["opening"], "/queue" in problem["next"]) == (room.id, True)


@pytest.mark.parametrize(("language", "since"), [("id", "mulai {}"), ("en", "from {} on")])
async def test_before_people_can_join_they_are_told_from_when_on(stack: Stack, language: str, since: str) -> None:
    room, person = await create_room(stack, joins_before_ms=HOUR_MS - 60_000), stack.applicant()
    headers, join = {"Accept-Language": language}, {"nik": person["nik"], "birth_date": person["birth_date"]}
    for reply in (
        await stack.claim(stack.body(room.quota), **headers),
        await stack.request("POST", f"/v1/openings/{room.id}/tickets", json=join, headers=headers),
    ):
        assert since.format(await joins_from(room)) in reply.is_problem("not-open", 409)["detail"]


async def test_a_quota_of_an_opening_without_a_waiting_room_is_said_to_open_with_it(stack: Stack) -> None:
    room = await create_room(stack, waiting_room=False)
    problem = (await stack.claim(stack.body(room.quota))).is_problem("not-open", 409)
    assert problem["opening"] == room.id
    assert "ruang tunggu" not in problem["detail"]
    alone = await stack.quota(opens_at_ms=room.opens_at_ms + HOUR_MS)
    assert "opening" not in (await stack.claim(stack.body(alone))).is_problem("not-open", 409)


async def test_a_front_whose_clock_is_slow_lets_nobody_in_without_a_ticket(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await create_room(stack)
    await room.joined(stack.applicant())
    await room.open()
    availability = stack.front.availability
    true_ms = availability.now_ms
    # Here it is still before the opening, while the ledger would sell.
    monkeypatch.setattr(availability, "now_ms", lambda program="": true_ms(program) - 60_000)
    (await room.claim(stack.applicant())).is_problem("not-open", 409)
    assert (await stack.seen(room.quota, lambda _: True)).counts.held == 0


async def test_sold_out_is_said_to_everybody_at_once(stack: Stack) -> None:
    room = await create_room(stack, capacity=1)
    people = [stack.applicant() for _ in range(6)]
    tickets = [await room.joined(person) for person in people]
    queue = await room.open()
    await room.admit_all()
    assert (await room.claim(people[0], tickets[0]["ticket"])).status == 201
    await stack.seen(room.quota, lambda quota: quota.counts.held == 1)
    await room.until(lambda queue: queue["state"] == "sold_out")
    for person, text in ((people[1], tickets[1]["ticket"]), (people[2], None), (people[3], "nonsense")):
        problem = (await room.claim(person, text)).is_problem("sold-out", 409)
        assert isinstance(problem["alternatives"], list)
        assert isinstance(problem["next_openings"], list)
    problem = (await room.join(stack.applicant())).is_problem("sold-out", 409)
    assert problem["opening"] == room.id
    assert "alternatives" not in problem
    message = problem["detail"] + problem["next"]
    assert "kuota" not in message, "a join asks for no quota and for no number of places"
    assert "alternatives" not in message, "only a refused claim has them"
    assert all(each in message for each in ("GET /v1/openings;", "`next_openings`", "GET /v1/openings/{id}/queue"))
    assert queue["joined"] == len(people)


async def test_sold_out_wins_over_a_number_beyond_the_mark(stack: Stack) -> None:
    room = await create_room(stack, capacity=0)
    people = [stack.applicant() for _ in range(6)]
    tickets = [await room.joined(person) for person in people]
    queue = await room.open()
    late = max(range(6), key=lambda at: room.number(queue, tickets[at]))
    assert room.number(queue, tickets[late]) > queue["admitted_through"]
    (await room.claim(people[late], tickets[late]["ticket"])).is_problem("sold-out", 409)


async def test_after_the_end_nobody_needs_a_ticket_and_whatever_is_shown_is_ignored(stack: Stack) -> None:
    room, other = await create_room(stack, capacity=30), await create_room(stack)
    people = [stack.applicant() for _ in range(6)]
    own = (await room.joined(people[0]))["ticket"]
    foreign = (await other.joined(people[1]))["ticket"]
    await room.open(lasts_ms=500)
    await room.until(lambda queue: queue["state"] == "ended")
    shown = (own, foreign, own, "nonsense", "é" * 10, None)
    for person, ticket in zip(people, shown, strict=True):
        for headers, who in (({}, person), (LONG_WAY, stack.applicant())):
            body = {"quota": room.quota, "applicants": [who]}
            reply = await stack.claim(body if ticket is None else {**body, "ticket": ticket}, **headers)
            assert reply.status == 201, (ticket, reply.text)
    (await room.join(stack.applicant())).is_problem("joining-closed", 410)


async def test_a_quota_without_a_waiting_room_ignores_a_ticket(stack: Stack) -> None:
    room = await create_room(stack)
    quota = await stack.quota()
    person = stack.applicant()
    for ticket in ((await room.joined(person))["ticket"], "nonsense"):
        for headers in ({}, LONG_WAY):
            body = {"quota": quota, "applicants": [stack.applicant()], "ticket": ticket}
            assert (await stack.claim(body, **headers)).status == 201


async def test_a_replay_gets_its_first_answer_also_when_the_ticket_has_expired(stack: Stack) -> None:
    room = await create_room(stack)
    person = stack.applicant()
    ticket = await room.joined(person)
    await room.open(lasts_ms=2700)
    first = await room.claim(person, ticket["ticket"], "again")
    assert first.status == 201, first.text
    await room.until(lambda queue: queue["state"] == "ended")
    again = await room.claim(person, ticket["ticket"], "again")
    assert (again.status, again.json) == (201, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    (await room.claim(person, ticket["ticket"], "another")).is_problem("duplicate-applicant", 409)


async def test_one_ticket_admits_the_group_of_its_person(stack: Stack) -> None:
    room = await create_room(stack)
    people = [stack.applicant(), stack.applicant()]
    ticket = await room.joined(people[1])
    await room.open()
    body = {"quota": room.quota, "applicants": people, "ticket": ticket["ticket"]}
    assert (await stack.claim(body)).json["places"] == 2


async def test_without_a_waiting_room_no_ticket_is_needed(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=100, waiting_room=False)
    (await room.join(stack.applicant())).is_problem("no-waiting-room", 409)
    await room.until(lambda queue: queue["state"] == "open")

    async def held() -> bool:
        return (await room.claim(stack.applicant())).status == 201

    await stack.eventually(held)
    assert "seed" not in await room.queue()


async def test_nobody_is_admitted_while_an_opening_is_paused_since_before_it_opened(stack: Stack) -> None:
    room = await create_room(stack)
    person = stack.applicant()
    ticket = (await room.joined(person))["ticket"]  # the only one who joined, so that the draw gives number 0
    await room.set(paused=True)
    queue = await room.open()
    assert (queue["state"], queue["admitted_through"]) == ("paused", 0)
    problem = (await room.claim(person, ticket)).is_problem("not-admitted", 403)
    assert (problem["opening"], problem["number"], problem["admitted_through"]) == (room.id, 0, 0)
    assert "dijeda" in problem["detail"]
    await room.set(paused=False)
    await room.until(lambda queue: queue["state"] == "open")
    assert (await room.claim(person, ticket)).status == 201


async def test_whoever_was_admitted_may_claim_while_an_opening_is_paused(stack: Stack) -> None:
    room = await create_room(stack)
    person = stack.applicant()
    ticket = (await room.joined(person))["ticket"]
    await room.open()
    await room.set(paused=True)
    queue = await room.until(lambda queue: queue["state"] == "paused")
    assert queue["admitted_through"] == 0
    assert (await room.claim(person, ticket)).status == 201


async def test_pausing_and_another_rate_hold_the_mark_and_move_it(stack: Stack) -> None:
    room = await create_room(stack)
    for _ in range(5):
        await room.joined(stack.applicant())
    await room.open()
    path = f"/v1/staff/openings/{room.id}/admission"
    reply = await stack.staff("PUT", path, json={"paused": True})
    assert (reply.status, reply.json["paused"]) == (200, True)
    await room.until(lambda queue: queue["state"] == "paused")
    reply = await stack.staff("PUT", path, json={"rate_per_min": 1_000_000})
    assert reply.json["rate_fixed"]
    before = await room.queue()
    await room.joined(stack.applicant())
    queue = await room.until(lambda queue: queue["arrived"] > before["arrived"])  # the controller had its turn
    assert queue["admitted_through"] == before["admitted_through"] == 0
    assert (await stack.staff("PUT", path, json={"paused": False})).json["paused"] is False
    queue = await room.until(lambda queue: queue["admitted_through"] >= queue["arrived"])
    assert queue["state"] == "open"


@pytest.mark.parametrize("body", [{}, {"paused": 1}, {"rate_per_min": -1}, {"what": 1}, [], {"rate_per_min": True}])
async def test_a_wrong_change_of_admission_is_refused(stack: Stack, body: Any) -> None:
    room = await create_room(stack)
    path = f"/v1/staff/openings/{room.id}/admission"
    (await stack.staff("PUT", path, json=body)).is_problem("invalid-request", 422)
    (await stack.staff("PUT", path, stack.viewer_key, json={"paused": True})).is_problem("role-not-allowed", 403)
    (await stack.request("PUT", path, json={"paused": True})).is_problem("api-key-required", 401)
