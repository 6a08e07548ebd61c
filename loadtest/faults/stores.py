"""The stores' world fails: power is lost, disks and memory are full, the ledger's clock jumps."""

import asyncio
import os
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

from loadtest.faults.callers import claim_at_once
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.stage.service import Part
from loadtest.stage.shims import Shim

AT_WORK_S = 10.0  # how long we look for a moment at which something is written and not safe yet
FSYNC_TIMEOUT_S = 5.0
BURSTS_MAX = 10
BURST = 60  # people
FIRST_IN_BURSTS = 7_000_000  # number of the first of them
DISK_FULL_S = 4.0
DISK_FULL_LONG_S = 40.0  # long enough for every timeout to pass
MEMORY_FULL_S = 3.0
HOUR_S = 3600
JUMPED_S = 2.0
TOLERANCE_S = 60  # far less than the jump, far more than asking takes


async def _lose_power(scene: Scene, *, torn: bool) -> str:
    """The ledger's server dies, and of its file only what the last fsync had made safe is left."""
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
        await scene.until(lambda: _safe(scene) != before, FSYNC_TIMEOUT_S, "no fsync came")
        quotas = await scene.quotas_left(BURST)
        answers: Counter[int] = Counter()
        for number in range(BURSTS_MAX):
            first = FIRST_IN_BURSTS + number * BURST
            await claim_at_once(scene, quotas, range(first, first + BURST), answers)
            if _size(scene) > _safe(scene):
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
        raise Missed(f"the shim counts {safe} safe bytes, of {size}")
    for file in scene.append_only_files():
        kept, written = scene.shims.synced_bytes(file), file.stat().st_size
        os.truncate(file, kept + (scene.chance.randrange(written - kept) if torn and written > kept else 0))
    return safe, size - safe


async def _fill_disk(part: Part, full_s: float, scene: Scene) -> str:
    """Nothing can grow for a while, and then there is room again."""
    await scene.mid_sale()
    under: Path = scene.places.valkey if part is Part.VALKEY else scene.places.postgres
    server, refused = scene.service.pids(part), scene.shims.writes_refused
    with scene.shims.disk_full(under):
        meanwhile = await scene.served_in(full_s)
    refused = scene.shims.writes_refused - refused
    if not refused:
        raise Missed(f"nobody found the disk full in {full_s:g} s")
    ended = " and the server ended" if scene.service.pids(part) != server else ""
    return f"full for {full_s:g} s: {refused} writes refused, {meanwhile} reservations meanwhile{ended}"


async def _fill_memory(scene: Scene) -> str:
    """Claims are refused with a clear answer; people who have a place can confirm and cancel."""
    await scene.mid_sale()
    async with scene.ledger() as client:
        await client.config_set("maxmemory", 1)
        since_ms = time.time() * 1000
        try:
            await asyncio.sleep(MEMORY_FULL_S)
        finally:
            until_ms = time.time() * 1000
            await client.config_set("maxmemory", 0)
    meanwhile = scene.exchanges(since_ms, until_ms)
    claims = [e for e in meanwhile if e.call == "claim"]
    served = [e for e in claims if e.outcome == 201 and not e.replayed]
    refused = {e.body.get("type") for e in claims if e.outcome == 503}
    others = [e.outcome for e in meanwhile if e.call in ("confirm", "cancel")]
    if served or refused != {"/problems/overloaded"}:
        raise Missed(f"{len(served)} claims were accepted, the others refused as {sorted(map(str, refused))}")
    if not others or not set(others) <= {200, 202}:
        raise Missed(f"confirmations and cancellations were answered {sorted(set(others))}")
    return (
        f"full for {MEMORY_FULL_S:g} s: {len(claims)} claims refused as overloaded, "
        f"{len(others)} confirmed or cancelled"
    )


async def _jump(seconds: int, scene: Scene) -> str:
    """The ledger's clock jumps: holds end too early or too late, and nothing is sold twice."""
    await scene.mid_sale()
    for shift_s in (seconds, 0, seconds):  # and it stays
        await _shift(shift_s, scene)
        await asyncio.sleep(JUMPED_S)
    ended = sum(e.outcome == 410 for e in scene.crowd.history)
    first, second = ("forward", "back") if seconds > 0 else ("back", "forward")
    return f"{first}, {second} and {first} again; {ended} holds ended before they were confirmed"


async def _shift(seconds: int, scene: Scene) -> None:
    """Let the clock be so far from the real one, and see by the ledger that it is."""
    scene.shims.shift_clock(seconds)
    async with scene.ledger() as client:
        told_s, _ = await client.time()
    if abs((shift_s := round(told_s - time.time())) - seconds) > TOLERANCE_S:
        raise Missed(f"the ledger's clock is {shift_s} s from the real one, not {seconds}")


FAULTS = (
    Fault(name="power-loss", strike=partial(_lose_power, torn=False), shims=(Shim.POWER_LOSS,)),
    Fault(name="power-loss-torn", strike=partial(_lose_power, torn=True), shims=(Shim.POWER_LOSS,)),
    Fault(
        name="power-loss-everysec",
        strike=_lose_power_everysec,
        shims=(Shim.POWER_LOSS,),
        places=900,
        people=1000,
        control=True,
    ),
    *(
        Fault(
            name=f"disk-full-{name}",
            strike=partial(_fill_disk, part, full_s),
            shims=(Shim.DISK_FULL,),
            places=600,
            people=750,
            at_once=200,
        )
        for name, part, full_s in (
            ("valkey", Part.VALKEY, DISK_FULL_S),
            ("valkey-long", Part.VALKEY, DISK_FULL_LONG_S),
            ("postgres", Part.POSTGRES, DISK_FULL_S),
        )
    ),
    Fault(name="memory-full", strike=_fill_memory, places=600, people=700),
    *(
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
    ),
)
