"""PostgreSQL is down: holds go on, confirmations answer 202, and what waits is bounded and recorded afterwards."""

import asyncio
import time
from functools import partial

import asyncpg

from loadtest.faults.fault import STRIKE_TIMEOUT_S, Fault, Missed, Scene
from loadtest.stage.service import Part
from reservasi.ledger import keys

DOWN_S = 10.0
LONG_S = 120.0  # in which everybody who waits has given up waiting, and asks again
EVENTS_PER_PLACE_MAX = 3  # a place is held, confirmed and cancelled; whoever gets it then was not there before
DRAIN_S = 20.0
POLL_S = 0.1


async def _stop_database(down_s: float, scene: Scene) -> str:
    await scene.mid_sale()
    with scene.unsupervised():
        recorded = await recorded_seq(scene)
        scene.kill(Part.POSTGRES)
        since_ms = time.time() * 1000
        before = scene.served
        await asyncio.sleep(down_s)
        meanwhile = scene.served - before
        backlog = await _seq(scene) - recorded
    until_ms = time.time() * 1000
    confirms = [
        e.outcome
        for e in scene.crowd.history
        if e.call == "confirm" and e.sent_ms > since_ms and e.answered_ms < until_ms
    ]
    if not meanwhile:
        raise Missed("nobody got a place while PostgreSQL was down")
    if 202 not in confirms or not set(confirms) <= {0, 202, 503}:
        raise Missed(f"confirmations meanwhile were answered {sorted(set(confirms))}")
    if backlog > EVENTS_PER_PLACE_MAX * scene.capacity:
        raise Missed(f"{backlog} changes waited to be recorded")
    drained_s = await drained(scene)
    return (
        f"down for {down_s:g} s: {meanwhile} reservations, {confirms.count(202)} of {len(confirms)} confirmations 202; "
        f"{backlog} changes waited, recorded {drained_s:.1f} s later"
    )


async def drained(scene: Scene) -> float:
    """Seconds until everything that waited when the outage ended is recorded."""
    wanted = await _seq(scene)
    begun_s = time.monotonic()
    while time.monotonic() < begun_s + DRAIN_S:
        try:
            if await recorded_seq(scene) >= wanted:
                return time.monotonic() - begun_s
        except (OSError, asyncpg.PostgresError):  # not up yet
            pass
        await asyncio.sleep(POLL_S)
    raise Missed(f"what waited was not recorded within {DRAIN_S:g} s")


async def _seq(scene: Scene) -> int:
    async with scene.ledger() as client:
        return int(await client.hget(keys.meta(scene.program), "seq") or 0)


async def recorded_seq(scene: Scene) -> int:
    """How far the records are."""
    connection = await asyncpg.connect(scene.service.postgres_dsn)
    try:
        return int(await connection.fetchval("SELECT seq FROM positions WHERE program = $1", scene.program) or 0)
    finally:
        await connection.close()


FAULTS = tuple(
    Fault(
        name=name,
        strike=partial(_stop_database, down_s),
        places=1500,
        people=1600,
        at_once=300,
        timeout_s=down_s + STRIKE_TIMEOUT_S,
    )
    for name, down_s in (("postgres-down", DOWN_S), ("postgres-down-long", LONG_S))
)
