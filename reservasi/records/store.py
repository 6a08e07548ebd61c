"""The records as the rest of the service sees them: one object over a bounded pool."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence

from reservasi.contents import LedgerState
from reservasi.events import AnyEvent, JournalEntry
from reservasi.model import Opening, Position
from reservasi.programs import Program
from reservasi.records import (
    bookings,
    catalogue,
    dead_letters,
    erasure,
    openings,
    ownership,
    partitions,
    recording,
    removal,
    restoration,
    staff,
)
from reservasi.records.audit import AuditQuery, AuditRow, read_audit
from reservasi.records.bookings import BookingRow, HoldRow, LiveRow
from reservasi.records.catalogue import QuotaRow
from reservasi.records.dead_letters import Letter, LetterOutcome, LetterPosition, Tried
from reservasi.records.erasure import Erasure
from reservasi.records.ownership import EpochRow, OwnedRun
from reservasi.records.pool import Lead, Pool, close_pool, connection_of, long_connection, open_lead, open_pool
from reservasi.records.recording import Batch, Recorded
from reservasi.records.removal import Removed
from reservasi.records.restoration import KnownEvents, Restored
from reservasi.records.staff import StaffChange, StaffRow
from reservasi.records.standing import Standing
from reservasi.records.writes import BookingCode

RESTORE_TIMEOUT_S = 600.0  # for one statement over a whole program


class Records:
    """Everything that is asked of PostgreSQL. Every method raises `RecordsUnavailable` when it does not answer.

    When it answers and lacks a table or a column, that is `SchemaMissing`.
    """

    def __init__(self, dsn: str, pool: Pool) -> None:
        self._dsn = dsn
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str, pool_max: int) -> "Records":
        """Connect; `dsn` as asyncpg takes it, such as `postgresql://reservasi@/reservasi?host=/run/reservasi`."""
        return cls(dsn, await open_pool(dsn, pool_max))

    async def close(self) -> None:
        """Close all connections."""
        await close_pool(self._pool)

    async def ping(self) -> None:
        """Return when the database answers."""
        async with connection_of(self._pool) as connection:
            await connection.fetchval("SELECT 1")

    # -- recording -----------------------------------------------------------------------------------------------

    async def position(self, program: str) -> Position | None:
        """How far the program is recorded; None when nothing is."""
        async with connection_of(self._pool) as connection:
            return await recording.stored_position(connection, program)

    async def record(
        self,
        program: str,
        expected: Position | None,
        entries: Batch | Sequence[JournalEntry],
        *,
        booking_code: BookingCode,
    ) -> Recorded:
        """Write the entries that follow `expected`, at least one, and the position after them, in one transaction.

        After `RecordsUnavailable` nobody knows whether it was committed: ask `position` before trying again.

        Raises:
            StaleRecorder: the recorded position is not `expected`, or an entry is of an epoch that was left before;
                nothing was written.
        """
        batch = entries if isinstance(entries, Batch) else Batch.of(program, entries, booking_code)
        async with connection_of(self._pool) as connection:
            return await recording.record(connection, program, expected, batch, booking_code)

    @contextlib.asynccontextmanager
    async def lead(self, program: str) -> AsyncIterator[Lead]:
        """A connection of its own, outside the pool, that can take the right to record the program."""
        lead = await open_lead(self._dsn, f"recorder {program}")
        try:
            yield lead
        finally:
            await lead.close()

    @contextlib.asynccontextmanager
    async def rebuilding(self, program: str) -> AsyncIterator[Lead]:
        """The same for the right to rebuild the program's ledger; while it is taken nobody else claims an epoch."""
        lead = await open_lead(self._dsn, f"rebuild {program}")
        try:
            yield lead
        finally:
            await lead.close()

    @contextlib.asynccontextmanager
    async def standing(self, program: str) -> AsyncIterator[Standing]:
        """What the program's ledger must hold, at one position, while the block lasts."""
        async with (
            connection_of(self._pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield await Standing.read(connection, program)

    # -- ownership -----------------------------------------------------------------------------------------------

    async def epochs(self, program: str) -> list[EpochRow]:
        """Every lineage that the program's ledger was owned under, ascending."""
        async with connection_of(self._pool) as connection:
            return await ownership.load_epochs(connection, program)

    async def owned_runs(self, program: str) -> list[OwnedRun]:
        """The same with the moments at which they were owned."""
        async with connection_of(self._pool) as connection:
            return await ownership.load_runs(connection, program)

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
        """Begin a lineage that branches off after `base_seq`; False unless it is later than every other so far.

        False as well while somebody rebuilds the ledger; who does so is `alone`. `owned_under` is the epoch that the
        run is owned under now: those that were claimed for it since were never taken up, and bar nothing.

        After `RecordsUnavailable` nobody knows whether it was begun: ask `epochs`, or claim a later one.
        """
        async with connection_of(self._pool) as connection:
            return await ownership.claim_epoch(
                connection, program, epoch, base_seq, run_id, owned_under=owned_under, alone=alone
            )

    async def lift_bar(self, program: str, epoch: int, owned_epoch: int, last_seq: int) -> int:
        """Let entries of `epoch` up to `last_seq` be recorded, which the ledger owned under `owned_epoch` has.

        They may be barred by epochs in between that were claimed for the same run and never taken up. How many were.
        """
        async with connection_of(self._pool) as connection:
            return await ownership.lift_bar(connection, program, epoch, owned_epoch, last_seq)

    async def branch_off(self, program: str, epoch: int, recorded: Position, run_id: str) -> bool:
        """Begin a lineage that goes on from the recorded position; False when that has moved, or the epoch is not new.

        A change that an older lineage accepted after it can be recorded no more.
        """
        async with connection_of(self._pool) as connection:
            return await ownership.branch_off(connection, program, epoch, recorded, run_id)

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
        """Record a program anew from what its ledger knows, and move the position there, or do nothing.

        What the ledger has forgotten ended before `forgotten_ms`; nobody knows more.

        Raises:
            StaleRecorder: the recorded position is not `expected`; RebuildRefused: the two contradict each other.
        """
        async with long_connection(self._dsn, RESTORE_TIMEOUT_S) as connection:
            return await restoration.restore(
                connection, program, expected, state, known, booking_code=booking_code, forgotten_ms=forgotten_ms
            )

    async def lacking(self, program: str, reservation_id: str) -> tuple[str, ...]:
        """What a reservation's row lacks since it was recorded from the ledger: envelope, payment_reference, times."""
        async with connection_of(self._pool) as connection:
            return await restoration.read_lacking(connection, program, reservation_id)

    async def bound(self, name: str) -> str | None:
        """The fact that is stored under that name; None when there is none."""
        async with connection_of(self._pool) as connection:
            return await ownership.bound(connection, name)

    async def bind(self, name: str, value: str) -> str:
        """Hold the deployment to a fact: stores it when none of that name is, and returns the one that is stored.

        A caller who gets another value than their own belongs to another deployment.
        """
        async with connection_of(self._pool) as connection:
            return await ownership.bind(connection, name, value)

    # -- reservations --------------------------------------------------------------------------------------------

    async def booking(self, reservation_id: str) -> BookingRow | None:
        """The booking of a reservation that was confirmed; the latest when the id was used again."""
        async with connection_of(self._pool) as connection:
            return await bookings.find_booking(connection, reservation_id)

    async def hold(self, reservation_id: str) -> HoldRow | None:
        """A hold that is neither confirmed nor ended."""
        async with connection_of(self._pool) as connection:
            return await bookings.find_hold(connection, reservation_id)

    async def live_in(self, program: str, quotas: Sequence[str]) -> list[LiveRow]:
        """Who is held or confirmed in these quotas, by quota."""
        async with connection_of(self._pool) as connection:
            return await bookings.live_in(connection, program, quotas)

    async def count_bookings(self, program: str, state: str | None = None) -> int:
        """How many reservations were ever confirmed, or, given a state, are in it now."""
        async with connection_of(self._pool) as connection:
            return await bookings.count_bookings(connection, program, state)

    async def count_holds(self, program: str) -> int:
        """How many holds are neither confirmed nor ended."""
        async with connection_of(self._pool) as connection:
            return await bookings.count_holds(connection, program)

    async def booking_ids(self, program: str, state: str = "confirmed") -> list[str]:
        """The reservations in that state, sorted; one that is recorded twice appears twice."""
        async with connection_of(self._pool) as connection:
            return await bookings.booking_ids(connection, program, state)

    async def dead_letter_count(self, program: str) -> int:
        """How many events are neither recorded nor settled; anything but 0 wants a person."""
        async with connection_of(self._pool) as connection:
            return await dead_letters.count_open(connection, program)

    async def dead_reservations(self, program: str) -> list[str]:
        """Reservations with an event that is not recorded, settled or not: nobody may call them recorded."""
        async with connection_of(self._pool) as connection:
            return await dead_letters.dead_reservations(connection, program)

    async def settled_reservations(self, program: str) -> list[str]:
        """Reservations with a change that was settled and is in the ledger alone; "" where a change names none."""
        async with connection_of(self._pool) as connection:
            return await dead_letters.settled_reservations(connection, program)

    async def dead_letters(
        self, program: str | None, *, closed: bool = False, after: LetterPosition | None = None, limit: int
    ) -> list[Letter]:
        """Dead letters in the order of their seq, of one program or of all; `closed`: also those that are not open."""
        async with connection_of(self._pool) as connection:
            return await dead_letters.read_letters(connection, program, closed=closed, after=after, limit=limit)

    async def try_dead_letter(
        self, letter: Letter, event: AnyEvent, booking_code: BookingCode, actor: str
    ) -> tuple[Tried, str]:
        """Record an open letter where that can be done now: the owner's right, not a worker's."""
        async with connection_of(self._pool) as connection:
            return await dead_letters.try_again(connection, letter, event, booking_code, actor)

    async def settle_dead_letters(self, ids: Sequence[int], actor: str, reason: str) -> dict[int, LetterOutcome | None]:
        """Close open letters as dealt with by a person; what each was before, None where there is no such letter."""
        async with connection_of(self._pool) as connection:
            return await dead_letters.settle(connection, ids, actor, reason)

    async def erase_person(self, program: str, person: str) -> Erasure:
        """Blank the envelopes of a person's reservations that have ended; the owner's right, not a worker's."""
        async with connection_of(self._pool) as connection:
            return await erasure.erase_person(connection, program, person)

    # -- programs, quotas, staff ---------------------------------------------------------------------------------

    async def save_program(self, program: Program) -> None:
        """Store a program, replacing the one of the same id, and make its partitions: the owner's right.

        Raises:
            ConfigurationError: the id was an archived program's.
        """
        async with connection_of(self._pool) as connection:
            await catalogue.save_program(connection, program)

    async def removal_obstacles(self, program: str, now_ms: int) -> list[str]:
        """Why the program may not be removed, for people; empty where nothing is in the way."""
        async with connection_of(self._pool) as connection:
            return await removal.obstacles(connection, program, now_ms)

    async def remove_program(
        self, program: str, recorded: Position, *, actor: str, reason: str, now_ms: int
    ) -> Removed:
        """Take the program out of the catalogue, its quotas and openings out of the ledger: the owner's right.

        `recorded` is where a ledger ended that nobody sells from any more.

        Raises:
            RemovalRefused: something is in the way, or the records are elsewhere; nothing was changed.
        """
        async with connection_of(self._pool) as connection:
            return await removal.remove_program(
                connection, program, recorded, actor=actor, reason=reason, now_ms=now_ms
            )

    async def is_removed(self, program: str) -> bool:
        """Whether the program was removed, and not imported again since."""
        async with connection_of(self._pool) as connection:
            return await removal.is_removed(connection, program)

    async def begins_anew(self, program: str) -> bool:
        """Whether no ledger was owned since the program was removed, also where it is stored again."""
        async with connection_of(self._pool) as connection:
            return await removal.begins_anew(connection, program)

    async def make_room(self, program: str) -> None:
        """Make the partitions of a program that is not stored, so that it can be recorded: the owner's right."""
        async with connection_of(self._pool) as connection:
            await partitions.make_room(connection, program)

    async def programs(self) -> list[Program]:
        """All programs, by id."""
        async with connection_of(self._pool) as connection:
            return await catalogue.load_programs(connection)

    async def quota_rows(self, program: str) -> list[QuotaRow]:
        """The recorded quotas of a program that its ledger has, by id."""
        async with connection_of(self._pool) as connection:
            return await catalogue.load_quotas(connection, program)

    async def quota_row(self, program: str, quota: str) -> QuotaRow | None:
        """One recorded quota, also when it has left the ledger."""
        async with connection_of(self._pool) as connection:
            return await catalogue.find_quota(connection, program, quota)

    async def openings(self, program: str) -> list[Opening]:
        """The recorded openings of a program that have not left its ledger, by id."""
        async with connection_of(self._pool) as connection:
            return await openings.load_openings(connection, program)

    async def add_staff(
        self,
        name: str,
        role: str,
        key_hash: str,
        *,
        scopes: Sequence[str] | None = None,
        programs: Sequence[str] | None = None,
        expires_at: dt.datetime | None = None,
        actor: str = "",
    ) -> int:
        """Add a staff key, known by the keyed hash of its secret; returns its id.

        `actor` is who does it, here and below, for the changes of keys.

        Raises:
            ConfigurationError: a key that was not revoked has the name.
        """
        async with connection_of(self._pool) as connection:
            return await staff.add_staff(
                connection, name, role, key_hash, scopes=scopes, programs=programs, expires_at=expires_at, actor=actor
            )

    async def audit(self, query: AuditQuery) -> list[AuditRow]:
        """Who changed quotas and openings, and ended reservations, newest first."""
        async with connection_of(self._pool) as connection:
            return await read_audit(connection, query)

    async def staff_by_key_hash(self, key_hash: str) -> StaffRow | None:
        """Whose secret this is, also one that was revoked or has expired; None when it is nobody's."""
        async with connection_of(self._pool) as connection:
            return await staff.find_staff(connection, key_hash)

    async def staff_keys(self) -> list[StaffRow]:
        """All staff keys, those that were revoked last."""
        async with connection_of(self._pool) as connection:
            return await staff.list_staff(connection)

    async def staff_changes(
        self,
        program: str | None = None,
        *,
        first: dt.datetime | None = None,
        until: dt.datetime | None = None,
        limit: int,
    ) -> list[StaffChange]:
        """Who changed staff keys from `first` on and before `until`, newest first; those for one program, or all."""
        async with connection_of(self._pool) as connection:
            return await staff.staff_changes(connection, program, first, until, limit)

    async def revoke_staff(self, name: str, *, actor: str = "") -> StaffRow | None:
        """End a staff key; None when no key of that name is in force."""
        async with connection_of(self._pool) as connection:
            return await staff.revoke_staff(connection, name, actor=actor)

    async def rotate_staff(
        self, name: str, key_hash: str, overlap: dt.timedelta, expires_at: dt.datetime | None = None, *, actor: str = ""
    ) -> StaffRow | None:
        """Give a staff key another secret; the one of before works for `overlap`. None: no such key is in force."""
        async with connection_of(self._pool) as connection:
            return await staff.rotate_staff(connection, name, key_hash, overlap, expires_at, actor=actor)

    async def rename_staff(self, old: str, new: str, *, actor: str = "") -> StaffRow | None:
        """Give a staff key another name; None when no key of the old one is in force.

        Raises:
            ConfigurationError: a key that was not revoked has the new name.
        """
        async with connection_of(self._pool) as connection:
            return await staff.rename_staff(connection, old, new, actor=actor)

    async def note_staff_use(self, used: Mapping[int, dt.datetime]) -> None:
        """Write when staff keys, by their ids, were used last."""
        async with connection_of(self._pool) as connection:
            await staff.note_use(connection, used)
