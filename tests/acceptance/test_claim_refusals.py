"""Details in refusals of claims: which applicant has a reservation, how to find it, and that a window is over."""

from typing import Any

import msgspec
import pytest

from reservasi.model import Outcome, SetQuota
from tests.acceptance.conftest import Stack
from tests.acceptance.test_reservation import PAST, retired
from tests.acceptance.waiting import HOUR_MS, create_room, now_ms

pytestmark = pytest.mark.asyncio(loop_scope="session")
WAYS = pytest.mark.parametrize("way", [{}, {"Trailer": "x"}], ids=["plain", "doubted"])


@WAYS
@pytest.mark.parametrize("at", [0, 1, 4])
async def test_a_refused_group_hears_which_applicant(stack: Stack, way: dict[str, str], at: int) -> None:
    quota, person = await stack.quota(), stack.applicant()
    assert (await stack.claim({"quota": quota, "applicants": [person]})).status == 201
    group = [stack.applicant() for _ in range(5)]
    group[at] = person
    for language, beginning in (("id", f"Pemohon ke-{at + 1} "), ("en", f"Applicant {at + 1} ")):
        reply = await stack.claim({"quota": quota, "applicants": group}, **{"Accept-Language": language, **way})
        problem = reply.is_problem("duplicate-applicant", 409)
        assert problem["applicant"] == f"/applicants/{at}"
        assert problem["detail"].startswith(beginning)
        assert problem["applicant"] in problem["detail"]
        assert "Idempotency-Key" in problem["next"]
        assert person["nik"] not in reply.text
    assert (await stack.claim({"quota": quota, "applicants": [p for p in group if p is not person]})).status == 201


async def test_the_way_back_that_a_duplicate_names_leads_back(stack: Stack) -> None:
    body = stack.body(await stack.quota())
    held = (await stack.claim(body, "kept")).json
    (await stack.claim(body, "another")).is_problem("duplicate-applicant", 409)
    assert (await stack.claim(body, "kept")).json == held
    assert (await stack.managed("GET", held)).status == 200


def is_over(reply: Any, language: str, window: str) -> None:
    problem = reply.is_problem("closed", 409)
    assert window in problem["detail"]
    assert {"id": "sudah lewat", "en": "over"}[language] in problem["detail"]
    assert problem["title"] == {"id": "Sudah lewat", "en": "Over"}[language]


@WAYS
@pytest.mark.parametrize("language", ["id", "en"])
async def test_yesterday_s_window_is_over(stack: Stack, way: dict[str, str], language: str) -> None:
    headers = {"Accept-Language": language, **way}
    window = f"{PAST['date']} 22:{'10' if way else '20'}"
    start, end = window[-5:], f"22:{'20' if way else '30'}"
    terms: dict[str, Any] = {"date": PAST["date"], "start": start, "end": end, "service": f"over-{language}"}
    closes_at_ms = await now_ms(stack) - 9 * HOUR_MS
    quota = await stack.quota(**terms, closes_at_ms=closes_at_ms)
    is_over(await stack.claim(stack.body(quota), **headers), language, window)
    change = {"closed": True}
    assert (await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json=change)).status == 200
    is_over(await stack.claim(stack.body(quota), **headers), language, window)
    later = await stack.quota(**{**terms, "service": f"later-{language}"}, opens_at_ms=4_000_000_000_000)
    is_over(await stack.claim(stack.body(later), **headers), language, window)


@WAYS
@pytest.mark.parametrize("language", ["id", "en"])
async def test_a_window_that_has_left_the_ledger_is_over(stack: Stack, way: dict[str, str], language: str) -> None:
    template = (await stack.seen(await stack.quota(**PAST), lambda _: True)).terms
    quota = f"{stack.program}.kanim.gone-{language}{len(way)}.{PAST['date'].replace('-', '')}.2300.online"
    terms = msgspec.structs.replace(template, service=f"gone-{language}{len(way)}")
    answer = await stack.front.reservations.set_quota(SetQuota(quota=quota, terms=terms))
    assert answer.outcome is Outcome.QUOTA_SET
    await stack.seen(quota, lambda _: True)
    held = await stack.held(quota)
    assert (await stack.managed("POST", held, "/cancel")).status == 200
    await retired(stack, held)
    reply = await stack.claim(stack.body(quota), **{"Accept-Language": language, **way})
    is_over(reply, language, f"{PAST['date']} 23:00 WIB")


@WAYS
async def test_what_never_was_is_not_found(stack: Stack, way: dict[str, str]) -> None:
    for quota in ("20990301.0800.online", "20270399.0800.online", "20270301.9900.online"):
        body = stack.body(f"{stack.program}.kanim.nowhere.{quota}")
        (await stack.claim(body, **way)).is_problem("unknown-quota", 404)


@WAYS
async def test_booking_that_has_ended_says_when(stack: Stack, way: dict[str, str]) -> None:
    quota = await stack.quota(closes_at_ms=await now_ms(stack) - 60_000)
    reply = await stack.claim(stack.body(quota), **{"Accept-Language": "en", **way})
    assert "Booking for this time closed at 20" in reply.is_problem("closed", 409)["detail"]
    closed = await stack.quota(closed=True)
    reply = await stack.claim(stack.body(closed), **{"Accept-Language": "en", **way})
    assert "does not accept online bookings" in reply.is_problem("closed", 409)["detail"]


@WAYS
async def test_a_window_with_a_waiting_room_is_over_as_well(stack: Stack, way: dict[str, str]) -> None:
    terms: dict[str, Any] = {**PAST, "service": f"room{len(way)}"}
    room = await create_room(stack, **terms)
    reply = await stack.claim(stack.body(room.quota), **{"Accept-Language": "en", **way})
    is_over(reply, "en", PAST["date"])
