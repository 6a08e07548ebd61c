"""A full disk under either server: nothing can grow for a while, and then there is room again."""

import asyncio
from functools import partial
from pathlib import Path

from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.shims import Shim
from loadtest.stage.service import Part

FULL_S = 4.0
LONG_S = 40.0  # in which whoever gives up has given up


async def _fill(part: Part, full_s: float, scene: Scene) -> str:
    await scene.mid_sale()
    under: Path = scene.places.valkey if part is Part.VALKEY else scene.places.postgres
    server = scene.service.pids(part)
    before, refused = scene.served, scene.shims.writes_refused
    with scene.shims.disk_full(under):
        await asyncio.sleep(full_s)
        meanwhile = scene.served - before
    refused = scene.shims.writes_refused - refused
    if not refused:
        raise Missed(f"nobody found the disk full in {full_s:g} s")
    ended = " and the server ended" if scene.service.pids(part) != server else ""
    return f"full for {full_s:g} s: {refused} writes refused, {meanwhile} reservations meanwhile{ended}"


FAULTS = tuple(
    Fault(
        name=f"disk-full-{name}",
        strike=partial(_fill, part, full_s),
        shims=(Shim.DISK_FULL,),
        places=600,
        people=750,
        at_once=200,
    )
    for name, part, full_s in (
        ("valkey", Part.VALKEY, FULL_S),
        ("valkey-long", Part.VALKEY, LONG_S),
        ("postgres", Part.POSTGRES, FULL_S),
    )
)
