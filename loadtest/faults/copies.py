"""The ledger is emptied, or comes back as an old copy: it sells nothing until it was rebuilt from the records.

The worker rebuilds it by itself. What is promised then is every confirmation and every cancellation that was answered
200. A hold is the ledger's word until then: one that nobody had recorded is gone with the ledger, and the note counts
them.
"""

import asyncio
import contextlib
import shutil
import time
from pathlib import Path

from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.stage.service import Part
from reservasi.bootstrap.commands import open_operations
from reservasi.errors import Unavailable
from reservasi.settings import load
from reservasi.worker.ledger_owner import Ownership, compare_ledger

ITSELF_S = 30.0  # for the worker to rebuild it without being asked, and for its server to come back before
LOOK_S = 0.2
OLD_SHARE = 0.1  # of the places that are taken when the copy is made


async def _flush(scene: Scene) -> str:
    await scene.mid_sale()
    rebuilds = _rebuilds(scene)
    async with scene.ledger() as client:
        await client.flushall()
    return f"emptied by FLUSHALL, {await _known(scene, rebuilds)}"


async def _restore_old(scene: Scene) -> str:
    """A copy that was made early is put back while the server is down, as from yesterday's backup."""
    await scene.taken(OLD_SHARE)
    directory = scene.places.valkey
    copy = Path(f"{directory}.old")
    await asyncio.to_thread(shutil.copytree, directory, copy)
    await scene.taken(OLD_SHARE + scene.chance.uniform(0.2, 0.4))
    rebuilds = _rebuilds(scene)
    with scene.unsupervised():
        scene.kill(Part.VALKEY)
        for file in scene.append_only_files():
            old = copy / file.relative_to(directory)
            with file.open("r+b") as current:  # its owner stays
                current.truncate(0)
                current.write(old.read_bytes())
    return f"an old append-only file came back, {await _known(scene, rebuilds)}"


async def _known(scene: Scene, rebuilds: int) -> str:
    told = await _rebuilt(scene, rebuilds)
    scene.lost_until_ms = time.time() * 1000
    return told


def _rebuilds(scene: Scene) -> int:
    """How many the service has told of so far: a ledger that nobody harmed is owned as well."""
    return scene.service.log_path.read_text().count('"ledger_rebuilt"')


async def _rebuilt(scene: Scene, before: int) -> str:
    """Wait until the worker has rebuilt the ledger once more than before, and owns it."""
    begun_s = time.monotonic()
    async with open_operations(load(data_dir=scene.service.data_dir), wait_s=ITSELF_S) as operations:
        connection, journal = operations.ledgers.connection(scene.program), operations.ledgers.journal(scene.program)
        try:
            while time.monotonic() < begun_s + ITSELF_S:
                with contextlib.suppress(Unavailable):
                    found = await compare_ledger(scene.program, connection, journal, operations.records)
                    if found.verdict is Ownership.OWNED and _rebuilds(scene) > before:
                        return f"rebuilt by itself within {time.monotonic() - begun_s:.1f} s"
                await asyncio.sleep(LOOK_S)
        finally:
            await connection.drop()
    raise Missed(f"nobody has rebuilt the ledger within {ITSELF_S:g} s")


FAULTS = (
    Fault(name="flushall", strike=_flush, places=600, people=750, recorded_only=True),
    Fault(name="old-copy", strike=_restore_old, places=600, people=750, recorded_only=True),
)
