"""A program is removed and imported again: what begins anew is recorded like any other, and the crowd comes to it."""

import asyncio
from functools import partial

from loadtest.faults.commands import plain_command
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.outages import recorded_seq
from loadtest.stage.service import wait_for

QUOTAS = 10
GONE_TIMEOUT_S = 20.0


async def _remove_and_import(scene: Scene) -> str:
    before = await recorded_seq(scene)
    await plain_command(scene, "program", "remove", scene.program, "--close-quotas", "--yes")
    await asyncio.to_thread(wait_for, partial(_is_gone, scene), GONE_TIMEOUT_S, "the fronts offer it still")
    await asyncio.to_thread(scene.service.import_program, scene.program, quotas=QUOTAS, places=scene.capacity // QUOTAS)
    if not before:
        raise Missed("nothing was recorded before it was removed")
    return f"removed when {before} changes were recorded, and imported again"


def _is_gone(scene: Scene) -> bool | None:
    offered = scene.service.get(f"/v1/availability?program={scene.program}")
    return None if offered and offered["quotas"] else True


FAULTS = (Fault(name="program-removed", strike=_remove_and_import, alone=True),)
