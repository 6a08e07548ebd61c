"""The ledger's clock jumps by an hour: holds end too early or too late, and nothing is sold twice."""

import asyncio
from functools import partial

from loadtest.faults.fault import Fault, Scene
from loadtest.faults.shims import Shim

HOUR_S = 3600
JUMPED_S = 2.0


async def _jump(seconds: int, scene: Scene) -> str:
    await scene.mid_sale()
    scene.shims.shift_clock(seconds)
    await asyncio.sleep(JUMPED_S)
    scene.shims.shift_clock(0)
    await asyncio.sleep(JUMPED_S)
    scene.shims.shift_clock(seconds)  # and it stays
    ended = sum(e.outcome == 410 for e in scene.crowd.history)
    return f"forth, back and forth again; {ended} holds ended before they were confirmed"


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
