"""The records as the rest of the service uses them: one object over a bounded pool."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from reservasi.contents import LedgerState
from reservasi.events import JournalEntry
from reservasi.model import Position
from reservasi.records import (
    audit,
    bookings,
    catalogue,
    dead_letters,
    erasure,
    openings,
    ownership,
    partitions,
    removal,
    restoration,
    staff,
    transaction,
)
from reservasi.records.pool import (
    Connection,
    Lead,
    Pool,
    close_pool,
    connection_of,
    long_connection,
    open_lead,
    open_pool,
)
from reservasi.records.restoration import KnownEvents, Restored
from reservasi.records.standing import Standing
from reservasi.records.transaction import Batch, Recorded
from reservasi.records.writes import BookingCode

RESTORE_TIMEOUT_S = 600.0  # of one statement over a whole program

P = ParamSpec("P")
T = TypeVar("T")


def _pooled(
    query: Callable[Concatenate[Connection, P], Awaitable[T]],
) -> Callable[Concatenate["Records", P], Coroutine[Any, Any, T]]:
    """Make a method that runs the query on a connection of the pool, with the query's signature and docstring."""

    @wraps(query)
    async def run(self: "Records", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with connection_of(self._pool) as connection:
            return await query(connection, *args, **kwargs)

    return run


class Records:
    """All queries of the service to PostgreSQL. Every method raises `RecordsUnavailable` when it does not answer.

    A missing table or column raises `SchemaMissing`.
    """

    def __init__(self, dsn: str, pool: Pool) -> None:
        self._dsn = dsn
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str, pool_max: int) -> "Records":
        """Connect; `dsn` in asyncpg's form, such as `postgresql://reservasi@/reservasi?host=/run/reservasi`."""
        return cls(dsn, await open_pool(dsn, pool_max))

    async def close(self) -> None:
        await close_pool(self._pool)

    async def ping(self) -> None:
        """Return when the database answers."""
        async with connection_of(self._pool) as connection:
            await connection.fetchval("SELECT 1")

    # -- recording -----------------------------------------------------------------------------------------------

    position = _pooled(transaction.stored_position)

    async def record(
        self,
        program: str,
        expected: Position | None,
        entries: Batch | Sequence[JournalEntry],
        *,
        booking_code: BookingCode,
    ) -> Recorded:
        """Write the entries after `expected` (at least one) and the position after them in one transaction.

        After `RecordsUnavailable` it is unknown whether the transaction was committed: read `position` before trying
        again.

        Raises:
            StaleRecorder: the recorded position is not `expected`, or an entry is of an epoch that was left before;
                nothing was written.
        """
        batch = entries if isinstance(entries, Batch) else Batch.of(program, entries, booking_code)
        async with connection_of(self._pool) as connection:
            return await transaction.record(connection, program, expected, batch, booking_code)

    def lead(self, program: str) -> contextlib.AbstractAsyncContextManager[Lead]:
        """A connection outside the pool that can take the right to record the program."""
        return self._lead(f"recorder {program}")

    def rebuilding(self, program: str) -> contextlib.AbstractAsyncContextManager[Lead]:
        """A connection that can take the right to rebuild the program's ledger; meanwhile nobody else can claim an
        epoch.
        """
        return self._lead(f"rebuild {program}")

    def importing(self, program: str) -> contextlib.AbstractAsyncContextManager[Lead]:
        """A connection that can take the right to import the program."""
        return self._lead(f"import {program}")

    @contextlib.asynccontextmanager
    async def _lead(self, purpose: str) -> AsyncIterator[Lead]:
        lead = await open_lead(self._dsn, purpose)
        try:
            yield lead
        finally:
            await lead.close()

    @contextlib.asynccontextmanager
    async def standing(self, program: str) -> AsyncIterator[Standing]:
        """What the program's ledger must hold, at one position, during the block."""
        async with (
            connection_of(self._pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield await Standing.read(connection, program)

    # -- ownership -----------------------------------------------------------------------------------------------

    epochs = _pooled(ownership.load_epochs)
    owned_runs = _pooled(ownership.load_runs)
    claim_epoch = _pooled(ownership.claim_epoch)
    lift_bar = _pooled(ownership.lift_bar)
    branch_off = _pooled(ownership.branch_off)
    bound = _pooled(ownership.bound)
    bind = _pooled(ownership.bind)

    async def restore(
        self,
        program: str,
        expected: Position | None,
        state: LedgerState,
        known_events: Sequence[KnownEvents],
        *,
        booking_code: BookingCode,
        forgotten_ms: int,
    ) -> Restored:
        """`restoration.restore` on a separate connection, since a statement may take minutes."""
        async with long_connection(self._dsn, RESTORE_TIMEOUT_S) as connection:
            return await restoration.restore(
                connection, program, expected, state, known_events, booking_code=booking_code, forgotten_ms=forgotten_ms
            )

    lacking = _pooled(restoration.read_lacking)

    # -- reservations --------------------------------------------------------------------------------------------

    booking = _pooled(bookings.find_booking)
    hold = _pooled(bookings.find_hold)
    live_in = _pooled(bookings.live_in)
    live_of = _pooled(bookings.live_of)
    count_bookings = _pooled(bookings.count_bookings)
    count_holds = _pooled(bookings.count_holds)
    booking_ids = _pooled(bookings.booking_ids)
    erase_person = _pooled(erasure.erase_person)

    dead_letter_count = _pooled(dead_letters.count_open)
    dead_reservations = _pooled(dead_letters.dead_reservations)
    has_settled_letters = _pooled(dead_letters.has_settled)
    try_dead_letter = _pooled(dead_letters.try_again)
    settle_dead_letters = _pooled(dead_letters.settle)
    dead_letters = _pooled(dead_letters.read_letters)

    # -- programs, quotas, openings ------------------------------------------------------------------------------

    save_program = _pooled(catalogue.save_program)
    programs = _pooled(catalogue.load_programs)
    quota_rows = _pooled(catalogue.load_quotas)
    quota_row = _pooled(catalogue.find_quota)
    openings = _pooled(openings.load_openings)
    make_room = _pooled(partitions.make_room)
    removal_obstacles = _pooled(removal.obstacles)
    remove_program = _pooled(removal.remove_program)
    is_removed = _pooled(removal.is_removed)
    begins_anew = _pooled(removal.begins_anew)
    audit = _pooled(audit.read_audit)

    # -- staff ---------------------------------------------------------------------------------------------------

    add_staff = _pooled(staff.add_staff)
    staff_by_key_hash = _pooled(staff.find_staff)
    staff_keys = _pooled(staff.list_staff)
    revoke_staff = _pooled(staff.revoke_staff)
    rotate_staff = _pooled(staff.rotate_staff)
    rename_staff = _pooled(staff.rename_staff)
    note_staff_use = _pooled(staff.note_use)
    staff_changes = _pooled(staff.staff_changes)
