"""The ledger is emptied, or comes back as an old copy: it sells nothing until it was rebuilt from the records.

What is promised then is every recorded booking. A hold or a cancellation that was acknowledged and not recorded yet is
gone with the ledger: it counts as lost, the note says so, and the run does not fail for it.
"""

import asyncio
import contextlib
import shutil
import time
from pathlib import Path

from loadtest.faults.fault import Fault, Scene
from loadtest.service import Part
from reservasi.bootstrap import open_operations
from reservasi.errors import Unavailable
from reservasi.rebuild import Rebuilder
from reservasi.recovery import Ownership, compare_ledger
from reservasi.settings import load

ITSELF_S = 10.0  # for the service to rebuild it without being asked
LOOK_S = 0.2
OLD_SHARE = 0.1  # of the places that are taken when the copy is made


async def _flush(scene: Scene) -> str:
    await scene.mid_sale()
    async with scene.ledger() as client:
        await client.flushall()
    return f"emptied by FLUSHALL, {await _known(scene)}"


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
    return f"an old append-only file came back, {await _known(scene)}"


async def _known(scene: Scene) -> str:
    told = await _rebuilt(scene)
    scene.lost_until_ms = time.time() * 1000
    return told


async def _rebuilt(scene: Scene) -> str:
    """Wait until the ledger is owned again; where nobody rebuilds it, do what an operator does."""
    settings = load(data_dir=scene.service.data_dir)
    begun_s = time.monotonic()
    async with open_operations(settings, wait_s=ITSELF_S) as operations:
        connection, journal = operations.ledgers.connection(scene.program), operations.ledgers.journal(scene.program)
        rebuilder = Rebuilder(
            scene.program,
            connection,
            journal,
            operations.records,
            booking_code=operations.sealing.booking_code,
            tombstone_ms=settings.tombstone_ms,
        )
        try:
            while time.monotonic() < begun_s + ITSELF_S:
                with contextlib.suppress(Unavailable):
                    found = await compare_ledger(scene.program, connection, journal, operations.records)
                    if found.verdict is Ownership.OWNED:
                        return f"rebuilt by itself within {time.monotonic() - begun_s:.1f} s"
                await asyncio.sleep(LOOK_S)
            report = await rebuilder.run()
        finally:
            await connection.drop()
    return f"rebuilt by the operator in {report.seconds:.1f} s: {report.reservations} reservations"


FAULTS = (
    Fault(name="flushall", strike=_flush, places=600, people=750, recorded_only=True),
    Fault(name="old-copy", strike=_restore_old, places=600, people=750, recorded_only=True),
)
