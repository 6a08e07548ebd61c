"""A person at the command line: rebuilds the ledger from the records, or records it anew, and may be interrupted."""

import asyncio
from typing import cast

from reservasi.errors import JournalGap, LedgerFault, RebuildRefused, StaleRecorder, Unavailable
from reservasi.ledger.journal.stream import Journal
from reservasi.records import Records
from reservasi.worker.program_stores import ProgramStores
from reservasi.worker.rebuild import Rebuilder
from reservasi.worker.restoration import Restorer
from tests.ledgers import TOMBSTONE_MS
from tests.simulation.clients import Client, open_connection
from tests.simulation.loop import Host
from tests.simulation.processes import PROGRAM, Deployment
from tests.simulation.records import SimulatedRecords

LOCK_WAIT_S = 5.0
TRIES_MAX = 40
PAUSE_MAX_S = 0.5
INTERRUPTED, INTERRUPTED_WITHIN_S = 0.2, 0.3  # how often, and how soon
NOT_FINISHED = (Unavailable, LedgerFault, JournalGap, StaleRecorder)  # and can be begun anew


class Operator:
    """Repeats a command until it is done, each time as another process."""

    def __init__(self, deployment: Deployment, calm: asyncio.Event) -> None:
        """Until `calm` is set, anything may go wrong."""
        self._deployment = deployment
        self._calm = calm
        self._chance = deployment.operators_chance

    async def rebuild(self) -> bool:
        """`reservasi rebuild --force`; whether it came to an end."""
        return await self._until_done(from_ledger=False)

    async def restore(self) -> bool:
        """`reservasi rebuild --from-ledger`; the same."""
        return await self._until_done(from_ledger=True)

    async def _until_done(self, *, from_ledger: bool) -> bool:
        """What the storm did not let them finish is begun anew when it is over."""
        was_calm = self._calm.is_set()
        for _ in range(TRIES_MAX):
            host = Host(self._deployment.name("operator"))
            running = host.spawn(self._run(host, from_ledger=from_ledger))
            is_interrupted = self._chance.random() < INTERRUPTED
            await self._wait(running, self._chance.uniform(0.0, INTERRUPTED_WITHIN_S) if is_interrupted else None)
            await host.kill()
            if not running.cancelled() and running.result():
                return True
            if self._calm.is_set() and not was_calm:
                return False
            await asyncio.sleep(self._chance.uniform(0.0, PAUSE_MAX_S))
        return False

    async def _wait(self, running: "asyncio.Task[bool]", timeout_s: float | None) -> None:
        """Until it is done, interrupted, or calm."""
        if self._calm.is_set():
            await asyncio.wait([running], timeout=timeout_s)
            return
        calm = asyncio.create_task(self._calm.wait())
        await asyncio.wait([running, calm], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        calm.cancel()

    async def _run(self, host: Host, *, from_ledger: bool) -> bool:
        deployment = self._deployment
        trace, faults = deployment.network.trace, deployment.faults
        records = SimulatedRecords(deployment.database, host, trace, self._chance, faults)
        stores = ProgramStores(
            program=PROGRAM,
            connection=open_connection(deployment.network, host, PROGRAM, deployment.library),
            journal=Journal(Client(deployment.network, host), PROGRAM),
            records=cast(Records, records),
            booking_code=deployment.sealing.booking_code,
            tombstone_ms=TOMBSTONE_MS,
        )
        try:
            if from_ledger:
                report = await Restorer(stores).run(lock_wait_s=LOCK_WAIT_S)
                epoch, is_done = report.epoch, deployment.database.lost is None
            else:
                epoch = (await Rebuilder(stores).run(force=True, lock_wait_s=LOCK_WAIT_S)).epoch
                is_done = True
        except NOT_FINISHED:
            return False
        except RebuildRefused as refusal:
            deployment.network.trace(host.name, "is refused", str(refusal))
            deployment.network.counts["operator refused"] += 1
            return False
        for worker in deployment.workers:  # the owner in each looks five times a second
            worker.note_owned(epoch)
        return is_done
