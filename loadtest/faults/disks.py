"""A full disk under either server: nothing can grow for a while, and then there is room again."""

import asyncio
from functools import partial
from pathlib import Path

from loadtest.faults.fault import Fault, Scene
from loadtest.faults.shims import Shim
from loadtest.service import Part

FULL_S = 4.0


async def _fill(part: Part, scene: Scene) -> str:
    await scene.mid_sale()
    under: Path = scene.places.valkey if part is Part.VALKEY else scene.places.postgres
    server = scene.service.pids(part)
    before = scene.served
    with scene.shims.disk_full(under):
        await asyncio.sleep(FULL_S)
        meanwhile = scene.served - before
    ended = " and the server ended" if scene.service.pids(part) != server else ""
    return f"full for {FULL_S:g} s: {meanwhile} reservations meanwhile{ended}"


FAULTS = tuple(
    Fault(
        name=f"disk-full-{part}",
        strike=partial(_fill, part),
        shims=(Shim.DISK_FULL,),
        places=600,
        people=750,
        at_once=200,
    )
    for part in (Part.VALKEY, Part.POSTGRES)
)
