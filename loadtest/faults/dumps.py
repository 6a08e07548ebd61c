"""The records come back as an old copy, as from a dump: what the ledger still tells of is recorded again.

The copy is made while PostgreSQL is down for a moment, and put back in the same way. People confirm and cancel between
the two, and are told so: none of that may be lost.
"""

import asyncio
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from loadtest.faults.commands import command
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.outages import drained, recorded_seq
from loadtest.stage.service import Part, wait_for
from reservasi.ledger import keys
from reservasi.worker.ledger_owner import Ownership

NAMED_TIMEOUT_S = 20.0
COPIED_SHARE = 0.1  # of the places that are taken when the copy is made


async def _restore_old(scene: Scene) -> str:
    at_copy, before = await put_back_old(scene)
    drained_s = await drained(scene)
    return f"the records went back from seq {before} to {at_copy}, and were complete again {drained_s:.1f} s later"


async def put_back_old(scene: Scene, *, forgets_journal: bool = False) -> tuple[int, int]:
    """Let the records be an old copy; the seq that they have then, and the one that they had.

    Where the journal forgets, it has nothing that was recorded, as after an hour of a large opening.
    """
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
        if forgets_journal:
            async with scene.ledger() as client:
                epoch: Any = await client.hget(keys.meta(scene.program), "epoch")
                await client.xtrim(keys.journal(scene.program), minid=f"{int(epoch)}-{before}", approximate=False)
        await asyncio.to_thread(shutil.rmtree, directory)
        await _copy(copy, directory)
    if before <= at_copy:
        raise Missed(f"nothing was recorded between the copy, at seq {at_copy}, and its return")
    return at_copy, before


async def _copy(source: Path, target: Path) -> None:
    await asyncio.to_thread(subprocess.run, ["cp", "-a", str(source), str(target)], check=True)  # its owner stays


async def _restore_older(scene: Scene) -> str:
    """The journal does not reach back to the copy any more: the ledger alone knows what the records lack."""
    at_copy, before = await put_back_old(scene, forgets_journal=True)
    await asyncio.to_thread(wait_for, partial(_is_named, scene), NAMED_TIMEOUT_S, "nobody calls the records old")
    await command(scene, "rebuild", "--from-ledger")
    await drained(scene)
    return f"the records went back from seq {before} to {at_copy}, and were recorded anew from the ledger"


def _is_named(scene: Scene) -> bool | None:
    """Whether the worker has said so."""
    return True if any(f'"{Ownership.RECORDS_OLD}"' in line for line in scene.owners_said()) else None


FAULTS = (
    Fault(name="old-records", strike=_restore_old, places=900, people=1100, at_once=30),
    Fault(name="older-records", strike=_restore_older, places=900, people=1100, at_once=30, journal_gap=True),
)
