"""Openings that staff move or cancel while people wait: list, queue, stream, calendar and claims agree."""

import datetime as dt
from typing import Any, cast

import pytest
from icalendar import Calendar

from reservasi.front.api.bodies import OpeningListState
from reservasi.front.pages.texts import STATES
from reservasi.front.views.quota_json import moment
from reservasi.model import IMPORT_ACTOR, Outcome, SetQuota
from tests.acceptance.conftest import Reply, Stack
from tests.acceptance.waiting import ELSEWHERE, HOUR_MS, Room, create_room, events, listed, now_ms

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def change(stack: Stack, room: Room, headers: dict[str, str] | None = None, **members: Any) -> Reply:
    return await stack.staff("PATCH", f"/v1/staff/openings/{room.id}", json=members, headers=headers or {})


async def changed(stack: Stack, room: Room, **members: Any) -> dict[str, Any]:
    reply = await change(stack, room, **members)
    assert reply.status == 200, reply.text
    state: dict[str, Any] = reply.json
    return state


async def event_of(stack: Stack, room: Room, language: str = "en") -> Any:
    """The opening in the calendar of its office, once that shows the last change."""
    path = f"/v1/openings.ics?program={stack.program}&office=ulp-wiyung"
    matches: list[Any] = []

    async def shown() -> bool:
        reply = await stack.request("GET", path, headers={"Accept-Language": language})
        matches[:] = [
            event
            for event in Calendar.from_ical(reply.text).walk("VEVENT")
            if str(event["uid"]).startswith(room.id) and event["sequence"] == room.opening.revision
        ]
        return bool(matches)

    await stack.eventually(shown)
    (event,) = matches
    return event


async def list_says(stack: Stack, room: Room, state: str) -> None:
    """Wait until list, document and page name that state."""
    label = STATES[cast("OpeningListState", state)].en

    async def shown() -> bool:
        document = await stack.request("GET", f"/v1/openings/{room.id}")
        page = await stack.request("GET", f"/openings/{room.id}", headers={"Accept-Language": "en"})
        opening = (await listed(stack)).get(room.id, {})  # the list may be slightly older than the document
        return opening.get("state") == document.json["state"] == state and label in page.text

    await stack.eventually(shown)


