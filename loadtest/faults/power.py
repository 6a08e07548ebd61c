"""Loss of power: the ledger's server dies, and of its file only what the last fsync had made safe is left."""

import asyncio
import os
import signal
import time
from collections import Counter
from functools import partial

from loadtest.faults.claims import claim_at_once, quotas_left
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.shims import Shim
from loadtest.stage.service import Part, wait_for

AT_WORK_S = 10.0  # how long we look for a moment at which something is written and not safe yet
FSYNC_TIMEOUT_S = 5.0
BURSTS_MAX = 10
BURST = 60  # people
FIRST = 7_000_000


async def _lose_power(scene: Scene, *, torn: bool) -> str:
    await scene.mid_sale()
    with scene.unsupervised():
        await _stop_at_work(scene)
        scene.kill(Part.VALKEY)
        left, cut = _truncate(scene, torn=torn)
    if not cut:
        raise Missed("nothing stood behind the last fsync, so that nothing was cut")
    return f"{left} bytes were safe, {cut} written behind them {'partly ' if torn else ''}lost"


async def _lose_power_everysec(scene: Scene) -> str:
    """Nobody records meanwhile, so that what is lost is not in the records either, and the service goes on without."""
    async with scene.ledger() as client:
        await client.config_set("appendfsync", "everysec")
    await scene.mid_sale()
    with scene.unsupervised():
        scene.kill(Part.WORKER)
        before = _safe(scene)
        # From then on the file holds everything that is recorded.
        await asyncio.to_thread(wait_for, lambda: (_safe(scene) != before) or None, FSYNC_TIMEOUT_S, "no fsync came")
        quotas = await quotas_left(scene, BURST)
        answers: Counter[int] = Counter()
        for number in range(BURSTS_MAX):
            first = FIRST + number * BURST
            await claim_at_once(scene, quotas, range(first, first + BURST), answers)
            if _size(scene) - _safe(scene) > 0:
                break
        scene.kill(Part.VALKEY)
        left, cut = _truncate(scene, torn=False)
    return (
        f"{answers[201]} people were given a place in the last moment; {left} bytes were safe, {cut} behind them lost"
    )


async def _stop_at_work(scene: Scene) -> None:
    """Stop the server between a write and its fsync; after a while it runs on, and there is nothing to cut."""
    (valkey,) = scene.service.pids(Part.VALKEY)
    deadline = time.monotonic() + AT_WORK_S
    while time.monotonic() < deadline:
        if _size(scene) > _safe(scene):
            os.kill(valkey, signal.SIGSTOP)
            await asyncio.sleep(0.01)  # an fsync under way is not interrupted
            if _size(scene) > _safe(scene):
                return
            os.kill(valkey, signal.SIGCONT)
        await asyncio.sleep(0)


def _size(scene: Scene) -> int:
    return sum(file.stat().st_size for file in scene.append_only_files())


def _safe(scene: Scene) -> int:
    return sum(map(scene.shims.synced_bytes, scene.append_only_files()))


def _truncate(scene: Scene, *, torn: bool) -> tuple[int, int]:
    """Cut the files; how many bytes were safe and how many were not."""
    safe, size = _safe(scene), _size(scene)
    if not 0 < safe <= size:
        raise Missed(f"{safe} bytes are said to be safe, of {size}")
    for file in scene.append_only_files():
        kept, written = scene.shims.synced_bytes(file), file.stat().st_size
        os.truncate(file, kept + (scene.chance.randrange(written - kept) if torn and written > kept else 0))
    return safe, size - safe


FAULTS = (
    Fault(name="power-loss", strike=partial(_lose_power, torn=False), shims=(Shim.POWER_LOSS,), short=True),
    Fault(name="power-loss-torn", strike=partial(_lose_power, torn=True), shims=(Shim.POWER_LOSS,)),
    Fault(
        name="power-loss-everysec",
        strike=_lose_power_everysec,
        shims=(Shim.POWER_LOSS,),
        places=900,
        people=1000,
        control=True,
        short=True,
    ),
)
