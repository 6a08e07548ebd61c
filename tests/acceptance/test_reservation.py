"""The life of a reservation for the holder of its manage token."""

import asyncio
import datetime as dt
import time
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import pytest

from reservasi.ledger import keys
from reservasi.ledger.topology.clients import open_client
from reservasi.model import Outcome, Retire

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Over, and not so long ago that the worker retires it.
YESTERDAY = dt.datetime.now(ZoneInfo("Asia/Jakarta")) - dt.timedelta(days=1)
ENDED_AT = YESTERDAY.replace(hour=23, minute=30, second=0, microsecond=0)
PAST = {"date": YESTERDAY.date().isoformat(), "start": "23:00", "end": "23:30"}
CALLS = [("GET", ""), ("POST", "/confirm"), ("POST", "/cancel"), ("GET", "/qr.svg"), ("GET", "/ticket.ics")]


async def expired(stack: Any) -> dict[str, Any]:
    """A reservation whose hold has ended."""
    quota = await stack.quota(hold_ms=50)
    held: dict[str, Any] = await stack.held(quota)

    async def ended() -> bool:  # the view may still be from before the hold, so the ledger is asked
        return bool((await stack.managed("GET", held, "")).json["status"] == "expired")

    await stack.eventually(ended)
    await stack.seen(quota, lambda q: q.counts.held == 0 and q.counts.returning == 0)
    return held


async def confirmed(stack: Any, **terms: Any) -> dict[str, Any]:
    """A reservation that is confirmed and recorded."""
    held: dict[str, Any] = await stack.held(await stack.quota(**terms), 2)
    reply = await stack.managed("POST", held, "/confirm", json={"payment_reference": "820261127001"})
    assert reply.status == 200, reply.text
    return {**held, "booking_code": reply.json["booking_code"]}


@pytest.mark.parametrize(("method", "suffix"), CALLS)
async def test_without_the_right_secret_there_is_nothing(stack: Any, anyone: str, method: str, suffix: str) -> None:
    held, other = await stack.held(await stack.quota()), await stack.held(await stack.quota())
    before = await stack.ledger_state()
    wrong = ["", "Bearer", "Bearer ", f"Basic {held['manage_token']}", f"Bearer {other['manage_token']}", "Bearer é"]
    for authorization in (*wrong, f"Bearer {held['manage_token']}x", "Bearer " + "x" * 4000):
        headers = {"Authorization": authorization}
        reply = await stack.request(method, f"/v1/reservations/{held['id']}{suffix}", headers=headers)
        reply.is_problem("not-found", 404)
        assert reply.headers["Cache-Control"] == "no-store"
    headers = {"Authorization": f"Bearer {held['manage_token']}"}
    for reservation_id in (anyone, "x", "%00", held["id"].upper()):
        reply = await stack.request(method, f"/v1/reservations/{reservation_id}{suffix}", headers=headers)
        reply.is_problem("not-found", 404)
    assert await stack.ledger_state() == before


async def test_a_confirmed_reservation_is_in_the_records(stack: Any) -> None:
    held = await confirmed(stack)
    row = await stack.worker.records.booking(held["id"])
    assert row is not None
    assert (row.quota, row.places, row.state) == (held["quota"], 2, "confirmed")
    again = await stack.managed("POST", held, "/confirm")
    assert (again.status, again.json) == (
        200,
        {"id": held["id"], "status": "confirmed", "booking_code": held["booking_code"]},
    )
    shown = (await stack.managed("GET", held)).json
    assert (shown["status"], shown["booking_code"]) == ("confirmed", held["booking_code"])
    assert "hold_expires_at" not in shown


async def test_a_confirm_with_another_payment_is_not_passed_over(stack: Any) -> None:
    held = await confirmed(stack)
    before = await stack.ledger_state()
    for language, word in (("id", "pembayaran"), ("en", "payment")):
        other = {"json": {"payment_reference": "820261127002"}, "headers": {"Accept-Language": language}}
        problem = (await stack.managed("POST", held, "/confirm", **other)).is_problem("payment-reference-differs", 409)
        assert word in problem["detail"]
        assert word in problem["next"]
        assert "820261127" not in str(problem)
    for same in ({}, {"json": {"payment_reference": "820261127001"}}):
        again = await stack.managed("POST", held, "/confirm", **same)
        assert (again.status, again.json["booking_code"]) == (200, held["booking_code"])
    assert await stack.ledger_state() == before


async def test_a_reference_that_comes_too_late_to_be_recorded_is_not_passed_over(stack: Any) -> None:
    held = await stack.held(await stack.quota())
    for _ in range(2):
        assert (await stack.managed("POST", held, "/confirm", json={})).status == 200
    before = await stack.ledger_state()
    late = await stack.managed("POST", held, "/confirm", json={"payment_reference": "820261127001"})
    late.is_problem("payment-reference-differs", 409)
    assert await stack.ledger_state() == before
    again = await stack.managed("POST", held, "/confirm", json={})
    assert (again.status, again.json["status"]) == (200, "confirmed")


