"""Staff keys: scopes, programs and expiry, and the actor recorded with changes."""

import datetime as dt
import json
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from reservasi.model import StaffRole, StaffScope
from reservasi.sealing import Sealing, load_key_ring

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOON = dt.timedelta(seconds=1)


async def _key(stack: Any, **limits: Any) -> tuple[str, str]:
    """A new key's name and secret."""
    name, key = f"Ani {secrets.token_hex(3)}", f"key-{secrets.token_hex(16)}"
    await stack.worker.records.add_staff(name, StaffRole.OPERATOR, _hash(stack, key), **limits)
    return name, key


def _hash(stack: Any, key: str) -> str:
    sealing = Sealing(load_key_ring(stack.worker.settings.secrets_path, create=False))
    return sealing.api_key_hash(key)


def _opening(stack: Any) -> dict[str, Any]:
    dates = {"from": "2027-03-01", "to": "2027-03-02"}
    return {"program": stack.program, "opens_at": "2027-02-26T14:00:00+07:00", **dates}


@pytest.mark.parametrize("scopes", [[], *([scope] for scope in StaffScope), ["read", "quotas"]])
async def test_a_key_does_what_its_scopes_say_and_nothing_else(stack: Any, scopes: Sequence[str]) -> None:
    _, key = await _key(stack, scopes=scopes)
    quota = await stack.quota()
    calls = {
        "read": ("GET", f"/v1/staff/quotas?program={stack.program}", None),
        "quotas": ("PUT", f"/v1/staff/quotas/{quota}", {"capacity": 10}),
        "openings": ("PUT", f"/v1/staff/openings/{stack.program}-nowhere/admission", {"paused": True}),
    }
    for scope, (method, path, body) in calls.items():
        before = await stack.ledger_state()
        reply = await stack.staff(method, path, key=key, json=body)
        if scope in scopes:
            assert reply.status in (200, 404), "as far as an opening that is not there"
        else:
            problem = reply.is_problem("role-not-allowed", 403)
            assert problem["scope"] == scope
            assert f"`{scope}`" in problem["detail"]
            assert await stack.ledger_state() == before


async def test_a_key_of_another_program_sees_and_changes_nothing_here(stack: Any) -> None:
    quota = await stack.quota()
    _, key = await _key(stack, programs=["elsewhere"])
    before = await stack.ledger_state()
    refused = [
        await stack.staff("PUT", f"/v1/staff/quotas/{quota}", key=key, json={"capacity": 5}),
        await stack.staff("PUT", "/v1/staff/quotas/nowhere.a.b.20270301.0800.c", key=key, json={"capacity": 5}),
        await stack.staff("GET", f"/v1/staff/quotas?program={stack.program}", key=key),
        await stack.staff("POST", "/v1/staff/openings", key=key, json=_opening(stack)),
    ]
    for reply in refused:
        assert reply.is_problem("program-not-allowed", 403)["programs"] == ["elsewhere"]
    assert (await stack.staff("GET", "/v1/staff/quotas", key=key)).json == {"quotas": []}
    assert await stack.ledger_state() == before


async def test_a_key_of_this_program_sees_this_program(stack: Any) -> None:
    quota = await stack.quota()
    _, key = await _key(stack, programs=[stack.program, "elsewhere"])
    listed = (await stack.staff("GET", "/v1/staff/quotas", key=key)).json["quotas"]
    assert quota in {each["id"] for each in listed}
    changed = await stack.staff("PUT", f"/v1/staff/quotas/{quota}", key=key, json={"capacity": 5})
    assert changed.status == 200


async def test_a_revoked_key_is_refused_within_seconds(stack: Any) -> None:
    name, key = await _key(stack)
    assert (await stack.staff("GET", "/v1/staff/quotas", key=key)).status == 200
    assert await stack.worker.records.revoke_staff(name) is not None

    async def refused() -> bool:
        return bool((await stack.staff("GET", "/v1/staff/quotas", key=key)).status == 401)

    await stack.eventually(refused)
    reply = await stack.staff("GET", "/v1/staff/quotas", key=key)
    problem = reply.is_problem("api-key-revoked", 401)
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert problem["revoked_at"] in problem["detail"]
    assert "administrator" in problem["next"]


async def test_an_expired_key_is_refused_at_its_time(stack: Any) -> None:
    ends = dt.datetime.now(dt.UTC) + SOON
    _, key = await _key(stack, expires_at=ends)
    assert (await stack.staff("GET", "/v1/staff/quotas", key=key)).status == 200

    async def refused() -> bool:
        return bool((await stack.staff("GET", "/v1/staff/quotas", key=key)).status == 401)

    await stack.eventually(refused)
    assert dt.datetime.now(dt.UTC) - ends < dt.timedelta(seconds=2), "the row was in memory: it is not asked for again"
    problem = (await stack.staff("GET", "/v1/staff/quotas", key=key)).is_problem("api-key-expired", 401)
    assert problem["expires_at"] in problem["detail"]
    assert "rotate" in problem["next"]


