"""Closing a day in one call: what is closed and answered; reservations stay."""

from typing import Any

import pytest

from reservasi.model import IMPORT_ACTOR, SetQuota
from tests.acceptance.conftest import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
CLOSURES = "/v1/staff/closures"


async def close(stack: Stack, day: str, **body: Any) -> Any:
    return await stack.staff("POST", CLOSURES, json={"program": stack.program, "date": day, **body})


async def test_a_day_is_closed_and_people_keep_their_places(stack: Stack) -> None:
    day = "2028-02-01"
    first = await stack.quota(date=day, start="08:00", end="08:30")
    second = await stack.quota(date=day, start="08:30", end="09:00", office="ulp")
    other_day = await stack.quota(date="2028-02-02", start="08:00", end="08:30")
    held = await stack.held(first, applicants=2)
    reply = await close(stack, day, reason="libur nasional")
    assert reply.status == 200, reply.text
    body = reply.json
    assert (body["program"], body["date"], body["closed"], body["held"], body["confirmed"]) == (
        stack.program,
        day,
        2,
        2,
        0,
    )
    assert {(row["id"], row["held"], row["changed"]) for row in body["quotas"]} == {
        (first, 2, True),
        (second, 0, True),
    }
    reserved = {"quota": first, "reservation": held["id"], "places": 2}
    assert body["booked"] == [{**reserved, "status": "held"}]
    assert (await stack.claim(stack.body(first))).json["type"].endswith("/closed")
    assert (await stack.managed("POST", held, "/confirm")).status in (200, 202)
    again = (await close(stack, day)).json
    assert again["booked"] == [{**reserved, "status": "confirmed"}]
    assert (again["closed"], len(again["quotas"]), {row["changed"] for row in again["quotas"]}) == (0, 2, {False})
    assert (await stack.claim(stack.body(other_day))).status == 201


async def test_what_an_import_had_closed_is_closed_by_staff_from_now_on(stack: Stack) -> None:
    day = "2028-02-09"
    quota = await stack.quota(date=day)
    for _ in range(2):
        await stack.front.reservations.set_quota(SetQuota(quota=quota, closed=True, actor=IMPORT_ACTOR))
    body = (await close(stack, day, reason="banjir")).json
    assert (body["closed"], [row["changed"] for row in body["quotas"]]) == (0, [False])
    (after,) = (await stack.staff("GET", f"/v1/staff/quotas?program={stack.program}&from={day}&to={day}")).json[
        "quotas"
    ]
    assert (after["closed"], after["version"]) == (True, 3)
    path = f"/v1/staff/quotas/{quota}"
    again = await stack.staff("PUT", path, json={"closed": True})
    assert (again.status, again.json["version"]) == (200, after["version"])


async def test_a_day_of_one_office_service_or_channel(stack: Stack) -> None:
    day = "2028-02-03"
    mine = await stack.quota(date=day, start="08:00", end="08:30", office="ulp")
    other = await stack.quota(date=day, start="08:00", end="08:30")
    body = (await close(stack, day, office="ulp", service="baru", channel="online")).json
    assert [row["id"] for row in body["quotas"]] == [mine]
    assert (await stack.claim(stack.body(other))).status == 201


async def test_null_chooses_nothing(stack: Stack) -> None:
    day = "2028-02-05"
    quotas = {await stack.quota(date=day, office=office) for office in ("kanim", "ulp")}
    reply = await close(stack, day, office=None, service=None, channel=None, reason=None)
    assert reply.status == 200, reply.text
    assert {row["id"] for row in reply.json["quotas"]} == quotas


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"date": "2028-02-30"}, 422, "/date"),
        ({"date": 20280201}, 422, "/date"),
        ({"office": "A B"}, 422, "/office"),
        ({"reason": "x" * 201}, 422, "/reason"),
        ({"day": "2028-02-01"}, 422, "/day"),
        ({"date": "2029-01-01"}, 422, ""),
        ({"office": "nowhere"}, 422, ""),
        ({"program": "nowhere"}, 404, None),
    ],
)
async def test_a_request_that_chooses_nothing_closes_nothing(
    stack: Stack, changes: dict[str, Any], status: int, pointer: str | None
) -> None:
    quota = await stack.quota(date="2028-02-04")
    body = {"program": stack.program, "date": "2028-02-04", **changes}
    reply = await stack.staff("POST", CLOSURES, json=body)
    assert reply.status == status, reply.text
    if pointer is not None:
        assert [error["pointer"] for error in reply.json["errors"]] == [pointer]
    assert (await stack.claim(stack.body(quota))).status == 201


@pytest.mark.parametrize("kind", ["office", "service", "channel"])
async def test_a_name_that_the_program_does_not_have_is_named_with_those_that_it_has(stack: Stack, kind: str) -> None:
    there = {"office": "kanim", "service": "baru", "channel": "online"}[kind]
    await stack.quota(date="2028-02-09")
    reply = await stack.staff(
        "POST",
        CLOSURES,
        json={"program": stack.program, "date": "2028-02-09", kind: "nowhere"},
        headers={"Accept-Language": "en"},
    )
    assert reply.status == 422
    (error,) = reply.json["errors"]
    assert error["code"] == "nothing-matches"
    assert error["detail"].startswith(f"There is no {kind} `nowhere` in the program `{stack.program}`.")
    assert f"`{there}`" in error["detail"]


async def test_only_staff_who_may_change_quotas(stack: Stack) -> None:
    quota = await stack.quota(date="2028-02-05")
    body = {"program": stack.program, "date": "2028-02-05"}
    assert (await stack.request("POST", CLOSURES, json=body)).status == 401
    assert (await stack.staff("POST", CLOSURES, key=stack.viewer_key, json=body)).status == 403
    assert (await stack.claim(stack.body(quota))).status == 201


async def test_a_window_is_not_opened_again_over_another_one(stack: Stack) -> None:
    hour = await stack.quota(date="2028-02-08", start="08:00", end="08:30")  # a Tuesday; the file has this window
    half = await stack.quota(date="2028-02-08", start="08:15", end="09:00", closed=True)
    path = f"/v1/staff/quotas/{half}"
    refused = await stack.staff("PUT", path, json={"closed": False})
    assert refused.status == 409
    assert refused.json["type"].endswith("/overlapping-quota")
    assert refused.json["overlaps"] == hour
    assert (await stack.staff("PUT", path, json={"capacity": 5})).status == 200, "other changes are free"
    assert (await stack.staff("PUT", f"/v1/staff/quotas/{hour}", json={"closed": True})).status == 200
    assert (await stack.staff("PUT", path, json={"closed": False})).status == 200