async def test_a_reference_is_the_same_however_it_was_pasted(stack: Any) -> None:
    held = await stack.held(await stack.quota())
    for written in ("820261127001", " 8202 6112\u00a07001 ", "820261127001\u200b"):
        reply = await stack.managed("POST", held, "/confirm", json={"payment_reference": written})
        assert (reply.status, reply.json["status"]) == (200, "confirmed")


async def test_an_empty_reference_is_none(stack: Any) -> None:
    held = await stack.held(await stack.quota())
    for body in ({"payment_reference": ""}, {"payment_reference": None}, {"payment_reference": "\u00a0"}, {}):
        reply = await stack.managed("POST", held, "/confirm", json=body)
        assert (reply.status, reply.json["status"]) == (200, "confirmed")


@pytest.mark.parametrize(
    "body", [b'{"payment_reference": "a b"}', b'{"payment_reference": 1}', b'{"amount": 1}', b"[]", b"x"]
)
async def test_a_confirm_with_a_bad_body(stack: Any, body: bytes) -> None:
    held = await stack.held(await stack.quota())
    before = await stack.ledger_state()
    headers = {"Content-Type": "application/json"}
    reply = await stack.managed("POST", held, "/confirm", data=body, headers=headers)
    reply.is_problem("invalid-request", 422)
    assert await stack.ledger_state() == before


async def test_a_confirm_that_is_not_text(stack: Any) -> None:
    held = await stack.held(await stack.quota())
    reply = await stack.managed("POST", held, "/confirm", data=b"{}", headers={"Content-Type": "text/plain"})
    reply.is_problem("unsupported-media-type", 415)


async def test_a_hold_that_is_given_up(stack: Any) -> None:
    held = await stack.held(await stack.quota())
    for _ in range(2):
        reply = await stack.managed("POST", held, "/cancel")
        assert (reply.status, reply.json) == (200, {"id": held["id"], "status": "released"})
    problem = (await stack.managed("POST", held, "/confirm")).is_problem("not-confirmable", 409)
    assert problem["state"] == "released"
    await stack.seen(held["quota"], lambda q: q.remaining == 10)


async def test_a_confirmed_reservation_that_is_cancelled(stack: Any) -> None:
    held = await confirmed(stack)
    for _ in range(2):
        reply = await stack.managed("POST", held, "/cancel")
        assert (reply.status, reply.json) == (200, {"id": held["id"], "status": "cancelled"})
    assert (await stack.managed("GET", held)).json["status"] == "cancelled"
    (await stack.managed("POST", held, "/confirm")).is_problem("not-confirmable", 409)


async def test_a_hold_that_has_expired(stack: Any) -> None:
    held = await expired(stack)
    (await stack.managed("POST", held, "/confirm")).is_problem("hold-expired", 410)
    assert (await stack.managed("POST", held, "/cancel")).is_problem("already-ended", 409)["state"] == "expired"
    assert (await stack.managed("GET", held)).json["status"] == "expired"


async def test_a_hold_ends_when_its_quota_closes_for_booking(stack: Any) -> None:
    closes_at_ms = int(time.time() * 1000) + 1500
    held = await stack.held(await stack.quota(closes_at_ms=closes_at_ms))
    moment_text = dt.datetime.fromtimestamp(closes_at_ms / 1000, dt.UTC).isoformat(timespec="milliseconds")
    assert held["hold_expires_at"] == moment_text.replace("+00:00", "Z")

    async def ended() -> bool:
        return bool((await stack.managed("GET", held)).json["status"] == "expired")

    await stack.eventually(ended)
    (await stack.managed("POST", held, "/confirm")).is_problem("hold-expired", 410)


async def test_a_closing_that_staff_move_earlier_shows_in_the_hold(stack: Any) -> None:
    quota = await stack.quota()
    held = await stack.held(quota)
    closes_at = "2029-01-01T00:00:00.000Z"
    assert held["hold_expires_at"] < closes_at
    soon = dt.datetime.fromisoformat(held["hold_expires_at"]) - dt.timedelta(minutes=30)
    soon_text = soon.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    change = {"closes_at": soon_text}
    assert (await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json=change)).status == 200
    assert (await stack.managed("GET", held)).json["hold_expires_at"] == soon_text
    change = {"closes_at": "2020-01-01T00:00:00Z"}
    assert (await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json=change)).status == 200
    (await stack.managed("POST", held, "/confirm")).is_problem("hold-expired", 410)


