"""The ledger's clock jumps by an hour: holds end too early or too late, and nothing is sold twice."""

import asyncio
import time
from functools import partial

from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.shims import Shim

HOUR_S = 3600
JUMPED_S = 2.0
TOLERANCE_S = 60  # far less than the jump, far more than asking takes


async def _jump(seconds: int, scene: Scene) -> str:
    await scene.mid_sale()
    await _shift(seconds, scene)
    await asyncio.sleep(JUMPED_S)
    await _shift(0, scene)
    await asyncio.sleep(JUMPED_S)
    await _shift(seconds, scene)  # and it stays
    ended = sum(e.outcome == 410 for e in scene.crowd.history)
    return f"forth, back and forth again; {ended} holds ended before they were confirmed"


async def _shift(seconds: int, scene: Scene) -> None:
    """Let the clock be so far from the real one, and see by the ledger that it is."""
    scene.shims.shift_clock(seconds)
    async with scene.ledger() as client:
        told_s, _ = await client.time()
    if abs((shift_s := round(told_s - time.time())) - seconds) > TOLERANCE_S:
        raise Missed(f"the ledger's clock is {shift_s} s from the real one, not {seconds}")


FAULTS = tuple(
    Fault(
        name=f"clock-{name}",
        strike=partial(_jump, seconds),
        shims=(Shim.CLOCK,),
        hold_s=600,
        surprises=True,
        places=600,
        people=750,
    )
    for name, seconds in (("forward", HOUR_S), ("back", -HOUR_S))
)
