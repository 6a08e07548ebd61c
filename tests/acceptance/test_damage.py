"""A damaged value in the ledger: only requests that need it are refused, also within one batch."""

import asyncio
import secrets
from typing import Any

import pytest

from reservasi.ledger import keys

pytestmark = pytest.mark.asyncio(loop_scope="session")

CROWD = 190


def is_refused(reply: Any) -> None:
    reply.is_problem("recovering", 503)
    assert reply.headers["Retry-After"] in {"1", "2", "3", "4", "5"}


async def flip_bit(stack: Any, key: str, field: str) -> bytes:
    """Flip one bit in the middle of a stored value, where its shape breaks; the value as it was."""
    stored: bytes = await stack.worker.client.hget(key, field)
    at = stored.index(b"\xa0")  # the empty payment reference becomes a text of one byte
    await stack.worker.client.hset(key, field, stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :])
    return stored


async def test_one_flipped_bit_refuses_one_of_a_crowd(stack: Any) -> None:
    quota = await stack.quota(capacity=3 * CROWD)
    held = await asyncio.gather(*(stack.held(quota) for _ in range(CROWD)))
    key, damaged = keys.reservations(stack.program), held[0]
    stored = await flip_bit(stack, key, damaged["id"])
    try:
        confirmed, reads, claimed = await asyncio.gather(
            asyncio.gather(*(stack.managed("POST", each, "/confirm", json={}) for each in held)),
            asyncio.gather(*(stack.managed("GET", each) for each in held)),
            asyncio.gather(*(stack.claim(stack.body(quota)) for _ in range(CROWD))),
        )
        is_refused(confirmed[0])
        is_refused(reads[0])
        is_refused(await stack.managed("POST", damaged, "/cancel"))
        assert {reply.status for reply in confirmed[1:]} <= {200, 202}
        assert {reply.status for reply in reads[1:]} == {200}
        assert {reply.status for reply in claimed} == {201}
    finally:
        await stack.worker.client.hset(key, damaged["id"], stored)
    assert (await stack.managed("POST", damaged, "/confirm", json={})).status in (200, 202)
    view = await stack.seen(quota, lambda of: of.counts.confirmed == CROWD)
    assert view.counts.held == CROWD


async def test_a_quota_cut_short_refuses_its_own_claims_only(stack: Any) -> None:
    quota, other = await stack.quota(capacity=CROWD), await stack.quota(capacity=3 * CROWD)
    key = keys.quotas(stack.program)
    before, held = await stack.held(quota), await asyncio.gather(*(stack.held(other) for _ in range(CROWD)))
    stored = await stack.worker.client.hget(key, quota)
    await stack.worker.client.hset(key, quota, stored[:20])
    try:
        wanted, claimed, confirmed = await asyncio.gather(
            asyncio.gather(*(stack.claim(stack.body(quota)) for _ in range(CROWD))),
            asyncio.gather(*(stack.claim(stack.body(other)) for _ in range(CROWD))),
            asyncio.gather(*(stack.managed("POST", each, "/confirm", json={}) for each in [before, *held])),
        )
        for reply in (*wanted, confirmed[0]):
            is_refused(reply)
        assert {reply.status for reply in claimed} == {201}
        assert {reply.status for reply in confirmed[1:]} <= {200, 202}
    finally:
        await stack.worker.client.hset(key, quota, stored)
    assert (await stack.managed("POST", before, "/confirm", json={})).status in (200, 202)
    assert (await stack.claim(stack.body(quota), secrets.token_hex(8))).status == 201
