"""The ledger is emptied, its server killed and its files deleted: one command brings everything back from the records.

About half of the reservations are confirmed, and the worker records all of them. It does not rebuild by itself here, so
that it is the command which does. Afterwards the whole ledger must be as it was, reservation by reservation, and people
come and take what is left.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from loadtest.checker.evidence import LedgerEvidence, read_ledger
from loadtest.crowd.crowd import Crowd
from loadtest.crowd.scenario import Plan
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.stage.service import RESTART_TIMEOUT_S, Part

RESERVATIONS = 100_000
FIRST = 8_000_000  # number of the first person with a reservation
AT_ONCE = 256
CROWDS_MAX = 5
LEFT = 300  # places for those who come afterwards
TIMEOUT_S = 600.0
COMPARED = ("quotas", "reservations", "persons", "timers", "openings")


async def _lose_everything(count: int, scene: Scene) -> str:
    await _fill(scene, count)
    await scene.drained()
    before = await _ledger(scene)
    with scene.unsupervised():
        async with scene.ledger() as client:
            await client.flushall()
        scene.kill(Part.VALKEY)
        for left in scene.places.valkey.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    await scene.until(
        lambda: scene.service.pids(Part.VALKEY), RESTART_TIMEOUT_S, "nobody starts the ledger's server again"
    )
    begun_s = time.monotonic()
    (report,) = await scene.command("rebuild")
    took_s = time.monotonic() - begun_s
    if not report["rebuilt"] or report["reservations"] != count or report["lost"]:
        raise Missed(f"the command says {report}")
    if different := list(differences(before, await _ledger(scene))):
        raise Missed(f"{len(different)} differences to the ledger that was lost: {'; '.join(different[:5])}")
    (comparison,) = await scene.command("reconcile")
    if comparison["drift"] or comparison["compared"] < count:
        raise Missed(f"ledger and records were compared: {comparison}")
    return (
        f"{count:,} reservations, all as before, in {report['seconds']:.1f} s; {took_s:.1f} s with the command's start"
    )


async def _fill(scene: Scene, count: int) -> None:
    """Let crowds come until there are so many reservations, half of them confirmed.

    A few people of a large crowd find only quotas that others have just filled, and go without a place.
    """
    come = total = 0
    for _ in range(CROWDS_MAX):
        plan = Plan(
            program=scene.program,
            people=count - total,
            first=FIRST + come,
            seed=scene.crowd.plan.seed,
            abandon_share=0.5,
            cancel_share=0,
            replay_share=0,
            greedy_share=0,
            pair_share=0,
            think_s_max=0,
            look_share=0,
        )
        crowd = Crowd(scene.service.url, plan, at_once=AT_ONCE)
        await crowd.run()
        scene.crowd.history += crowd.history
        come, total = come + plan.people, len((await _ledger(scene)).reservations)
        if total == count:
            return
    raise Missed(f"{total} of {count} reservations were made")


async def _ledger(scene: Scene) -> LedgerEvidence:
    evidence = await read_ledger(scene.service.redis_url, scene.program)
    if evidence is None:
        raise Missed("nobody owns the ledger")
    return evidence


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
