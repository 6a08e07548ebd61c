"""What is stored is not what was written: one damaged value, or a key that is gone, while everybody claims.

Only what is about the damaged value is refused; a comparison finds it, a repair mends it from the records, and nobody
beside it hears anything.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import redis.asyncio as redis_asyncio

from loadtest.faults.claims import quotas_left
from loadtest.faults.commands import command
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.outages import drained
from reservasi.cli.output import EXIT_DRIFT
from reservasi.ledger import keys

DAMAGED_S = 2.0  # in which it is sold from
CUT_BYTES = 20

Damage = Callable[[Scene, redis_asyncio.Redis], Awaitable[str]]


async def _stored(client: redis_asyncio.Redis, key: str, field: bytes | str) -> bytes:
    value: Any = await client.hget(key, field)
    if value is None:
        raise Missed(f"{key} has no {field!r}")
    return bytes(value)


async def _flip_a_bit(scene: Scene, client: redis_asyncio.Redis) -> str:
    key = keys.reservations(scene.program)
    field = scene.chance.choice(sorted(await client.hkeys(key)))
    stored = bytearray(await _stored(client, key, field))
    at, bit = scene.chance.randrange(len(stored)), scene.chance.randrange(8)
    stored[at] ^= 1 << bit
    await client.hset(key, field, bytes(stored))
    return f"bit {bit} of byte {at} of a reservation flipped"


async def _cut_a_quota(scene: Scene, client: redis_asyncio.Redis) -> str:
    key = keys.quotas(scene.program)
    quota = scene.chance.choice(await quotas_left(scene))
    await client.hset(key, quota, (await _stored(client, key, quota))[:CUT_BYTES])
    return f"a quota cut to {CUT_BYTES} bytes"


async def _remove_timers(scene: Scene, client: redis_asyncio.Redis) -> str:
    count = await client.zcard(keys.timers(scene.program))
    await client.unlink(keys.timers(scene.program))
    return f"the key of {count} timers removed"


async def _strike(damage: Damage, scene: Scene) -> str:
    await scene.mid_sale()
    async with scene.ledger() as client:
        told = await damage(scene, client)
    before = scene.served
    await asyncio.sleep(DAMAGED_S)
    if scene.served == before:
        raise Missed(f"{told}, and nobody got a place in {DAMAGED_S:g} s")
    meanwhile = scene.served - before
    (found,) = await command(scene, "reconcile", code=EXIT_DRIFT)
    (repaired,) = await command(scene, "reconcile", "--repair")
    if repaired["drift"] or not repaired["repaired"] or repaired["lost"]:
        raise Missed(f"the repair says {repaired}")
    await drained(scene)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found["kinds"].items()))
    return f"{told}; {meanwhile} reservations meanwhile, found as {kinds}, repaired"


FAULTS = tuple(
    Fault(name=name, strike=partial(_strike, damage), places=900, people=1100, at_once=30)
    for name, damage in (
        ("damaged-reservation", _flip_a_bit),
        ("damaged-quota", _cut_a_quota),
        ("removed-timers", _remove_timers),
    )
)
