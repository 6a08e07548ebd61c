"""The ledger is emptied, its server killed and its files deleted: one command brings everything back from the records.

The reservations are claimed past HTTP, half of them are confirmed, and the worker records all of them. It does not
rebuild by itself here, so that it is the command which does. Afterwards the whole ledger must be as it was, reservation
by reservation, and people come and take what is left.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from loadtest.checker.callers import Callers
from loadtest.checker.evidence import LedgerEvidence, read_ledger
from loadtest.faults.commands import command
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.outages import drained
from loadtest.stage.service import RESTART_TIMEOUT_S, Part, wait_for
from reservasi.bootstrap.commands import open_operations, open_program
from reservasi.bootstrap.views import open_view
from reservasi.reservations import Reservations
from reservasi.settings import load

RESERVATIONS = 100_000
FIRST = 8_000_000  # number of the first of those who have them
AT_ONCE = 256
TRIES_MAX = 100  # of one request
PAUSE_S = 0.2
LEFT = 300  # places for those who come afterwards
TIMEOUT_S = 600.0
COMPARED = ("quotas", "reservations", "persons", "timers", "openings")


async def _lose_everything(count: int, scene: Scene) -> str:
    await _fill(scene, count)
    await drained(scene)
    before = await _ledger(scene)
    if len(before.reservations) != count:
        raise Missed(f"{len(before.reservations)} of {count} reservations were made")
    with scene.unsupervised():
        async with scene.ledger() as client:
            await client.flushall()
        scene.kill(Part.VALKEY)
        for left in scene.places.valkey.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    await asyncio.to_thread(
        wait_for, partial(_runs, scene), RESTART_TIMEOUT_S, "nobody starts the ledger's server again"
    )
    begun_s = time.monotonic()
    (report,) = await command(scene, "rebuild")
    took_s = time.monotonic() - begun_s
    if not report["rebuilt"] or report["reservations"] != count or report["lost"]:
        raise Missed(f"the command says {report}")
    if different := list(differences(before, await _ledger(scene))):
        raise Missed(f"{len(different)} differences to the ledger that was lost: {'; '.join(different[:5])}")
    (found,) = await command(scene, "reconcile")
    if found["drift"] or found["compared"] < count:
        raise Missed(f"ledger and records were compared: {found}")
    return (
        f"{count:,} reservations, all as before, in {report['seconds']:.1f} s; {took_s:.1f} s with the command's start"
    )


def _runs(scene: Scene) -> bool | None:
    return True if scene.service.pids(Part.VALKEY) else None


async def _fill(scene: Scene, count: int) -> None:
    """Make so many reservations, spread over the quotas; half of them are confirmed."""
    offered = await asyncio.to_thread(scene.service.get, f"/v1/availability?program={scene.program}")
    quotas = [quota["id"] for quota in offered["quotas"]]
    async with _callers(scene) as callers:
        numbers = iter(range(count))

        async def come() -> None:
            for number in numbers:
                await _hold(callers, FIRST + number, quotas[number % len(quotas)], is_kept=number % 20 < 10)

        await asyncio.gather(*(come() for _ in range(AT_ONCE)))
    scene.crowd.history += callers.history


async def _hold(callers: Callers, number: int, quota: str, *, is_kept: bool) -> None:
    for _ in range(TRIES_MAX):
        id_ = await callers.claim(number, quota, f"key-{number}")
        if id_ and (not is_kept or await callers.confirm(number, {number: id_}) == 200):
            return
        await asyncio.sleep(PAUSE_S)
    raise Missed(f"person {number} got no reservation of {quota}")


@asynccontextmanager
async def _callers(scene: Scene) -> AsyncIterator[Callers]:
    """People who ask the ledger as a front does."""
    settings = load(data_dir=scene.service.data_dir, confirm_wait_ms=10_000)
    async with open_operations(settings) as operations, open_program(operations, scene.program) as group:
        recorded, view = operations.ledgers.recorded(), open_view(operations)
        recorded.follow(scene.program)
        try:
            reservations = Reservations(operations.sealing, view, recorded, confirm_wait_ms=settings.confirm_wait_ms)
            reservations.serve(scene.program, group)
            yield Callers(reservations, scene.crowd.plan.seed)
        finally:
            await recorded.close()
            await view.close()


async def _ledger(scene: Scene) -> LedgerEvidence:
    found = await read_ledger(scene.service.redis_url, scene.program)
    if found is None:
        raise Missed("nobody owns the ledger")
    return found


def differences(before: LedgerEvidence, after: LedgerEvidence) -> Iterator[str]:
    """What is not as it was; the epoch must be another one."""
    was, is_now = before.position, after.position
    if (was.seq, was.chain) != (is_now.seq, is_now.chain) or is_now.epoch <= was.epoch:
        yield f"it was at {was} and is at {is_now}"
    for part in COMPARED:
        old: Mapping[str, Any] = getattr(before, part)
        new: Mapping[str, Any] = getattr(after, part)
        for id_ in sorted(old.keys() | new.keys()):
            if old.get(id_) != new.get(id_):
                yield f"{part} {id_}: {old.get(id_)}, now {new.get(id_)}"


def rebuild_of(count: int) -> Fault:
    """The fault with so many reservations."""
    return Fault(
        name="rebuild",
        strike=partial(_lose_everything, count),
        places=count + LEFT,
        people=LEFT + LEFT // 2,
        alone=True,
        timeout_s=TIMEOUT_S,
        settings={"RESERVASI_REBUILD_AUTOMATICALLY": "false"},
    )


FAULTS = (rebuild_of(RESERVATIONS),)
