"""Openings whose quotas are all closed, by staff or by the clock: everybody says so, and nobody joins."""

from typing import Any

import pytest

from reservasi.front.pages.texts import STATES
from reservasi.front.views.quota_json import moment
from tests.acceptance.conftest import Stack
from tests.acceptance.test_moving import change, changed, event_of
from tests.acceptance.waiting import ELSEWHERE, HOUR_MS, Room, create_room, listed, now_ms, wanted

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def close_day(stack: Stack, day: str) -> None:
    body = {"program": stack.program, "date": day, "office": "ulp-wiyung", "reason": "banjir"}
    reply = await stack.staff("POST", "/v1/staff/closures", json=body)
    assert reply.status == 200, reply.text


async def change_quota(stack: Stack, quota: str, **changes: Any) -> None:
    reply = await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json=changes)
    assert reply.status == 200, reply.text


async def say(stack: Stack, room: Room, *, state: str, listed_state: str) -> None:
    """Wait until queue, list, document and page say this."""
    label = STATES[listed_state].en  # type: ignore[index]

    async def said() -> bool:
        document = await stack.request("GET", f"/v1/openings/{room.id}")
        page = await stack.request("GET", f"/openings/{room.id}", headers={"Accept-Language": "en"})
        opening = (await listed(stack)).get(room.id, {})  # the list may be slightly older than the document
        states = ((await room.queue())["state"], opening.get("state"), document.json["state"])
        return states == (state, listed_state, listed_state) and label in page.text

    await stack.eventually(said)


async def test_an_opening_whose_day_is_closed_is_closed_everywhere_until_a_quota_is_reopened(stack: Stack) -> None:
    day = "2027-06-01"
    room = await create_room(stack, **ELSEWHERE, date=day)
    person = stack.applicant()
    ticket = await room.joined(person)
    await close_day(stack, day)
    await say(stack, room, state="closed", listed_state="closed")
    problem = (await room.join(stack.applicant())).is_problem("closed", 409)
    assert problem["opening"] == room.id
    assert "Kantor telah menutup semua tempat pada pembukaan ini" in problem["detail"]
    assert room.id not in [each["id"] for each in problem["next_openings"]]
    (await stack.request("GET", f"/v1/openings/{room.id}/challenge")).is_problem("closed", 409)
    event = await event_of(stack, room)
    assert (event["status"], event["summary"].split(":")[0]) == ("TENTATIVE", "CLOSED")
    assert "No places: all quotas are closed." in event["description"]
    assert not event.walk("VALARM")
    await change_quota(stack, room.quota, closed=False)
    await say(stack, room, state="joining", listed_state="not-open")
    assert (await room.joined(person))["ticket_id"] == ticket["ticket_id"]


async def test_an_opening_that_is_closed_after_its_moment_is_not_sold_out_but_closed(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=500, **ELSEWHERE)
    await room.opened()
    await change_quota(stack, room.quota, closed=True)
    await say(stack, room, state="closed", listed_state="closed")
    (await room.join(stack.applicant())).is_problem("closed", 409)
    reply = await stack.staff("PUT", f"/v1/staff/openings/{room.id}/admission", json={"paused": True})
    assert reply.status == 200, reply.text
    await say(stack, room, state="closed", listed_state="closed")
    await change_quota(stack, room.quota, closed=False)
    await say(stack, room, state="paused", listed_state="paused")


async def test_an_opening_whose_quotas_went_to_another_one_cannot_be_joined(stack: Stack) -> None:
    day = "2027-06-02"
    room = await create_room(stack, joins_before_ms=100, **ELSEWHERE, date=day)
    body = {"program": stack.program, "opens_at": moment(room.opens_at_ms + 5 * HOUR_MS), "from": day, "to": day}
    reply = await stack.staff("POST", "/v1/staff/openings", json={**body, "offices": ["ulp-wiyung"]})
    assert reply.status == 201, reply.text
    await say(stack, room, state="closed", listed_state="closed")
    (await room.join(stack.applicant())).is_problem("closed", 409)