async def test_both_secrets_of_a_rotated_key_work_until_the_overlap_ends(stack: Any) -> None:
    name, former = await _key(stack)
    new = f"key-{secrets.token_hex(16)}"
    assert (await stack.staff("GET", "/v1/staff/quotas", key=former)).status == 200
    assert await stack.worker.records.rotate_staff(name, _hash(stack, new), dt.timedelta(seconds=7)) is not None
    assert (await stack.staff("GET", "/v1/staff/quotas", key=new)).status == 200
    assert (await stack.staff("GET", "/v1/staff/quotas", key=former)).status == 200

    async def ended() -> bool:
        return bool((await stack.staff("GET", "/v1/staff/quotas", key=former)).status == 401)

    await stack.eventually(ended)
    (await stack.staff("GET", "/v1/staff/quotas", key=former)).is_problem("api-key-expired", 401)
    assert (await stack.staff("GET", "/v1/staff/quotas", key=new)).status == 200


async def test_when_a_key_was_used_last_is_noted_by_a_front_that_may_change_nothing_else(stack: Any) -> None:
    name, key = await _key(stack)
    _, unused = await _key(stack)
    before = dt.datetime.now(dt.UTC)
    for _ in range(3):
        assert (await stack.staff("GET", "/v1/staff/quotas", key=key)).status == 200

    async def noted() -> bool:
        rows = {row.name: row.last_used_at for row in await stack.worker.records.staff_keys()}
        return rows[name] is not None and rows[name] >= before

    await stack.eventually(noted)
    assert unused
    rows = [row for row in await stack.worker.records.staff_keys() if row.last_used_at is None]
    assert rows, "nobody used the other one"


async def _audit(stack: Any, quota: str) -> list[tuple[str, str]]:
    async with stack.worker.records._pool.acquire() as connection:
        rows = await connection.fetch("SELECT actor, reason FROM audit WHERE quota = $1 ORDER BY seq", quota)
    return [(row["actor"], row["reason"]) for row in rows]


async def test_a_change_names_the_key_and_the_reason_in_log_and_records(
    stack: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name, key = await _key(stack)
    quota = await stack.quota()
    path = f"/v1/staff/quotas/{quota}"
    reply = await stack.staff("PUT", path, key=key, json={"capacity": 12, "reason": " two\u200b \u00a0more\tdesks\n"})
    assert reply.status == 200
    assert "reason" not in reply.json
    again = await stack.staff("PUT", path, json={"capacity": 12, "reason": "again"})
    assert (again.status, again.json["version"]) == (200, reply.json["version"]), "who asks changes nothing"
    no_reason = {"closed": True, "reason": None}
    assert (await stack.staff("PUT", path, key=key, json=no_reason)).status == 200
    expected = [(f"staff:{name}", "two more desks"), (f"staff:{name}", "")]

    async def recorded() -> bool:
        return await _audit(stack, quota) == expected

    await stack.eventually(recorded)
    captured = capsys.readouterr()
    lines = [line for line in (captured.out + captured.err).splitlines() if "quota_changed" in line and quota in line]
    assert len(lines) == 3
    assert all(word in lines[0] for word in (f"staff:{name}", "two more desks", "quota_set"))


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("x" * 201, "reason-length"),
        ("nul \x00", "reason-characters"),
        ("asked by 3578012304900001", "reason-nik"),
        ("asked by 3578 0123 0490 0001", "reason-nik"),
        (5, "reason-type"),
        (["x"], "reason-type"),
    ],
)
async def test_a_reason_that_cannot_be_recorded(stack: Any, reason: Any, code: str) -> None:
    quota = await stack.quota()
    before = await stack.ledger_state()
    reply = await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json={"capacity": 12, "reason": reason})
    (finding,) = reply.is_problem("invalid-request", 422)["errors"]
    assert (finding["pointer"], finding["code"]) == ("/reason", code)
    assert not isinstance(reason, str) or reason not in reply.text
    assert await stack.ledger_state() == before


async def test_a_reason_alone_changes_nothing(stack: Any) -> None:
    quota = await stack.quota()
    reply = await stack.staff("PUT", f"/v1/staff/quotas/{quota}", json={"reason": "just so"})
    assert reply.is_problem("invalid-request", 422)["errors"][0]["code"] == "change-empty"


async def test_the_longest_reason_and_a_lone_surrogate(stack: Any) -> None:
    quota = await stack.quota()
    path = f"/v1/staff/quotas/{quota}"
    assert (await stack.staff("PUT", path, json={"capacity": 11, "reason": "✅" * 200})).status == 200
    raw = json.dumps({"capacity": 13, "reason": "\ud800"}).encode()
    headers = {"Content-Type": "application/json"}
    reply = await stack.staff("PUT", path, data=raw, headers=headers)
    assert reply.status == 422
    assert msgspec.json.decode(reply.body)["type"] == "/problems/invalid-request"
