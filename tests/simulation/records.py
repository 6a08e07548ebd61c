"""Records in memory, with the contract that the recorder relies on: position and rows move together, or not at all.

What is refused here is what PostgreSQL's constraints and `records/writes.py` refuse. What is worked out beforehand, a
batch and its net effects, is the service's own code.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Sequence

from loadtest.evidence import Applicant, DatabaseEvidence, OpeningMark, Row
from reservasi.errors import RecordsUnavailable, StaleRecorder
from reservasi.events import JournalEntry, OpeningSet, Unreadable
from reservasi.model import Position
from reservasi.records import Batch, EpochRow, Recorded
from reservasi.records.effects import Stamped, Unapplicable, net_effects
from reservasi.records.recording import DeadLetter
from tests.simulation.loop import Host
from tests.simulation.tables import BookingCode, Tables
from tests.simulation.trace import Trace

COMMIT_MAX_S = 0.02
SLOW_MAX_S = 3.0


class Database:
    """What survives every process: one program's tables, position, journal, epochs and dead letters."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.position: Position | None = None
        self.journal: list[JournalEntry] = []
        self.epochs: list[EpochRow] = []
        self.dead: list[tuple[int, DeadLetter, str]] = []
        self.leader: SimulatedLead | None = None

    def record(self, expected: Position | None, batch: Batch, booking_code: BookingCode) -> Recorded:
        """One transaction.

        Raises:
            StaleRecorder: the position is another.
        """
        epochs = [entry.epoch for entry in batch.entries]
        if self.position != expected or sorted(epochs) != epochs or (expected and epochs[0] < expected.epoch):
            raise StaleRecorder(f"the position is {self.position}, not {expected}")
        found = self._whole(batch, booking_code)
        tables, dead = (found, []) if found else self._one_by_one(batch.entries, booking_code)
        self.tables, self.position = tables, batch.position
        self.journal += batch.entries
        self.dead += dead
        return Recorded(position=batch.position, dead=tuple(letter for _, letter, _ in dead))

    def _whole(self, batch: Batch, booking_code: BookingCode) -> Tables | None:
        if batch.effects is None or batch.effects.unreadable:
            return None
        tables = self.tables.copy()
        try:
            tables.apply(batch.effects, booking_code)
        except Unapplicable:
            return None
        return tables

    def _one_by_one(
        self, entries: Iterable[JournalEntry], booking_code: BookingCode
    ) -> tuple[Tables, list[tuple[int, DeadLetter, str]]]:
        tables = self.tables.copy()
        dead: list[tuple[int, DeadLetter, str]] = []
        for entry in entries:
            for event in entry.events:
                if isinstance(event, Unreadable):
                    letter = DeadLetter(seq=event.seq, reservation_id=event.reservation_id)
                    dead.append((entry.epoch, letter, f"{event}"))
                    continue
                before = tables.copy()
                try:
                    effects = net_effects([Stamped(epoch=entry.epoch, at_ms=entry.at_ms, events=(event,))])
                    tables.apply(effects, booking_code)
                except Unapplicable as error:
                    tables = before
                    of = None if isinstance(event, OpeningSet) else getattr(event, "reservation_id", None)
                    dead.append((entry.epoch, DeadLetter(seq=event.seq, reservation_id=of), f"{event}: {error}"))
        return tables, dead

    def evidence(self) -> DatabaseEvidence:
        """Everything, as the checker reads it."""
        tables = self.tables
        return DatabaseEvidence(
            position=self.position,
            quotas={quota: (terms.capacity, tables.booked.get(quota, 0)) for quota, terms in tables.terms.items()},
            holds=[
                Row(reservation_id=life.reservation_id, quota=life.quota, places=life.places)
                for life in tables.holds.values()
            ],
            retired=set(tables.retired) - tables.terms.keys(),
            bookings=[
                Row(
                    reservation_id=life.reservation_id,
                    quota=life.quota,
                    places=life.places,
                    state=life.state.value,
                    booking_code=code,
                )
                for life, code in tables.bookings.values()
            ],
            applicants=[
                Applicant(reservation_id=reservation_id, person=person, live=True)
                for reservation_id, persons in tables.persons.items()
                for person in persons
            ],
            openings={name: OpeningMark.of(opening) for name, opening in tables.openings.items()},
            journal=list(self.journal),
            dead_letters=[
                f"{epoch}-{letter.seq} of {letter.reservation_id}: {why}" for epoch, letter, why in self.dead
            ],
        )


