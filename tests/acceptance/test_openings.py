"""Openings: lists, events, countdowns and queues."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from icalendar import Calendar

from reservasi.front.views import answer_cache
from reservasi.front.views import openings as opening_views
from reservasi.front.views.live_feed import STREAMS_PER_ADDRESS_MAX
from reservasi.front.views.quota_json import moment
from tests.acceptance.conftest import Reply, Stack
from tests.acceptance.waiting import ELSEWHERE, HOUR_MS, Room, create_room, events, listed, now_ms, wanted

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_created_opening_is_listed_with_all_that_it_promises(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    terms = room.opening.terms
    expected = {
        "id": room.id,
        "program": stack.program,
        "opens_at": moment(room.opens_at_ms),
        "state": "not-open",
        "quotas": 1,
        "places": 7,
        "offices": ["ulp-wiyung"],
        "services": ["baru"],
        "dates": [(await stack.seen(room.quota, lambda _: True)).terms.date],
        "waiting_room": True,
        "proof_of_work": False,
        "joins_from": moment(terms.joins_from_ms),
        "ends_at": moment(terms.ends_at_ms),
        "commitment": terms.commitment,
    }
    assert (await listed(stack))[room.id] == expected
    assert (await stack.request("GET", f"/v1/openings/{room.id}")).json == expected
    assert room.id in await listed(stack, "&office=ulp-wiyung")
    assert room.id not in await listed(stack, "&office=kanim")
    for query in ("office=UPPER", "what=x", "office=ulp-wiyung&office=ulp-wiyung"):
        (await stack.request("GET", f"/v1/openings?{query}")).is_problem("invalid-request", 422)


async def test_an_opening_counts_no_place_that_staff_closed(stack: Stack) -> None:
    room = await create_room(stack, **ELSEWHERE)
    other = await stack.quota(opens_at_ms=room.opens_at_ms, service="anak", **ELSEWHERE)
    quotas = (other, room.quota)

    async def wait_for(expected: tuple[int, int, list[str]]) -> None:
        async def same() -> bool:
            opening = (await stack.request("GET", f"/v1/openings/{room.id}")).json
            return (opening["quotas"], opening["places"], opening["services"]) == expected

        await stack.eventually(same)

    await wait_for((2, 14, ["anak", "baru"]))
    expected = [(1, 7, ["baru"]), (0, 0, ["anak", "baru"])]  # with nothing left, what it was for
    for quota, then in zip(quotas, expected, strict=True):
        reply = await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json={"closed": True})
        assert reply.status == 200, reply.text
        await wait_for(then)


DAY_MS = 24 * HOUR_MS


async def past_and_present(stack: Stack) -> dict[str, Room]:
    """Openings around the beginning of today in Jakarta, which was an hour ago at the earliest when it matters."""
    today_ms = today_begins_ms(stack)
    now = await now_ms(stack)
    begins = {"over": today_ms - 2 * HOUR_MS, "runs": today_ms - HOUR_MS, "today": today_ms, "ahead": now + DAY_MS}
    ends = {"over": today_ms, "runs": now + HOUR_MS, "today": today_ms + 1, "ahead": now + 2 * DAY_MS}
    return {
        name: await create_room(
            stack,
            opens_in_ms=begin - now + (1000 if name == "today" else 0),
            lasts_ms=ends[name] - begin - (60_000 if name == "over" else 0),
            office="ulp-wiyung",
        )
        for name, begin in begins.items()
    }


def today_begins_ms(stack: Stack) -> int:
    zone = ZoneInfo("Asia/Jakarta")
    today = dt.datetime.fromtimestamp(stack.front.availability.now_ms(stack.program) / 1000, zone).date()
    return int(dt.datetime.combine(today, dt.time(), zone).timestamp() * 1000)


async def test_past_openings_leave_list_feed_and_page_and_keep_their_address(stack: Stack) -> None:
    rooms = await past_and_present(stack)
    shown = {room.id for name, room in rooms.items() if name != "over"}
    every = {room.id for room in rooms.values()}
    yesterday = dt.datetime.fromtimestamp(today_begins_ms(stack) / 1000 - 3600, ZoneInfo("Asia/Jakarta")).date()

    async def calendar(query: str = "") -> set[str]:
        path = f"/v1/openings.ics?program={stack.program}&office=ulp-wiyung{query}"
        events = Calendar.from_ical((await stack.request("GET", path)).text).walk("VEVENT")
        return {str(event["uid"]).removesuffix(".ulp-wiyung@reservasi") for event in events} & every

    async def settled() -> bool:  # what is asked rests a moment
        return shown <= (await listed(stack)).keys() and every <= (await listed(stack, f"&from={yesterday}")).keys()

    await stack.eventually(settled)
    assert rooms["over"].id not in await listed(stack)
    assert rooms["over"].id not in await listed(stack, "&office=ulp-wiyung")
    only = (await listed(stack, f"&from={yesterday}&to={yesterday}")).keys() & every
    assert only == {rooms["over"].id, rooms["runs"].id}
    await stack.eventually(lambda: same(calendar(), shown))
    await stack.eventually(lambda: same(calendar(f"&from={yesterday}&to={yesterday}"), only))
    page = (await stack.request("GET", "/openings")).text
    assert f"/openings/{rooms['over'].id}" not in page
    for path in (f"/v1/openings/{rooms['over'].id}", f"/openings/{rooms['over'].id}"):
        assert (await stack.request("GET", path)).status == 200
    assert (await rooms["over"].queue())["state"] == "ended"


async def same(answer: Any, expected: set[str]) -> bool:
    return bool(await answer == expected)


async def test_a_past_moment_that_nobody_created_an_opening_for_leaves_the_list(stack: Stack) -> None:
    opens_at_ms = today_begins_ms(stack) // 60_000 * 60_000 - 7 * HOUR_MS
    quota = await stack.quota(opens_at_ms=opens_at_ms)
    await stack.seen(quota, lambda _: True)
    local = dt.datetime.fromtimestamp(opens_at_ms / 1000, ZoneInfo("Asia/Jakarta"))
    name = f"{stack.program}-{local:%Y%m%dT%H%M}"

    async def settled() -> bool:
        return name in await listed(stack, f"&from={local:%Y-%m-%d}")

    await stack.eventually(settled)
    assert name not in await listed(stack)
    assert (await stack.request("GET", f"/v1/openings/{name}")).json["opens_at"] == moment(opens_at_ms)


async def test_what_was_called_off_ahead_stays_in_list_and_feed(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=DAY_MS, **ELSEWHERE)
    change = {"cancelled": True, "reason": "listrik padam"}
    assert (await stack.staff("PATCH", f"/v1/staff/openings/{room.id}", json=change)).status == 200

    async def is_listed() -> bool:
        return (await listed(stack)).get(room.id, {}).get("state") == "cancelled"

    await stack.eventually(is_listed)
    path = f"/v1/openings.ics?program={stack.program}&office=ulp-wiyung"

    async def fed() -> bool:
        events = Calendar.from_ical((await stack.request("GET", path)).text).walk("VEVENT")
        return any(str(each["uid"]).startswith(room.id) and each["status"] == "CANCELLED" for each in events)

    await stack.eventually(fed)


async def test_what_was_called_off_is_told_in_its_office_when_its_quotas_are_another_s(stack: Stack) -> None:
    place = {"service": "rusak", "office": "ulp-wiyung"}
    body, quota = await wanted(stack, in_ms=26 * HOUR_MS + 31_000, quota=place, **place)
    reply = await stack.staff("POST", "/v1/staff/openings", json=body)
    assert reply.status == 201, reply.text
    name = reply.json["id"]
    change = {"cancelled": True, "reason": "listrik padam"}
    assert (await stack.staff("PATCH", f"/v1/staff/openings/{name}", json=change)).status == 200
    later = {**body, "opens_at": moment(await now_ms(stack) // 1000 * 1000 + 27 * HOUR_MS + 37_000)}
    reopened = {"closed": False, "opens_at": later["opens_at"]}
    assert (await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json=reopened)).status == 200
    other = await stack.staff("POST", "/v1/staff/openings", json=later)
    assert other.status == 201, other.text

    async def is_listed() -> bool:
        here = await listed(stack, "&office=ulp-wiyung")
        return here.get(other.json["id"], {}).get("state") == "not-open" and name in here

    await stack.eventually(is_listed)
    here = await listed(stack, "&office=ulp-wiyung")
    assert (here[name]["state"], here[name]["quotas"], here[name]["offices"]) == ("cancelled", 0, ["ulp-wiyung"])
    assert name not in await listed(stack, "&office=kanim")


@pytest.mark.parametrize("path", ["/v1/openings", "/v1/openings.ics"])
@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ("from=2026-02-30", "from", "date-invalid"),
        ("to=tomorrow", "to", "date-invalid"),
        ("from=2026-03-02&to=2026-03-01", "from", "dates-reversed"),
        ("from=2026-01-01&to=2027-01-02", "to", "range-too-long"),
        ("to=9999-12-31", "to", "range-too-long"),
    ],
)
async def test_dates_of_openings_are_judged_as_those_of_availability(
    stack: Stack, path: str, query: str, pointer: str, code: str
) -> None:
    refused = await stack.request("GET", f"{path}?program={stack.program}&{query}")
    errors = refused.is_problem("invalid-request", 422)["errors"]
    assert [(each["pointer"], each["code"]) for each in errors] == [(pointer, code)]
    for good in ("from=2026-01-01&to=2027-01-01", "from=9999-12-30", "from=0001-01-01", "to=2020-01-01"):
        assert (await stack.request("GET", f"{path}?program={stack.program}&{good}")).status == 200


async def test_one_answer_has_a_bounded_number_of_openings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = [await create_room(stack, opens_in_ms=at * 60_000) for at in (10, 20)]

    async def settled() -> bool:
        return {room.id for room in rooms} <= (await listed(stack)).keys()

    await stack.eventually(settled)
    monkeypatch.setattr(opening_views, "OPENINGS_MAX", 1)
    today = dt.datetime.now(ZoneInfo("Asia/Jakarta")).date()
    reply = await stack.request("GET", f"/v1/openings?program={stack.program}&from={today}")
    assert (len(reply.json["openings"]), reply.json["more"]) == (1, True)


async def test_a_moment_that_nobody_created_an_opening_for_is_listed_as_well(stack: Stack) -> None:
    opens_at_ms = await now_ms(stack) // 60_000 * 60_000 + 7 * 24 * HOUR_MS
    await stack.quota(opens_at_ms=opens_at_ms)
    there: list[dict[str, Any]] = []

    async def found_it() -> bool:
        there[:] = [each for each in (await listed(stack)).values() if each["opens_at"] == moment(opens_at_ms)]
        return bool(there)

    await stack.eventually(found_it)
    (opening,) = there
    assert not opening["waiting_room"]
    assert not {"commitment", "joins_from", "ends_at"} & opening.keys()
    assert (await stack.request("GET", f"/v1/openings/{opening['id']}")).json == opening
    (await stack.request("GET", f"/v1/openings/{opening['id']}/queue")).is_problem("not-found", 404)


async def test_such_a_moment_has_its_address_while_the_list_rests(
    stack: Stack, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_cache, "REST_RATIO", 1e9)
    monkeypatch.setattr(answer_cache, "REST_S_MAX", HOUR_MS)
    async with listening(stack.front) as url:  # which has a cache of its own
        front = stack.at(url)
        (await front.request("GET", "/v1/openings/nowhere-1")).is_problem("not-found", 404)  # which needs the list
        opens_at_ms = await now_ms(stack) // 60_000 * 60_000 + 8 * 24 * HOUR_MS + 59_000
        await stack.quota(opens_at_ms=opens_at_ms)
        local = dt.datetime.fromtimestamp(opens_at_ms / 1000, ZoneInfo("Asia/Jakarta"))
        reply = await front.request("GET", f"/v1/openings/{stack.program}-{local:%Y%m%dT%H%M}")
        assert reply.json["opens_at"] == moment(opens_at_ms)
        for other in ("20991201T0000", "20991301T0000", "00000000T0000", f"{local:%Y%m%d-%H%M}"):
            (await front.request("GET", f"/v1/openings/{stack.program}-{other}")).is_problem("not-found", 404)


async def test_openings_come_earliest_first_and_the_next_three_are_named(stack: Stack) -> None:
    rooms = [await create_room(stack, opens_in_ms=at * 60_000) for at in (50, 20, 40, 30)]
    moments = [each["opens_at"] for each in (await listed(stack)).values()]
    assert moments == sorted(moments, key=lambda at: at.removesuffix("Z"))
    sold_out = await stack.quota(capacity=0)

    async def next_of(reply: Reply, name: str) -> list[dict[str, Any]]:
        following: list[dict[str, Any]] = reply.is_problem(name, 409)["next_openings"]
        return following

    async def are_suggested() -> bool:  # suggestions may be a moment old
        for reply, name in (
            (await stack.claim(stack.body(sold_out)), "sold-out"),
            (await stack.claim(stack.body(rooms[0].quota)), "not-open"),
        ):
            following = await next_of(reply, name)
            ahead = [each for each in (await listed(stack)).values() if each["state"] == "not-open"][:3]
            if [each["id"] for each in following] != [each["id"] for each in ahead]:
                return False
            assert len(following) == 3
            assert {"id", "opens_at", "joins_from"} >= following[0].keys() >= {"id", "opens_at"}
        return True

    await stack.eventually(are_suggested)


async def test_a_calendar_has_every_opening(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=3 * HOUR_MS, **ELSEWHERE)
    path = f"/v1/openings.ics?program={stack.program}&office=ulp-wiyung"

    async def shown() -> bool:
        reply = await stack.request("GET", path, headers={"Accept-Language": "en"})
        assert reply.headers["Content-Type"] == "text/calendar; charset=utf-8"
        assert "Accept-Language" in reply.headers["Vary"]
        events = Calendar.from_ical(reply.text).walk("VEVENT")
        return any(str(event["uid"]).startswith(room.id) for event in events)

    await stack.eventually(shown)
    (await stack.request("GET", "/v1/openings.ics")).is_problem("invalid-request", 422)
    (await stack.request("GET", "/v1/openings.ics?program=nowhere")).is_problem("not-found", 404)
    (await stack.request("GET", f"/v1/openings.ics?program={stack.program}&office=no")).is_problem("not-found", 404)


# -- the queue ---------------------------------------------------------------------------------------------------


async def test_the_queue_is_small_and_cacheable_and_the_same_for_everybody(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=1500)
    await room.joined(stack.applicant())
    path = f"/v1/openings/{room.id}/queue"
    reply = await stack.request("GET", path)
    assert reply.headers["Cache-Control"] == "public, max-age=1"
    assert "Set-Cookie" not in reply.headers
    assert "Vary" not in reply.headers
    assert len(reply.body) < 600
    assert reply.json["state"] == "joining"
    assert reply.json["commitment"] == room.opening.terms.commitment
    await room.opened()
    await room.admit_all()
    answers = [
        await stack.request("GET", path, headers={"Accept-Language": language, "X-Forwarded-For": address})
        for language, address in (("id", "203.0.113.1"), ("en", "198.51.100.7"))
    ]
    assert answers[0].body == answers[1].body
    etag = answers[0].headers["ETag"]
    again = await stack.request("GET", path, headers={"If-None-Match": etag})
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    assert again.headers["Cache-Control"] == "public, max-age=1"
    assert len(answers[0].body) < 700


async def test_the_queue_s_states_follow_the_opening(stack: Stack) -> None:
    room = await create_room(stack, opens_in_ms=3000, joins_before_ms=1500, lasts_ms=2000)
    states = []

    async def ended() -> bool:
        state = (await room.queue())["state"]
        if state not in states:
            states.append(state)
        return bool(state == "ended")

    await stack.eventually(ended)
    assert states == ["announced", "joining", "open", "ended"]


async def test_the_queue_is_not_told_while_the_view_is_out_of_step(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await create_room(stack)
    monkeypatch.setattr(stack.front.availability, "knows", lambda program: False)
    (await stack.request("GET", f"/v1/openings/{room.id}/queue")).is_problem("recovering", 503)
    (await room.join(stack.applicant())).is_problem("recovering", 503)


async def test_a_stream_tells_every_change_of_the_queue(stack: Stack) -> None:
    room = await create_room(stack)
    path = f"/v1/openings/{room.id}/queue/stream"

    async def pause() -> None:
        await room.set(paused=True, rate_per_min=5)

    first, second = await events(stack, path, 2, pause)
    assert first["rate_per_min"] == 1
    assert second["rate_per_min"] == 5
    head = await stack.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")


async def test_streams_of_queues_are_bounded_too(stack: Stack) -> None:
    room = await create_room(stack)
    path = f"{stack.url}/v1/openings/{room.id}/queue/stream"
    opened: list[aiohttp.ClientResponse] = []

    async def all_open() -> bool:  # those of other tests may not have ended yet
        response = await stack.client.get(path)
        if response.status == 200:
            opened.append(response)
        else:
            response.close()
        return len(opened) == STREAMS_PER_ADDRESS_MAX

    try:
        await stack.eventually(all_open)
        reply = await stack.request("GET", path.removeprefix(stack.url))
        reply.is_problem("too-many-streams", 503)
    finally:
        for response in opened:
            response.close()

    async def let_in() -> bool:
        async with stack.client.get(path) as response:
            return response.status == 200

    await stack.eventually(let_in)
