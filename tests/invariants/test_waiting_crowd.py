"""Fifteen times more people than places wait for an opening: all hear something definite, and the draw's order is kept."""

import asyncio
from collections import Counter

from loadtest.service import running_service
from loadtest.waiting.crowd import PLACED, SOLD_OUT, Crowd
from loadtest.waiting.judging import judge, look
from loadtest.waiting.plan import Plan
from loadtest.waiting.scene import announced, quotas_of
from reservasi.programs import WaitingRoom

QUOTAS, PLACES = 10, 10
PLAN = Plan(people=1500, late_s=2.0)
ROOM = WaitingRoom(rate_per_min=3000, rate_max_per_min=30_000)


async def test_all_who_wait_are_served_in_the_order_of_the_draw() -> None:
    with running_service(quotas=QUOTAS, places=PLACES, processes=2) as service:
        async with asyncio.timeout(100), announced(service, ROOM, opens_in_s=4.0) as scene:
            crowd = Crowd(
                int(service.url.rpartition(":")[2]), scene.opening, scene.opens_at_ms, quotas_of(service), PLAN
            )
            await crowd.run()
            seen = await look(service, scene, crowd)
    assert {verdict.name: verdict.value for verdict in judge(crowd, seen, QUOTAS * PLACES) if not verdict.met} == {}
    outcomes = Counter(visitor.outcome for visitor in crowd.visitors)
    assert outcomes == {PLACED: QUOTAS * PLACES, SOLD_OUT: PLAN.people - QUOTAS * PLACES}
    assert seen.holds == QUOTAS * PLACES
    assert seen.tickets > QUOTAS * PLACES
    assert {who for who, _ in crowd.refusals} >= {"early", "hasty", "thief", "forger", "careless"}
