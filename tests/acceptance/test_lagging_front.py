"""A front whose view lags reads the journal again before it refuses what another front may already have reported."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from reservasi.errors import JournalGap
from reservasi.model import Outcome, SetQuota
from reservasi.programs import WaitingRoom as Policy
from tests.acceptance.conftest import WAIT_S, Stack
from tests.acceptance.waiting import AT_ONCE, Room, create_opening, create_room
from tests.views import says_sold_out

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOON_MS = 2000  # time enough for a few people to join
PEOPLE = 12  # so many that not all draw the number 0, which is admitted at once


@pytest.mark.parametrize("headers", [{}, {"Trailer": "x"}], ids=["short", "long"])
async def test_a_mark_that_this_front_has_not_read_yet_holds_nobody_up(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """Another front told the person that it is their turn."""
    room = await create_room(stack)
    people = [stack.applicant() for _ in range(PEOPLE)]
    tickets = {person["nik"]: (await room.joined(person))["ticket"] for person in people}
    await room.open()
    answers = {person["nik"]: (await room.claim(person, tickets[person["nik"]])).status for person in people}
    person = next((each for each in people if answers[each["nik"]] == 403), None)
    assert person is not None, f"nobody has to wait: {answers}"
    body = {"quota": room.quota, "applicants": [person], "ticket": tickets[person["nik"]]}
    async with unread(stack, monkeypatch) as read_on:
        await room.set(rate_per_min=AT_ONCE)
        await stack.eventually(partial(_all_admitted, stack, room.id))
        claiming = asyncio.create_task(stack.claim(body, **headers))
        await stack.eventually(partial(_waits, stack))
        assert not claiming.done()
        read_on.set()
        assert (await claiming).status == 201


@pytest.mark.parametrize("headers", [{}, {"Trailer": "x"}], ids=["short", "long"])
@pytest.mark.parametrize(
    ("before", "after"),
    [({"capacity": 0}, {"capacity": 1}), ({"closed": True}, {"closed": False})],
    ids=["sold-out", "closed"],
)
async def test_what_staff_have_given_meanwhile_is_refused_to_nobody(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    """Another front, which has read of it, may have given the place that is asked for again here."""
    room = await create_room(stack, opens_in_ms=SOON_MS)
    body = await _of_who_waits(stack, room)
    await stack.front.reservations.set_quota(SetQuota(quota=room.quota, **before))
    await stack.seen(room.quota, lambda quota: quota.terms.closed or quota.remaining == 0)
    assert (await stack.claim(body, **headers)).status == 409
    async with unread(stack, monkeypatch) as read_on:
        answer = await stack.front.reservations.set_quota(SetQuota(quota=room.quota, **after))
        assert answer.outcome is Outcome.QUOTA_SET
        await room.set(rate_per_min=AT_ONCE)
        await stack.eventually(partial(_all_admitted, stack, room.id))
        await stack.eventually(partial(_is_old, stack))
        claiming = asyncio.create_task(stack.claim(body, **headers))
        await stack.eventually(partial(_waits, stack))
        assert not claiming.done()
        read_on.set()
        assert (await claiming).status == 201


@pytest.mark.parametrize("headers", [{}, {"Trailer": "x"}], ids=["short", "long"])
async def test_nobody_is_refused_by_a_view_that_was_lost_while_they_waited(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    room = await create_room(stack, opens_in_ms=SOON_MS)
    body = await _of_who_waits(stack, room)
    async with unread(stack, monkeypatch):
        await room.set(rate_per_min=2)  # what is not read yet
        claiming = asyncio.create_task(stack.claim(body, **headers))
        await stack.eventually(partial(_waits, stack))
        stack.front.availability._followers[stack.program]._lose(JournalGap("another ledger"))
        (await claiming).is_problem("recovering", 503)
    assert await stack.front.availability.wait_ready(WAIT_S)


@pytest.mark.parametrize("confirmed", [False, True], ids=["held", "confirmed"])
@pytest.mark.parametrize("headers", [{}, {"Trailer": "x"}], ids=["short", "long"])
async def test_a_place_is_there_for_the_next_one_once_it_was_given_back(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], confirmed: bool
) -> None:
    quota = await stack.quota(capacity=1)
    held = await stack.held(quota)
    if confirmed:
        assert (await stack.managed("POST", held, "/confirm")).status == 200
    async with unread(stack, monkeypatch):
        await says_sold_out(stack.front.availability, quota)
        assert (await stack.managed("POST", held, "/cancel")).status == 200
        assert (await stack.claim(stack.body(quota), **headers)).status == 201


async def test_nor_is_a_quota_unknown_to_it(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = await stack.quota()
    async with unread(stack, monkeypatch):
        await stack.front.reservations.set_quota(SetQuota(quota=quota, capacity=11))
        claiming = asyncio.create_task(stack.claim(stack.body(quota.replace(".kanim.", ".kanim3."))))
        await stack.eventually(partial(_waits, stack))
        stack.front.availability._followers[stack.program]._lose(JournalGap("another ledger"))
        (await claiming).is_problem("recovering", 503)
    assert await stack.front.availability.wait_ready(WAIT_S)


async def test_a_quota_that_this_front_has_not_read_of_yet_is_not_unknown(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = await stack.quota()
    new = quota.replace(".kanim.", ".kanim2.")
    terms = msgspec.structs.replace((await stack.seen(quota, lambda _: True)).terms, office="kanim2")
    async with unread(stack, monkeypatch) as read_on:
        answer = await stack.front.reservations.set_quota(SetQuota(quota=new, terms=terms))
        assert answer.outcome is Outcome.QUOTA_SET
        claiming = asyncio.create_task(stack.claim(stack.body(new)))
        await stack.eventually(partial(_waits, stack))
        assert not claiming.done()
        read_on.set()
        assert (await claiming).status == 201


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/openings/{id}", 200),
        ("GET", "/v1/openings/{id}", 200),
        ("GET", "/v1/openings/{id}/queue", 200),
        ("HEAD", "/v1/openings/{id}/queue/stream", 200),
        ("GET", "/v1/openings/{id}/challenge", 200),
        ("POST", "/v1/openings/{id}/tickets", 201),
        ("PUT", "/v1/staff/openings/{id}/admission", 200),
    ],
)
async def test_an_opening_that_this_front_has_not_read_of_yet_is_not_missing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, method: str, path: str, status: int
) -> None:
    person = stack.applicant()
    bodies = {"POST": {"nik": person["nik"], "birth_date": person["birth_date"]}, "PUT": {"paused": True}}
    ask = stack.staff if method == "PUT" else stack.request
    quota = await stack.quota()
    async with unread(stack, monkeypatch) as read_on:
        name, opens_at_ms = await create_opening(stack, Policy(rate_per_min=1))
        await stack.front.reservations.set_quota(SetQuota(quota=quota, opens_at_ms=opens_at_ms, taker=name))
        asking = asyncio.create_task(ask(method, path.format(id=name), json=bodies.get(method)))
        await stack.eventually(partial(_waits, stack))
        assert not asking.done()
        read_on.set()
        assert (await asking).status == status


@pytest.mark.parametrize("name", ["nowhere-1", "{program}", "{program}_1"])
async def test_what_cannot_be_an_opening_is_missing_at_once(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    quota = await stack.quota()
    path = f"/v1/openings/{name.format(program=stack.program)}/queue"
    async with unread(stack, monkeypatch), asyncio.timeout(WAIT_S):
        await stack.front.reservations.set_quota(SetQuota(quota=quota, capacity=11))
        (await stack.request("GET", path)).is_problem("not-found", 404)


@asynccontextmanager
async def unread(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """The front reads nothing more of the journal until the event is set, or the block ends."""
    read_on, follower = asyncio.Event(), stack.front.availability._followers[stack.program]
    read = follower._journal.read
    held_up = asyncio.Event()

    async def late(*args: Any) -> Any:
        held_up.set()
        await read_on.wait()
        return await read(*args)

    monkeypatch.setattr(follower._journal, "read", late)
    try:
        await held_up.wait()
        yield read_on
    finally:
        read_on.set()
        monkeypatch.undo()


async def _of_who_waits(stack: Stack, room: Room) -> dict[str, Any]:
    """The claim of somebody who was not admitted when the opening was drawn."""
    people = [stack.applicant() for _ in range(PEOPLE)]
    tickets = [await room.joined(person) for person in people]
    queue = await room.opened()
    person, ticket = next(
        (person, ticket)
        for person, ticket in zip(people, tickets, strict=True)
        if room.number(queue, ticket) > queue["admitted_through"]
    )
    return {"quota": room.quota, "applicants": [person], "ticket": ticket["ticket"]}


async def _all_admitted(stack: Stack, opening: str) -> bool:
    snapshot = await stack.ledger.snapshot(WAIT_S)
    assert snapshot is not None
    (state,) = [each for each in snapshot.openings if each.id == opening]
    return state.admitted_through >= state.arrived > 0


async def _waits(stack: Stack) -> bool:
    return bool(stack.front.availability._followers[stack.program]._waiting)


async def _is_old(stack: Stack) -> bool:
    return not stack.front.availability.is_fresh(stack.program)