async def test_an_opening_is_not_created_over_quotas_that_are_all_closed(stack: Stack) -> None:
    body, quota = await wanted(stack, in_ms=7 * HOUR_MS, quota={"date": "2027-06-03"})
    await change_quota(stack, quota, closed=True)
    problem = (await stack.staff("POST", "/v1/staff/openings", json=body)).is_problem("invalid-request", 422)
    assert [each["code"] for each in problem["errors"]] == ["all-closed"]
    assert "Buka kembali kuotanya" in problem["errors"][0]["detail"]
    assert body["opens_at"] not in [each["opens_at"] for each in (await listed(stack)).values()]
    await change_quota(stack, quota, closed=False, opens_at=body["opens_at"])
    created = await stack.staff("POST", "/v1/staff/openings", json=body)
    assert (created.status, created.json["quotas"]) == (201, 1)


# -- the end of an opening: its own, and at the latest that of its quotas --------------------------------------------


async def test_an_end_is_not_moved_beyond_the_last_closing_of_the_quotas(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    closes_at = moment(room.opens_at_ms + 2 * HOUR_MS)
    await change_quota(stack, room.quota, closes_at=closes_at)
    state = await changed(stack, room, ends_at=moment(room.opens_at_ms + 9 * HOUR_MS))
    assert state["ends_at"] == closes_at
    assert (await room.queue())["ends_at"] == closes_at
    assert (await listed(stack))[room.id]["ends_at"] == closes_at
    assert moment(room.opening.terms.ends_at_ms) == closes_at
    state = await changed(stack, room, ends_at=moment(room.opens_at_ms + HOUR_MS))
    assert state["ends_at"] == moment(room.opens_at_ms + HOUR_MS)


async def test_an_opening_ends_when_its_quotas_close_earlier_than_it_for_staff_as_well(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=500, **ELSEWHERE)
    await room.opened()
    closes_at = moment(await now_ms(stack) + 1500)
    await change_quota(stack, room.quota, closes_at=closes_at)
    assert (await room.queue())["ends_at"] == closes_at
    assert (await stack.request("GET", f"/v1/openings/{room.id}")).json["ends_at"] == closes_at
    await say(stack, room, state="ended", listed_state="ended")
    (await room.join(stack.applicant())).is_problem("joining-closed", 410)
    changes: tuple[dict[str, Any], ...] = (
        {"ends_at": moment(room.opens_at_ms + HOUR_MS)},
        {"cancelled": True, "reason": "banjir"},
    )
    for members in changes:
        (await change(stack, room, **members)).is_problem("opening-fixed", 409)
    for admission in ({"paused": True}, {"rate_per_min": 5}):
        reply = await stack.staff("PUT", f"/v1/staff/openings/{room.id}/admission", json=admission)
        assert reply.is_problem("opening-fixed", 409)["opening"] == room.id
    await change_quota(stack, room.quota, closes_at=moment(await now_ms(stack) + HOUR_MS // 2))
    await say(stack, room, state="open", listed_state="open")
    await changed(stack, room, cancelled=True, reason="banjir")


async def test_places_for_the_counter_are_no_places_of_an_opening(stack: Stack) -> None:
    """Only staff may claim them: for the public it is sold out, or closed, without them."""
    room = await create_room(stack, **{**ELSEWHERE, "capacity": 1})
    counter = await stack.quota(**ELSEWHERE, channel="walk-in", opens_at_ms=room.opens_at_ms)

    async def offers(quotas: int, places: int) -> bool:
        document = (await stack.request("GET", f"/v1/openings/{room.id}")).json
        return (document["quotas"], document["places"]) == (quotas, places)

    await stack.eventually(lambda: offers(1, 1))
    person, late = stack.applicant(), stack.applicant()
    ticket = (await room.joined(person))["ticket"]
    await room.joined(late)
    await room.open()
    await room.admit_all()
    assert (await room.claim(person, ticket)).status == 201
    await say(stack, room, state="sold_out", listed_state="sold-out")
    (await room.join(stack.applicant())).is_problem("sold-out", 409)
    await change_quota(stack, room.quota, closed=True)
    await say(stack, room, state="closed", listed_state="closed")
    assert await offers(0, 0)
    kept = stack.front.availability.quota(counter)
    assert kept is not None
    assert kept.remaining == ELSEWHERE["capacity"]
