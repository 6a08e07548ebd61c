"""Records in memory, with the contract that the recorder relies on: position and rows move together, or not at all.

What is refused here is what PostgreSQL's constraints and `records/writes.py` refuse. What is worked out beforehand, a
batch and its net effects, is the service's own code.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec

from loadtest.checker.evidence import Applicant, DatabaseEvidence, OpeningMark, Row
from reservasi.contents import LedgerState
from reservasi.errors import RebuildRefused, RecordsUnavailable, StaleRecorder
from reservasi.events import JournalEntry, OpeningSet, Unreadable
from reservasi.model import Position
from reservasi.records import Batch, EpochRow, KnownEvents, Recorded, Restored
from reservasi.records.difference import Difference
from reservasi.records.effects import Stamped, Unapplicable, net_effects
from reservasi.records.restoration import restored_by
from reservasi.records.transaction import DeadLetter
from tests.simulation.loop import Host
from tests.simulation.standing import SimulatedStanding
from tests.simulation.tables import BookingCode, Tables
from tests.simulation.trace import Trace

COMMIT_MAX_S = 0.02
SLOW_MAX_S = 3.0
RECORDER, REBUILDER = "recorder", "rebuilder"  # advisory locks


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """The records at one moment, as a dump keeps them."""

    tables: Tables
    position: Position | None
    journal: list[JournalEntry]
    known: list[KnownEvents]
    epochs: list[EpochRow]
    dead: list[tuple[int, DeadLetter, str]]


class Database:
    """What survives every process: one program's tables, position, journal, epochs and dead letters."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.position: Position | None = None
        self.journal: list[JournalEntry] = []
        self.known: list[KnownEvents] = []  # what a restoration knew of entries that are nowhere any more
        self.epochs: list[EpochRow] = []
        self.dead: list[tuple[int, DeadLetter, str]] = []
        self.locks: dict[str, SimulatedLead | None] = {RECORDER: None, REBUILDER: None}
        self.ever: dict[tuple[int, int], JournalEntry] = {}  # every entry that was recorded once, for the judge
        self.lost: Copy | None = None  # what they were before they were put back to an older copy

    def copy(self) -> Copy:
        """A dump."""
        return Copy(
            tables=self.tables,  # a transaction leaves it as it is and makes another one
            position=self.position,
            journal=list(self.journal),
            known=list(self.known),
            epochs=list(self.epochs),
            dead=list(self.dead),
        )

    def put_back(self, copy: Copy) -> None:
        """Restore a dump: every session has ended."""
        self.lost = self.copy()
        self.tables, self.position = copy.tables, copy.position
        self.journal, self.known = list(copy.journal), list(copy.known)
        self.epochs, self.dead = list(copy.epochs), list(copy.dead)
        self.locks = dict.fromkeys(self.locks)

    def note_found(self) -> None:
        """Once the records are as far as they were before, nothing is lost any more."""
        before = self.lost.position if self.lost else None
        if self.position is not None and before is not None and self.position.seq >= before.seq:
            self.lost = None

    def booking_code(self, reservation_id: str) -> str | None:
        """Under which code somebody is booked, or was before the records were put back."""
        for tables in (self.tables, *([self.lost.tables] if self.lost else [])):
            codes = [code for (id_, *_), (_, code) in tables.bookings.items() if id_ == reservation_id]
            if codes:
                return codes[-1]
        return None

    def live_persons(self, reservation_id: str) -> tuple[str, ...]:
        """Who is live under a reservation, and was before the records were put back as well."""
        persons = self.tables.persons.get(reservation_id, ())
        return persons if self.lost is None or reservation_id in self.lost.tables.persons else ()

    def record(self, expected: Position | None, batch: Batch, booking_code: BookingCode) -> Recorded:
        """One transaction.

        Raises:
            StaleRecorder: the position is another.
        """
        epochs = [entry.epoch for entry in batch.entries]
        if self.position != expected or sorted(epochs) != epochs or (expected and epochs[0] < expected.epoch):
            raise StaleRecorder(f"the position is {self.position}, not {expected}")
        result = self._whole(batch, booking_code)
        tables, dead = (result, []) if result else self._one_by_one(batch.entries, booking_code)
        self.tables, self.dead = tables, [*self.dead, *dead]
        self._go_on(batch.position, batch.entries)
        return Recorded(position=batch.position, dead=tuple(letter for _, letter, _ in dead))

    def restore(
        self,
        expected: Position | None,
        state: LedgerState,
        known: Sequence[KnownEvents],
        booking_code: BookingCode,
        forgotten_ms: int,
    ) -> Restored:
        """One transaction that records a program anew from its ledger.

        Raises:
            StaleRecorder: the position is another; RebuildRefused: ledger and records contradict each other.
        """
        if self.position != expected:
            raise StaleRecorder(f"the position is {self.position}, not {expected}")
        tables = self.tables.copy()
        difference = Difference(state, tables.rows(), forgotten_ms)
        try:
            tables.apply(difference.effects(), booking_code)
        except Unapplicable as error:
            raise RebuildRefused(f"ledger and records contradict each other: {error}") from error
        rows = {row.epoch: row for row in self.epochs}
        for epoch, base_seq in state.lineage:
            row = rows.get(epoch, EpochRow(epoch=epoch, base_seq=0, run_id=""))
            rows[epoch] = msgspec.structs.replace(row, base_seq=max(row.base_seq, base_seq))
        self.epochs = [rows[epoch] for epoch in sorted(rows)]
        self.tables, self.known = tables, [*self.known, *known]
        self._go_on(state.position, state.entries)
        return restored_by(state, difference, expected)

    def add_epoch(self, row: EpochRow) -> bool:
        """Whether it is the latest, and nothing beyond its beginning is recorded."""
        is_new = not self.epochs or self.epochs[-1].epoch < row.epoch
        if not is_new or (self.position is not None and self.position.seq > row.base_seq):
            return False
        self.epochs = [*self.epochs, row]
        return True

    def move_epochs(self, above: int, run_id: str, base_seq: int, *, below: float = math.inf) -> int:
        """Say of epochs of a run that they were never taken up; how many."""
        moved = [row.run_id == run_id and above < row.epoch < below and row.base_seq < base_seq for row in self.epochs]
        self.epochs = [
            msgspec.structs.replace(row, base_seq=base_seq) if is_moved else row
            for row, is_moved in zip(self.epochs, moved, strict=True)
        ]
        return sum(moved)

    def _go_on(self, position: Position, entries: Sequence[JournalEntry]) -> None:
        self.position = position
        self.journal += entries
        self.ever |= {(entry.epoch, entry.first_seq): entry for entry in entries}
        self.note_found()

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
            quotas={row.id: (row.terms.capacity, row.booked) for row in tables.quotas_in_ledger()},
            holds=[
                Row(reservation_id=life.reservation_id, quota=life.quota, places=life.places)
                for life in tables.holds.values()
            ],
            retired={row.id for row in tables.quotas.values() if row.retired_at_ms},
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
            journal=[self.ever[at] for at in sorted(self.ever)],
            dead_letters=[
                f"{epoch}-{letter.seq} of {letter.reservation_id}: {why}" for epoch, letter, why in self.dead
            ],
        )