async def test_a_cancellation_that_comes_too_late(stack: Any) -> None:
    held = await confirmed(stack, cancel_until_ms=int(time.time() * 1000) - 60_000)
    reply = await stack.managed("POST", held, "/cancel", headers={"Accept-Language": "en"})
    assert "WIB" in reply.is_problem("cancellation-too-late", 409)["detail"]


async def test_documents_of_a_confirmed_reservation(stack: Any) -> None:
    held = await confirmed(stack)
    image = await stack.managed("GET", held, "/qr.svg")
    assert (image.status, image.headers["Content-Type"]) == (200, "image/svg+xml")
    assert image.text.lstrip().startswith("<?xml")
    assert held["booking_code"] in image.text
    ticket = await stack.managed("GET", held, "/ticket.ics")
    assert (ticket.status, ticket.headers["Content-Type"]) == (200, "text/calendar; charset=utf-8")
    event: Any = icalendar.Calendar.from_ical(ticket.body).walk("VEVENT")[0]
    quota = stack.front.availability.quota(held["quota"])
    assert event["uid"] == f"{held['id']}@reservasi"
    assert held["booking_code"] in event["description"]
    hour, minute = map(int, quota.terms.start.split(":"))
    assert (event["dtstart"].dt.hour, event["dtstart"].dt.minute) == ((hour - 7) % 24, minute)  # WIB is UTC+7
    for reply in (image, ticket):
        assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("suffix", ["/qr.svg", "/ticket.ics"])
async def test_documents_of_a_hold(stack: Any, suffix: str) -> None:
    held = await stack.held(await stack.quota())
    assert (await stack.managed("GET", held, suffix)).is_problem("not-confirmed", 409)["state"] == "held"


async def test_concurrent_confirms_have_one_effect(stack: Any) -> None:
    held = await stack.held(await stack.quota())
    replies = await asyncio.gather(*(stack.managed("POST", held, "/confirm") for _ in range(10)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert (await stack.seen(held["quota"], lambda q: q.counts.confirmed > 0)).counts.confirmed == 1


async def retired(stack: Any, held: dict[str, Any]) -> None:
    """The date of a reservation passes: its quota leaves ledger and views."""
    quota = held["quota"]
    answer = await stack.front.reservations._groups[stack.program].submit(
        Retire(quota=quota, ends_at_ms=int(ENDED_AT.timestamp() * 1000), reservations=(held["id"],))
    )
    assert answer.outcome is Outcome.RETIRED

    async def gone() -> bool:
        row = await stack.worker.records.quota_row(stack.program, quota)
        return stack.front.availability.quota(quota) is None and row is not None and row.retired_at_ms > 0

    await stack.eventually(gone)


async def cancelled_by_staff(stack: Any, held: dict[str, Any]) -> Any:
    return await stack.staff("POST", f"/v1/staff/reservations/{held['id']}/cancel", json={"reason": "sakit"})


@pytest.mark.parametrize("is_forgotten", [False, True])
async def test_a_reservation_whose_date_has_passed_is_answered_from_the_records(stack: Any, is_forgotten: bool) -> None:
    held = await confirmed(stack, **PAST)
    before = (await stack.managed("GET", held)).json
    await retired(stack, held)
    if is_forgotten:
        client = open_client(stack.worker.settings.redis_url)
        await client.hdel(keys.reservations(stack.program), held["id"])
        await client.aclose()
    assert (await stack.managed("GET", held)).json == before
    assert before["status"] == "confirmed"
    again = await stack.managed("POST", held, "/confirm", json={"payment_reference": "820261127001"})
    assert (again.status, again.json["booking_code"]) == (200, held["booking_code"])
    other = await stack.managed("POST", held, "/confirm", json={"payment_reference": "820261127002"})
    other.is_problem("payment-reference-differs", 409)
    for reply in (await stack.managed("POST", held, "/cancel"), await cancelled_by_staff(stack, held)):
        problem = reply.is_problem("cancellation-too-late", 409)
        assert f"{PAST['date']} 23:00" in problem["detail"]
        assert "petugas" in problem["detail"], "the date binds staff too"
        assert "ketentuan program" not in problem["detail"], "the program's last moment does not bind staff"
    assert (await stack.managed("GET", held, "/qr.svg")).status == 200
    event: Any = icalendar.Calendar.from_ical((await stack.managed("GET", held, "/ticket.ics")).text).walk("VEVENT")[0]
    assert event["dtend"].dt == ENDED_AT


async def test_an_ended_hold_of_a_quota_that_has_gone_says_so(stack: Any) -> None:
    quota = await stack.quota(**PAST)
    held = await stack.held(quota)
    assert (await stack.managed("POST", held, "/cancel")).status == 200
    await retired(stack, held)
    shown = (await stack.managed("GET", held)).json
    assert (shown["status"], shown["date"]) == ("released", PAST["date"])
