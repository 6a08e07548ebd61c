"""The processes of the simulated deployment: fronts and workers, made of the service's own parts."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC
from typing import cast

from reservasi.availability import Availability
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import Library
from reservasi.ledger.opening_watch import OpeningWatch
from reservasi.records import Records
from reservasi.reservations import Reservations
from reservasi.sealing import KeyRing, Sealing
from reservasi.waiting_room.admission import AdmissionController
from reservasi.waiting_room.room import WaitingRoom
from reservasi.worker.ledger_owner import Ownership, own_ledger
from reservasi.worker.recorder import Recorder
from reservasi.worker.retirement import OpeningRetirement, Retirement
from reservasi.worker.sweeper import Sweeper
from tests.ledgers import TOMBSTONE_MS
from tests.simulation.clients import Client, open_connection
from tests.simulation.loop import Host
from tests.simulation.network import Network
from tests.simulation.records import Database, SimulatedRecords

PROGRAM = "sim"
STALE_MS = 100
RECORDER_BLOCK_MS = 1000
COMMAND_TIMEOUT_MS = 1000
CONFIRM_WAIT_MS = 600
SWEEP_INTERVAL_MS = 1000
DELAY_TARGET_MS = 100
OPENING_RETIRED_AFTER_MS = 1000


class SeededSealing(Sealing):
    """The service's sealing, whose nonces come from the seed: they end up in the journal and in its chain."""

    def __init__(self) -> None:
        super().__init__(KeyRing(identity=bytes(32), active="k1", sealing={"k1": bytes(range(32))}))
        self.chance = random.Random(0)

    def _next_nonce(self) -> bytes:
        return self.chance.randbytes(12)


class Deployment:
    """What all processes share."""

    def __init__(
        self,
        network: Network,
        library: Library,
        sealing: Sealing,
        chance: random.Random,
        *,
        operators_chance: random.Random,
        batch_items_max: int,
        retire_after_ms: int,
        clock_ms: Callable[[], int],
    ) -> None:
        self.operators_chance = operators_chance
        self.network = network
        self.library = library
        self.sealing = sealing
        self.chance = chance
        self.batch_items_max = batch_items_max
        self.retire_after_ms = retire_after_ms
        self.clock_ms = clock_ms
        self.says_sold_out = chance.random() < 0.15  # from memory
        self.database = Database()
        self.faults = [0.0]  # the probability that a call to the database goes wrong
        self.fronts: list[Front] = []
        self.workers: list[Worker] = []
        self._started = 0

    def name(self, role: str) -> str:
        """A new process's."""
        self._started += 1
        return f"{role}-{self._started}"

    def group(self, host: Host) -> GroupCommit:
        """A group commit as a process makes one."""
        return GroupCommit(
            open_connection(self.network, host, PROGRAM, self.library),
            batch_items_max=self.batch_items_max,
            queue_items_max=200,
            command_timeout_ms=COMMAND_TIMEOUT_MS,
            tombstone_ms=TOMBSTONE_MS,
            queue_delay_target_ms=DELAY_TARGET_MS,
            settle_ms=STALE_MS,
        )

    def view(self, host: Host) -> Availability:
        """A view of the program."""
        client = Client(self.network, host)
        return Availability(
            lambda program: open_connection(self.network, host, program, self.library),
            lambda program: Journal(client, program),
            stale_ms=STALE_MS if self.says_sold_out else 0,
        )

    async def start_front(self) -> None:
        """Add a front."""
        front = Front(self)
        await front.host.spawn(front.start())
        self.fronts.append(front)

    async def start_worker(self) -> None:
        """Add a worker."""
        worker = Worker(self)
        await worker.host.spawn(worker.start())
        self.workers.append(worker)


class Front:
    """What a front process holds below HTTP."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.host = Host(deployment.name("front"))

    async def start(self) -> None:
        """Open everything, as `bootstrap.open_front` does."""
        deployment, host = self._deployment, self.host
        self.group = deployment.group(host)
        self.availability = deployment.view(host)
        recorded = RecordedPositions(Client(deployment.network, host))
        self.reservations = Reservations(
            deployment.sealing, self.availability, recorded, confirm_wait_ms=CONFIRM_WAIT_MS
        )
        self.room = WaitingRoom(deployment.sealing, self.availability)
        self.group.start()
        self.reservations.serve(PROGRAM, self.group)
        self.room.serve(PROGRAM, self.group)
        self.availability.follow(PROGRAM)
        recorded.follow(PROGRAM)


class Worker:
    """What a worker process does: own, record, sweep, admit."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.host = Host(deployment.name("worker"))
        self._stop = asyncio.Event()

    async def start(self) -> None:
        """Begin all roles, as `bootstrap.open_worker` does; owning is asked for by `own`, since looking is dear."""
        deployment, host = self._deployment, self.host
        client = Client(deployment.network, host)
        self._journal = Journal(client, PROGRAM)
        self._records = cast(
            Records,
            SimulatedRecords(deployment.database, host, deployment.network.trace, deployment.chance, deployment.faults),
        )
        self._connection = open_connection(deployment.network, host, PROGRAM, deployment.library)
        recorder = self._recorder = Recorder(
            PROGRAM,
            self._records,
            self._journal,
            booking_code=deployment.sealing.booking_code,
            events_max=deployment.chance.choice((2, 4000)),
            block_ms=RECORDER_BLOCK_MS,
        )
        group = deployment.group(host)
        group.start()
        sweeper = Sweeper(PROGRAM, group, interval_ms=SWEEP_INTERVAL_MS, items_max=deployment.chance.choice((1, 500)))
        admission = AdmissionController(
            PROGRAM,
            group,
            OpeningWatch(client, PROGRAM),
            lambda: deployment.view(host),
            delay_target_ms=DELAY_TARGET_MS,
        )
        admission.name = host.name
        retirement = Retirement(
            PROGRAM,
            group,
            self._journal,
            after_ms=deployment.retire_after_ms,
            zone=lambda: UTC,
            leads=lambda: recorder.leads,
            clock_ms=deployment.clock_ms,
        )
        opening_retirement = OpeningRetirement(
            PROGRAM,
            group,
            OpeningWatch(client, PROGRAM),
            after_ms=OPENING_RETIRED_AFTER_MS,
            leads=lambda: recorder.leads,
            clock_ms=deployment.clock_ms,
        )
        for role in (recorder, sweeper, retirement, opening_retirement, admission):
            host.spawn(role.run(self._stop))

    def note_owned(self, epoch: int) -> None:
        """The ledger is owned under another epoch."""
        self._recorder.note_owned(epoch)

    async def own(self) -> Ownership:
        """Compare the ledger with the records, and own it where that is safe."""
        return await own_ledger(PROGRAM, self._connection, self._journal, self._records)
