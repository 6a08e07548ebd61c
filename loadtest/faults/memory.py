"""The ledger's memory is full: claims are refused with a clear answer, who has a place can confirm and cancel."""

import asyncio
import time

from loadtest.faults.fault import Fault, Missed, Scene

FULL_S = 3.0
REFUSED = frozenset({"/problems/overloaded"})


async def _fill(scene: Scene) -> str:
    await scene.mid_sale()
    async with scene.ledger() as client:
        await client.config_set("maxmemory", 1)
        since_ms = time.time() * 1000
        try:
            await asyncio.sleep(FULL_S)
        finally:
            until_ms = time.time() * 1000
            await client.config_set("maxmemory", 0)
    await asyncio.sleep(0)
    meanwhile = [e for e in scene.crowd.history if e.sent_ms > since_ms and e.answered_ms < until_ms]
    claims = [e for e in meanwhile if e.call == "claim"]
    served = [e for e in claims if e.outcome == 201 and not e.replayed]
    refused = {e.body.get("type") for e in claims if e.outcome == 503}
    others = [e.outcome for e in meanwhile if e.call in ("confirm", "cancel")]
    if served or not refused or not refused <= REFUSED:
        raise Missed(f"{len(served)} claims were accepted, the others refused as {sorted(map(str, refused))}")
    if not others or not set(others) <= {200, 202}:
        raise Missed(f"confirmations and cancellations were answered {sorted(set(others))}")
    return f"full for {FULL_S:g} s: {len(claims)} claims refused as overloaded, {len(others)} confirmed or cancelled"


FAULTS = (Fault(name="memory-full", strike=_fill, places=600, people=700, short=True),)