class SimulatedLead:
    """The advisory lock of a recorder's own session."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.lost = False

    async def take(self) -> bool:
        if self._database.leader is None:
            self._database.leader = self
        return self._database.leader is self

    async def check(self) -> None:
        if self._database.leader is not self:
            self.lost = True
            raise RecordsUnavailable("the session was ended")

    def close(self) -> None:
        if self._database.leader is self:
            self._database.leader = None


class SimulatedRecords:
    """What a process asks of the database: slow, lost before or after the commit, as the seed has it."""

    def __init__(
        self, database: Database, host: Host, trace: Trace, chance: random.Random, faults: list[float]
    ) -> None:
        self._database = database
        self._host = host
        self._trace = trace
        self._chance = chance
        self._faults = faults  # one number, shared: the probability of a fault, 0 when it is calm

    async def position(self, program: str) -> Position | None:
        await self._travel()
        return self._database.position

    async def epochs(self, program: str) -> list[EpochRow]:
        await self._travel()
        return list(self._database.epochs)

    async def claim_epoch(
        self,
        program: str,
        epoch: int,
        base_seq: int,
        run_id: str,
        *,
        owned_under: int | None = None,
        alone: bool = False,
    ) -> bool:
        await self._travel()
        rows = self._database.epochs
        if rows and rows[-1].epoch >= epoch:
            return False
        for number, row in enumerate(rows):
            if owned_under is not None and row.epoch > owned_under and row.run_id == run_id and row.base_seq < base_seq:
                rows[number] = EpochRow(epoch=row.epoch, base_seq=base_seq, run_id=run_id)
        rows.append(EpochRow(epoch=epoch, base_seq=base_seq, run_id=run_id))
        return True

    async def dead_letter_count(self, program: str) -> int:
        """How many are open: nobody settles one here."""
        await self._travel()
        return len(self._database.dead)

    async def dead_reservations(self, program: str) -> list[str]:
        await self._travel()
        return sorted({letter.reservation_id for _, letter, _ in self._database.dead if letter.reservation_id})

    @contextlib.asynccontextmanager
    async def lead(self, program: str) -> AsyncIterator[SimulatedLead]:
        await self._travel()
        lead = SimulatedLead(self._database)
        try:
            yield lead
        finally:
            lead.close()

    async def record(
        self,
        program: str,
        expected: Position | None,
        entries: Batch | Sequence[JournalEntry],
        *,
        booking_code: BookingCode,
    ) -> Recorded:
        batch = entries if isinstance(entries, Batch) else Batch.of(program, entries, booking_code)
        await self._travel()
        if self._chance.random() < self._faults[0]:
            self._trace(self._host.name, "loses PostgreSQL before the commit")
            raise RecordsUnavailable("lost before the commit")
        if not self._host.alive:
            raise RecordsUnavailable("nobody is there any more")
        recorded = self._database.record(expected, batch, booking_code)
        self._trace(self._host.name, "commits", f"{batch.position.epoch}-{batch.position.seq}")
        await self._travel()
        if self._chance.random() < self._faults[0]:
            self._trace(self._host.name, "loses PostgreSQL after the commit")
            raise RecordsUnavailable("lost after the commit")
        return recorded

    async def _travel(self) -> None:
        slow = self._chance.random() < self._faults[0]
        await asyncio.sleep(self._chance.uniform(0.0, SLOW_MAX_S if slow else COMMIT_MAX_S))
