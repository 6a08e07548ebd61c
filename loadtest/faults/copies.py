"""The ledger is emptied, or comes back as an old copy: it sells nothing until it was rebuilt from the records."""

import asyncio
import shutil
from pathlib import Path

from loadtest.faults.fault import Fault, Scene
from loadtest.service import Part

OLD_SHARE = 0.1  # of the places that are taken when the copy is made


async def _flush(scene: Scene) -> str:
    await scene.mid_sale()
    async with scene.ledger() as client:
        await client.flushall()
    return "emptied by FLUSHALL"


async def _restore_old(scene: Scene) -> str:
    """A copy that was made early is put back while the server is down, as from yesterday's backup."""
    await scene.taken(OLD_SHARE)
    directory = scene.places.valkey
    copy = Path(f"{directory}.old")
    await asyncio.to_thread(shutil.copytree, directory, copy)
    await scene.taken(OLD_SHARE + scene.chance.uniform(0.2, 0.4))
    with scene.unsupervised():
        scene.kill(Part.VALKEY)
        for file in scene.append_only_files():
            old = copy / file.relative_to(directory)
            with file.open("r+b") as current:  # its owner stays
                current.truncate(0)
                current.write(old.read_bytes())
    return "an old append-only file came back"


FAULTS = (
    Fault(name="flushall", strike=_flush, places=600, people=750),
    Fault(name="old-copy", strike=_restore_old, places=600, people=750),
)