async def test_a_moved_opening_moves_everywhere_and_tickets_stay_good(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=2 * HOUR_MS, lasts_ms=HOUR_MS, **ELSEWHERE)
    people = [stack.applicant() for _ in range(3)]
    tickets = [await room.joined(person) for person in people]
    before = await event_of(stack, room)
    commitment = room.opening.terms.commitment
    opens_at_ms = room.opens_at_ms + 3 * HOUR_MS
    state = await changed(stack, room, opens_at=moment(opens_at_ms), reason="listrik padam", reason_en="a power cut")
    assert (state["opens_at"], state["ends_at"]) == (moment(opens_at_ms), moment(opens_at_ms + HOUR_MS))
    assert (state["moved_from"], state["revision"], state["version"]) == (moment(room.opens_at_ms), 1, 2)
    assert (await stack.seen(room.quota, lambda _: True)).terms.opens_at_ms == opens_at_ms
    queue = await room.until(lambda queue: queue["opens_at"] == moment(opens_at_ms))
    assert (queue["state"], queue["commitment"], queue["moved_from"]) == ("joining", commitment, state["moved_from"])
    assert (queue["reason"], queue["reason_en"]) == ("listrik padam", "a power cut")

    async def is_listed() -> bool:
        entry = (await listed(stack)).get(room.id, {})
        return bool(entry["opens_at"] == moment(opens_at_ms) and entry["moved_from"] == moment(room.opens_at_ms))

    await stack.eventually(is_listed)
    assert [each["id"] for each in (await listed(stack)).values() if room.id in each["id"]] == [room.id]
    event = await event_of(stack, room)
    assert (event["uid"], event["status"]) == (before["uid"], "CONFIRMED")
    assert event["dtstart"].dt == dt.datetime.fromtimestamp(opens_at_ms // 1000, dt.UTC)
    assert event["sequence"] > before["sequence"]
    assert event["last-modified"].dt == dt.datetime.fromtimestamp(room.opening.revised_at_ms // 1000, dt.UTC)
    assert "a power cut" in event["description"]
    assert "listrik padam" in (await event_of(stack, room, "id"))["description"]
    assert await room.joined(people[0]) | {"ticket": ""} == tickets[0] | {"ticket": ""}
    # Moved so close that it opens within the test: those who joined first are drawn, with the tickets they have.
    soon_ms = await now_ms(stack) + 1000
    await changed(stack, room, opens_at=moment(soon_ms))
    queue = await room.opened()
    assert queue["joined"] == 3
    await room.admit_all()
    for person, ticket in zip(people, tickets, strict=True):
        assert room.number(queue, ticket) < 3
        assert (await room.claim(person, ticket["ticket"])).status == 201
    (await room.claim(stack.applicant())).is_problem("waiting-room-required", 403)


async def test_what_is_called_off_is_told_so_by_everybody(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=HOUR_MS, **ELSEWHERE)
    person = stack.applicant()
    ticket = await room.joined(person)
    path = f"/v1/openings/{room.id}/queue/stream"

    async def call_off() -> None:
        state = await changed(stack, room, cancelled=True, reason="banjir", reason_en="a flood")
        assert (state["state"], state["cancelled"]) == ("cancelled", True)

    _, streamed = await events(stack, path, 2, call_off)
    queue = await room.queue()
    assert streamed == queue
    assert (queue["state"], queue["reason"], queue["reason_en"]) == ("cancelled", "banjir", "a flood")
    assert "seed" not in queue

    async def is_listed() -> bool:
        entry = (await listed(stack, "&office=ulp-wiyung")).get(room.id, {})
        return entry.get("state") == "cancelled" and entry["reason"] == "banjir"

    await stack.eventually(is_listed)
    assert (await stack.request("GET", f"/v1/openings/{room.id}")).json["state"] == "cancelled"
    event = await event_of(stack, room)
    assert event["status"] == "CANCELLED"
    assert event["summary"].startswith("CANCELLED")
    assert "a flood" in event["description"]
    assert not event.walk("VALARM")
    for language, reason in (("id", "banjir"), ("en", "a flood")):
        headers = {"Accept-Language": language}
        body = {"nik": person["nik"], "birth_date": person["birth_date"]}
        join = await stack.request("POST", f"/v1/openings/{room.id}/tickets", json=body, headers=headers)
        problem = join.is_problem("opening-cancelled", 410)
        assert reason in problem["detail"]
        assert (problem["opening"], problem["reason"]) == (room.id, "banjir")
    for text in (ticket["ticket"], None, "nonsense"):
        assert (await room.claim(person, text)).is_problem("opening-cancelled", 410)["reason"] == "banjir"
    (quota,) = [
        each
        for each in (await stack.request("GET", f"/v1/availability?program={stack.program}")).json["quotas"]
        if each["id"] == room.quota
    ]
    assert quota["state"] == "closed"
    ahead = (await stack.claim(stack.body((await create_room(stack)).quota))).is_problem("not-open", 409)
    assert room.id not in [each["id"] for each in ahead["next_openings"]]


async def test_what_was_called_off_does_not_count_places_that_another_opening_took(stack: Stack) -> None:
    day = "2027-05-09"  # of no other quota
    room = await create_room(stack, **ELSEWHERE, date=day)
    await changed(stack, room, cancelled=True, reason="banjir")
    opens_at = moment(room.opens_at_ms + HOUR_MS)
    reopened = {"closed": False, "opens_at": opens_at}
    assert (await stack.staff("PUT", f"/v1/staff/quotas/{room.quota}", json=reopened)).status == 200
    body = {"program": stack.program, "opens_at": opens_at, "from": day, "to": day}
    reply = await stack.staff("POST", "/v1/staff/openings", json={**body, "offices": ["ulp-wiyung"]})
    assert reply.status == 201, reply.text

    async def left() -> bool:
        return bool((await listed(stack))[room.id]["quotas"] == 0)

    await stack.eventually(left)
    page = await stack.request("GET", f"/openings/{room.id}", headers={"Accept-Language": "en"})
    assert "banjir" in page.text
    assert "0 places" not in page.text
    assert "places" not in (await event_of(stack, room))["description"]


async def test_what_was_called_off_counts_no_quota_that_an_import_had_closed(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    other = await stack.quota(opens_at_ms=room.opens_at_ms, **{**ELSEWHERE, "capacity": 99})
    command = SetQuota(quota=other, closed=True, actor=IMPORT_ACTOR)
    assert (await stack.front.reservations.set_quota(command)).outcome is Outcome.QUOTA_SET
    await stack.seen(other, lambda quota: quota.terms.closed)
    await list_says(stack, room, "not-open")
    before = (await listed(stack))[room.id]
    assert (before["quotas"], before["places"]) == (1, 7)
    await changed(stack, room, cancelled=True, reason="banjir")
    await list_says(stack, room, "cancelled")
    after = (await listed(stack))[room.id]
    assert (after["quotas"], after["places"]) == (1, 7)
    assert "7 places" in (await event_of(stack, room))["description"]


async def test_to_call_off_is_final(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    await changed(stack, room, cancelled=True, reason="banjir")
    assert (await changed(stack, room, cancelled=True, reason="banjir"))["version"] == 2
    for members in (
        {"cancelled": False},
        {"opens_at": moment(room.opens_at_ms + 1000)},
        {"ends_at": "2090-01-01T00:00:00Z"},
    ):
        problem = (await change(stack, room, **members)).is_problem("opening-fixed", 409)
        assert (problem["opening"], problem["state"], problem["reason"]) == (room.id, "cancelled", "banjir")
    for path, body in (("admission", {"paused": True}), ("beacon", {"value": "x"})):
        reply = await stack.staff("PUT", f"/v1/staff/openings/{room.id}/{path}", json=body)
        reply.is_problem("opening-fixed", 409)
    assert (await room.queue())["state"] == "cancelled"


async def test_who_has_a_place_keeps_it_when_the_rest_is_called_off(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    people = [stack.applicant() for _ in range(2)]
    tickets = [await room.joined(person) for person in people]
    await room.open()
    await room.admit_all()
    first = await room.claim(people[0], tickets[0]["ticket"], "kept")
    assert first.status == 201, first.text
    await changed(stack, room, cancelled=True, reason="banjir")
    (await room.claim(people[1], tickets[1]["ticket"])).is_problem("opening-cancelled", 410)
    again = await room.claim(people[0], tickets[0]["ticket"], "kept")
    assert (again.status, again.json) == (201, first.json)
    manage = {"Authorization": f"Bearer {first.json['manage_token']}"}
    confirmed = await stack.request("POST", f"/v1/reservations/{first.json['id']}/confirm", headers=manage)
    assert confirmed.status in (200, 202), confirmed.text
    assert "seed" in await room.queue()  # what was drawn can still be verified


async def test_once_it_has_opened_only_its_end_moves(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=500, **ELSEWHERE)
    await room.opened()
    later = moment(await now_ms(stack) + 2 * HOUR_MS)
    problem = (await change(stack, room, opens_at=later)).is_problem("opening-fixed", 409)
    assert problem["opening"] == room.id
    past = moment(await now_ms(stack) - 100)
    problem = (await change(stack, room, ends_at=past)).is_problem("invalid-request", 422)
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [("/ends_at", "moment-invalid")]
    assert (await changed(stack, room, ends_at=later))["ends_at"] == later
    assert (await room.queue())["ends_at"] == later
    await changed(stack, room, ends_at=moment(await now_ms(stack) + 500))
    await room.until(lambda queue: queue["state"] == "ended")
    (await change(stack, room, ends_at=later)).is_problem("opening-fixed", 409)
    (await change(stack, room, cancelled=True, reason="x")).is_problem("opening-fixed", 409)


async def test_a_move_collides_with_nothing(stack: Stack) -> None:
    room, other = await create_room(stack, **ELSEWHERE), await create_room(stack, opens_in_ms=2 * HOUR_MS, **ELSEWHERE)
    problem = (await change(stack, room, opens_at=moment(other.opens_at_ms))).is_problem("opening-exists", 409)
    assert problem["opening"] == other.id
    alone = await stack.quota(opens_at_ms=other.opens_at_ms + 777)
    problem = (await change(stack, room, opens_at=moment(other.opens_at_ms + 777))).is_problem("opening-exists", 409)
    assert problem["quota"] == alone
    closes_at = moment(room.opens_at_ms + HOUR_MS)
    closing = await stack.staff("PUT", f"/v1/staff/quotas/{room.quota}", json={"closes_at": closes_at})
    assert closing.status == 200, closing.text
    problem = (await change(stack, room, opens_at=closes_at)).is_problem("quota-closes-before", 409)
    assert (problem["quota"], problem["opening"]) == (room.quota, room.id)
    assert (await room.queue())["opens_at"] == moment(room.opens_at_ms)
    assert room.opening.version == 1


async def test_a_quota_of_an_opening_does_not_move_alone(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    path = f"/v1/staff/quotas/{room.quota}"
    for opens_at in (moment(room.opens_at_ms + 1000), None):
        problem = (await stack.staff("PUT", path, json={"opens_at": opens_at})).is_problem("quota-of-opening", 409)
        assert problem["opening"] == room.id
    for other in ({"capacity": 9}, {"closed": True}, {"closed": False}, {"opens_at": moment(room.opens_at_ms)}):
        assert (await stack.staff("PUT", path, json=other)).status == 200


async def test_a_change_is_made_to_the_version_that_was_read(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    first, second = moment(room.opens_at_ms + 1000), moment(room.opens_at_ms + 2000)
    reply = await change(stack, room, {"If-Match": '"1"'}, opens_at=first)
    assert (reply.status, reply.headers["ETag"]) == (200, '"2"')
    problem = (await change(stack, room, {"If-Match": '"1"'}, opens_at=second)).is_problem("version-mismatch", 412)
    assert problem["version"] == 2
    assert (await change(stack, room, {"If-Match": '"2"'}, opens_at=second)).status == 200


@pytest.mark.parametrize(
    ("members", "pointer", "code"),
    [
        ({}, "", "change-empty"),
        ({"reason": "x"}, "", "change-empty"),
        ({"opens_at": "soon"}, "/opens_at", "time-invalid"),
        ({"opens_at": "2020-01-01T00:00:00Z"}, "/opens_at", "moment-invalid"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, "/ends_at", "moment-invalid"),
        ({"opens_at": "2090-01-02T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}, "/ends_at", "before-the-opening"),
        ({"cancelled": True}, "/reason", "missing"),
        ({"cancelled": True, "reason": " "}, "/reason", "missing"),
        ({"cancelled": True, "reason": "x" * 201}, "/reason", "reason-length"),
        ({"cancelled": True, "reason": "for 3578014107900001"}, "/reason", "reason-nik"),
        ({"cancelled": True, "reason": "x", "reason_en": "a\x07b"}, "/reason_en", "reason-characters"),
        ({"cancelled": True, "reason": "x", "opens_at": "2090-01-01T00:00:00Z"}, "/cancelled", "cancelled-alone"),
        ({"cancelled": "yes", "reason": "x"}, "/cancelled", "flag-type"),
        ({"joins_from": "2090-01-01T00:00:00Z"}, "/joins_from", "unknown-field"),
    ],
)
async def test_a_wrong_change_is_refused_and_changes_nothing(
    stack: Stack, members: dict[str, Any], pointer: str, code: str
) -> None:
    room = await create_room(stack, **ELSEWHERE)
    problem = (await change(stack, room, **members)).is_problem("invalid-request", 422)
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [(pointer, code)]
    assert room.opening.version == 1


async def test_only_staff_who_may_change_do(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    path, body = f"/v1/staff/openings/{room.id}", {"cancelled": True, "reason": "x"}
    (await stack.request("PATCH", path, json=body)).is_problem("api-key-required", 401)
    (await stack.staff("PATCH", path, stack.viewer_key, json=body)).is_problem("role-not-allowed", 403)
    (await stack.staff("PATCH", "/v1/staff/openings/nowhere-1", json=body)).is_problem("not-found", 404)
    assert (await room.queue())["state"] == "joining"


# -- pausing -----------------------------------------------------------------------------------------------------


async def test_a_pause_moves_the_end_and_lets_nobody_in_before_those_who_wait(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    people = [stack.applicant() for _ in range(12)]  # numbers may be equal, but hardly 0 for all
    tickets = [await room.joined(person) for person in people]
    queue = await room.open(lasts_ms=2500)
    last = max(range(12), key=lambda at: room.number(queue, tickets[at]))
    await room.set(paused=True)
    paused = await room.until(lambda queue: queue["state"] == "paused")
    assert paused["paused_since"]
    await list_says(stack, room, "paused")
    ends_at_ms = room.opening.terms.ends_at_ms

    async def is_past_the_end() -> bool:
        return await now_ms(stack) > ends_at_ms + 1100

    await stack.eventually(is_past_the_end)
    assert (await room.queue())["state"] == "paused"
    (await room.claim(stack.applicant())).is_problem("waiting-room-required", 403)
    (await room.claim(people[last], tickets[last]["ticket"])).is_problem("not-admitted", 403)
    await room.joined(stack.applicant())
    resumed = await stack.staff("PUT", f"/v1/staff/openings/{room.id}/admission", json={"paused": False})
    assert resumed.status == 200, resumed.text
    queue = await room.until(lambda queue: queue["state"] == "open")
    assert queue["ends_at"] > paused["ends_at"]
    assert "paused_since" not in queue
    await room.admit_all()
    claimed = await room.claim(people[last], tickets[last]["ticket"])  # the ticket's own end has passed
    assert claimed.status == 201, claimed.text
    await room.until(lambda queue: queue["state"] == "ended")
    await list_says(stack, room, "ended")  # while its quota is open to everybody
    for paused_again in (False, True):
        reply = await stack.staff("PUT", f"/v1/staff/openings/{room.id}/admission", json={"paused": paused_again})
        reply.is_problem("opening-fixed", 409)