class SimulatedLead:
    """An advisory lock of a session of its own."""

    def __init__(self, database: Database, lock: str) -> None:
        self._database = database
        self._lock = lock
        self.lost = False

    async def take(self) -> bool:
        locks = self._database.locks
        if locks[self._lock] is None:
            locks[self._lock] = self
        return locks[self._lock] is self

    async def check(self) -> None:
        if self._database.locks[self._lock] is not self:
            self.lost = True
            raise RecordsUnavailable("the session was ended")

    def close(self) -> None:
        if self._database.locks[self._lock] is self:
            self._database.locks[self._lock] = None


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
        database = self._database
        if not alone and database.locks[REBUILDER] is not None:
            return False
        if not database.add_epoch(EpochRow(epoch=epoch, base_seq=base_seq, run_id=run_id)):
            return False
        if owned_under is not None:
            database.move_epochs(owned_under, run_id, base_seq)
        return True

    async def lift_bar(self, program: str, epoch: int, owned_epoch: int, last_seq: int) -> int:
        await self._travel()
        run_ids = [row.run_id for row in self._database.epochs if row.epoch == epoch]
        return sum(self._database.move_epochs(epoch, each, last_seq, below=owned_epoch) for each in run_ids)

    async def branch_off(self, program: str, epoch: int, recorded: Position, run_id: str) -> bool:
        await self._travel()
        database, at = self._database, None if recorded.seq == 0 else recorded
        row = EpochRow(epoch=epoch, base_seq=recorded.seq, run_id=run_id)
        if database.position != at or not database.add_epoch(row):
            return False
        if at is not None:
            database.position = msgspec.structs.replace(at, epoch=epoch)
        return True

    async def is_removed(self, program: str) -> bool:
        await self._travel()
        return False

    async def dead_letter_count(self, program: str) -> int:
        """How many are open: nobody settles one here."""
        await self._travel()
        return len(self._database.dead)

    async def has_settled_letters(self, program: str) -> bool:
        return False

    async def dead_reservations(self, program: str) -> list[str]:
        await self._travel()
        return sorted({letter.reservation_id for _, letter, _ in self._database.dead if letter.reservation_id})

    @contextlib.asynccontextmanager
    async def lead(self, program: str) -> AsyncIterator[SimulatedLead]:
        async with self._lock(RECORDER) as lead:
            yield lead

    @contextlib.asynccontextmanager
    async def rebuilding(self, program: str) -> AsyncIterator[SimulatedLead]:
        async with self._lock(REBUILDER) as lead:
            yield lead

    @contextlib.asynccontextmanager
    async def _lock(self, which: str) -> AsyncIterator[SimulatedLead]:
        await self._travel()
        lead = SimulatedLead(self._database, which)
        try:
            yield lead
        finally:
            lead.close()

    @contextlib.asynccontextmanager
    async def standing(self, program: str) -> AsyncIterator[SimulatedStanding]:
        await self._travel()
        database = self._database
        yield SimulatedStanding(database.tables, database.position, database.journal, database.known)

    async def restore(
        self,
        program: str,
        expected: Position | None,
        state: LedgerState,
        known: Sequence[KnownEvents],
        *,
        booking_code: BookingCode,
        forgotten_ms: int,
    ) -> Restored:
        await self._travel()
        self._fail_sometimes("before the commit")
        restored = self._database.restore(expected, state, known, booking_code, forgotten_ms)
        self._trace(self._host.name, "restores", f"{state.position.epoch}-{state.position.seq}")
        await self._travel()
        self._fail_sometimes("after the commit")
        return restored

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
        self._fail_sometimes("before the commit")
        recorded = self._database.record(expected, batch, booking_code)
        self._trace(self._host.name, "commits", f"{batch.position.epoch}-{batch.position.seq}")
        await self._travel()
        self._fail_sometimes("after the commit")
        return recorded

    def _fail_sometimes(self, when: str) -> None:
        if self._chance.random() < self._faults[0]:
            self._trace(self._host.name, f"loses PostgreSQL {when}")
            raise RecordsUnavailable(f"lost {when}")
        if not self._host.alive:
            raise RecordsUnavailable("nobody is there any more")

    async def _travel(self) -> None:
        slow = self._chance.random() < self._faults[0]
        await asyncio.sleep(self._chance.uniform(0.0, SLOW_MAX_S if slow else COMMIT_MAX_S))
