"""The records come back as an old copy, as from a dump: what the ledger still tells of is recorded again.

The copy is made while PostgreSQL is down for a moment, and put back in the same way. People confirm and cancel between
the two, and are told so: none of that may be lost.
"""

import asyncio
import shutil
import subprocess
from pathlib import Path

from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.outages import drained, recorded_seq
from loadtest.service import Part

COPIED_SHARE = 0.1  # of the places that are taken when the copy is made


async def _restore_old(scene: Scene) -> str:
    at_copy, before = await put_back_old(scene)
    drained_s = await drained(scene)
    return f"the records went back from seq {before} to {at_copy}, and were complete again {drained_s:.1f} s later"


async def put_back_old(scene: Scene) -> tuple[int, int]:
    """Let the records be an old copy; the seq that they have then, and the one that they had."""
    await scene.taken(COPIED_SHARE)
    directory = scene.places.postgres
    copy = Path(f"{directory}.old")
    with scene.unsupervised():
        at_copy = await recorded_seq(scene)
        scene.kill(Part.POSTGRES)
        await _copy(directory, copy)
    await scene.taken(COPIED_SHARE + scene.chance.uniform(0.2, 0.4))
    await drained(scene)
    with scene.unsupervised():
        before = await recorded_seq(scene)
        scene.kill(Part.POSTGRES)
        await asyncio.to_thread(shutil.rmtree, directory)
        await _copy(copy, directory)
    if before <= at_copy:
        raise Missed(f"nothing was recorded between the copy, at seq {at_copy}, and its return")
    return at_copy, before


async def _copy(source: Path, target: Path) -> None:
    await asyncio.to_thread(subprocess.run, ["cp", "-a", str(source), str(target)], check=True)  # its owner stays


FAULTS = (Fault(name="old-records", strike=_restore_old, places=900, people=1100, at_once=30),)
