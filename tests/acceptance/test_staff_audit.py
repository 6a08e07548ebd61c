"""The audit log for staff, and reservations that staff end."""

import secrets
from typing import Any

import pytest

from reservasi.model import StaffRole
from reservasi.sealing import Sealing, load_key_ring

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _key(stack: Any, **limits: Any) -> tuple[str, str]:
    name, key = f"Budi {secrets.token_hex(3)}", f"key-{secrets.token_hex(16)}"
    sealing = Sealing(load_key_ring(stack.worker.settings.secrets_path, create=False))
    await stack.worker.records.add_staff(name, StaffRole.OPERATOR, sealing.api_key_hash(key), **limits)
    return name, key


async def _audit(stack: Any, count: int, **filters: str) -> list[dict[str, Any]]:
    """The changes, once there are so many."""
    query = "&".join(f"{name}={value}" for name, value in {"program": stack.program, **filters}.items())
    changes: list[dict[str, Any]] = []

    async def recorded() -> bool:
        nonlocal changes
        changes = (await stack.staff("GET", f"/v1/staff/audit?{query}")).json["changes"]
        return len(changes) >= count

    await stack.eventually(recorded)
    return changes


async def test_the_trail_says_who_changed_a_quota_when_and_why(stack: Any) -> None:
    name, key = await _key(stack)
    quota = await stack.quota()
    path = f"/v1/staff/quotas/{quota}"
    assert (await stack.staff("PUT", path, key=key, json={"capacity": 12, "reason": "two more desks"})).status == 200
    change = {"opens_at": "2027-02-26T14:00:00+07:00", "closed": True}
    assert (await stack.staff("PUT", path, json=change)).status == 200
    later, first = await _audit(stack, 2, quota=quota)
    assert (first["actor"], first["reason"], first["quota"]) == (f"staff:{name}", "two more desks", quota)
    assert (first["after"]["capacity"], first["after"]["version"], first["after"]["closed"]) == (12, 2, False)
    assert (first["opening"], first["reservation"], later["reason"]) == (None, None, "")
    assert later["actor"] == "staff:a operator"
    assert later["after"]["opens_at"] == "2027-02-26T07:00:00Z"
    assert later["after"]["closes_at"] is None
    assert later["at"] >= first["at"]


async def test_the_trail_is_read_page_by_page(stack: Any) -> None:
    quota = await stack.quota()
    for capacity in range(11, 16):
        await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json={"capacity": capacity})
    await _audit(stack, 5, quota=quota)
    path = f"/v1/staff/audit?program={stack.program}&quota={quota}&limit=2"
    capacities, before = [], ""
    while True:
        page = (await stack.staff("GET", path + before)).json
        capacities += [change["after"]["capacity"] for change in page["changes"]]
        if page["next"] is None:
            break
        assert len(page["changes"]) == 2
        before = f"&before={page['next']}"
    assert capacities == [15, 14, 13, 12, 11]
    for dates in ("from=2000-01-01&to=2000-01-02", "from=2090-01-01"):
        assert (await stack.staff("GET", f"{path}&{dates}")).json == {"changes": [], "next": None}
    assert len((await stack.staff("GET", f"{path}&from=2000-01-01&to=9999-12-31")).json["changes"]) == 2


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?program={program}&limit=0",
        "?program={program}&limit=501",
        "?program={program}&before=x",
        "?program={program}&from=2026-13-01",
        "?program={program}&from=2026-12-02&to=2026-12-01",
        "?program={program}&who=ani",
        "?program={program}&program=other",
    ],
)
async def test_a_question_that_cannot_be_answered(stack: Any, query: str) -> None:
    reply = await stack.staff("GET", f"/v1/staff/audit{query.format(program=stack.program)}")
    assert reply.is_problem("invalid-request", 422)["errors"]


async def test_who_may_read_the_trail(stack: Any) -> None:
    path = f"/v1/staff/audit?program={stack.program}"
    assert (await stack.staff("GET", path, key=stack.viewer_key)).status == 200
    _, elsewhere = await _key(stack, programs=["elsewhere"])
    (await stack.staff("GET", path, key=elsewhere)).is_problem("program-not-allowed", 403)
    _, blind = await _key(stack, scopes=["quotas"])
    (await stack.staff("GET", path, key=blind)).is_problem("role-not-allowed", 403)
    (await stack.request("GET", path)).is_problem("api-key-required", 401)
    (await stack.staff("GET", "/v1/staff/audit?program=nowhere")).is_problem("not-found", 404)


async def test_staff_end_a_reservation_after_its_last_moment_and_say_why(stack: Any) -> None:
    quota = await stack.quota(cancel_until_ms=1)
    held = await stack.held(quota)
    assert (await stack.managed("POST", held, "/confirm")).status in (200, 202)
    (await stack.managed("POST", held, "/cancel")).is_problem("cancellation-too-late", 409)
    path = f"/v1/staff/reservations/{held['id']}/cancel"
    for limits in ({"programs": ["elsewhere"]}, {"scopes": ["read", "quotas", "openings"]}):
        _, key = await _key(stack, **limits)
        assert (await stack.staff("POST", path, key=key)).status == 403
    name, key = await _key(stack, scopes=["reservations"])
    before = await stack.ledger_state()
    bad = await stack.staff("POST", path, key=key, json={"reason": "of 3578012304900001"})
    assert bad.is_problem("invalid-request", 422)["errors"][0]["code"] == "reason-nik"
    assert await stack.ledger_state() == before
    for _ in range(2):
        reply = await stack.staff("POST", path, key=key, json={"reason": "asked by telephone"})
        assert reply.status in (200, 202)
        assert reply.json["status"] in ("cancelled", "cancelling")
    (change,) = await _audit(stack, 1, quota=quota)
    assert (change["actor"], change["reason"]) == (f"staff:{name}", "asked by telephone")
    assert (change["reservation"], change["after"]) == (held["id"], {"status": "cancelled", "places": 1})


async def test_staff_release_a_hold_without_a_body_and_find_nobody_else(stack: Any, anyone: str) -> None:
    held = await stack.held(await stack.quota())
    reply = await stack.staff("POST", f"/v1/staff/reservations/{held['id']}/cancel")
    assert reply.json["status"] in ("released", "releasing")
    for nobody in (anyone, "x", held["id"][:-1] + "a"):
        unknown = await stack.staff("POST", f"/v1/staff/reservations/{nobody}/cancel")
        unknown.is_problem("not-found", 404)
