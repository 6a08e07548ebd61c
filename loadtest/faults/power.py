"""Loss of power: the ledger's server dies, and of its file only what the last fsync had made safe is left."""

import asyncio
import os
from functools import partial

from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.shims import Shim
from loadtest.service import Part

UNSYNCED_BYTES = 40_000  # what must wait for its fsync when the power goes
LOOKS_MAX = 1000
LOOK_S = 0.01


async def _lose_power(scene: Scene, *, torn: bool) -> str:
    await scene.mid_sale()
    with scene.unsupervised():
        scene.kill(Part.VALKEY)
        left, cut = _truncate(scene, torn=torn)
    return f"{left} bytes were safe, {cut} behind them lost{', the last change torn' if torn else ''}"


async def _lose_power_everysec(scene: Scene) -> str:
    """The recorder is held back, so that what is lost is not in the records either and the service goes on without."""
    async with scene.ledger() as client:
        await client.config_set("appendfsync", "everysec")
    await scene.mid_sale()
    with scene.unsupervised():
        scene.kill(Part.WORKER)
        await _unsynced(scene)
        scene.kill(Part.VALKEY)
        left, cut = _truncate(scene, torn=False)
    return f"{left} bytes were safe, {cut} behind them lost"


async def _unsynced(scene: Scene) -> None:
    """Wait for an fsync, and then until there is enough that the next one has not made safe yet."""
    files = scene.append_only_files()
    before = [scene.shims.synced_bytes(file) for file in files]
    for _ in range(LOOKS_MAX):
        safe = [scene.shims.synced_bytes(file) for file in files]
        if safe != before and sum(file.stat().st_size for file in files) - sum(safe) > UNSYNCED_BYTES:
            return
        await asyncio.sleep(LOOK_S)
    raise Missed("nothing was unsynced before the crowd had left")


def _truncate(scene: Scene, *, torn: bool) -> tuple[int, int]:
    """Cut the files; how many bytes are left and how many are not."""
    left = cut = 0
    for file in scene.append_only_files():
        size, safe = file.stat().st_size, scene.shims.synced_bytes(file)
        if safe > size:
            raise Missed(f"{file.name} has {size} bytes, though {safe} were synced")
        keep = safe + (scene.chance.randrange(size - safe) if torn and size > safe else 0)
        os.truncate(file, keep)
        left, cut = left + keep, cut + size - keep
    if not left:
        raise Missed("nothing was ever synced")
    return left, cut


FAULTS = (
    Fault(name="power-loss", strike=partial(_lose_power, torn=False), shims=(Shim.POWER_LOSS,), short=True),
    Fault(name="power-loss-torn", strike=partial(_lose_power, torn=True), shims=(Shim.POWER_LOSS,)),
    Fault(
        name="power-loss-everysec",
        strike=_lose_power_everysec,
        shims=(Shim.POWER_LOSS,),
        places=1500,
        people=1600,
        at_once=200,
        control=True,
        short=True,
    ),
)
