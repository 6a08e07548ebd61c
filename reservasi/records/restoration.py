"""Record a program again from its ledger when the records are an older copy, in one transaction.

The ledger's state is compared with the rows, and the difference is written as if one batch of the journal had caused
it. The gap in the journal is noted, so that it is not reported as a loss; ended holds and returning places of the gap
are stored beside the journal. Rows of reservations that the ledger has forgotten stay unchanged.
"""

from collections.abc import Sequence

import msgspec

from reservasi.contents import LedgerState
from reservasi.errors import RebuildRefused
from reservasi.model import Position
from reservasi.records.difference import ENVELOPE, Difference, read_rows
from reservasi.records.ownership import load_epochs
from reservasi.records.pool import Connection, lacks_partition
from reservasi.records.transaction import UNFIT, move_position
from reservasi.records.writes import BookingCode, apply_effects, new_rows

NEW_EPOCHS = """
INSERT INTO epochs (program, epoch, base_seq, run_id)
SELECT $1, epoch, base_seq, '' FROM unnest($2::bigint[], $3::bigint[]) AS c(epoch, base_seq)
ON CONFLICT (program, epoch) DO UPDATE SET base_seq = greatest(epochs.base_seq, excluded.base_seq)
"""
LAST_BEFORE = """
SELECT last_seq FROM journal WHERE program = $1 AND first_seq < $2 ORDER BY epoch DESC, first_seq DESC LIMIT 1
"""
JOURNAL_COLUMNS = ("program", "epoch", "first_seq", "last_seq", "at_ms", "chain", "payload")
KNOWN_COLUMNS = ("program", "epoch", "first_seq", "at_ms", "payload")
LACKING_COLUMNS = ("program", "reservation_id", "held_epoch", "held_seq", "lacks")
NOTE = """
INSERT INTO restorations (program, epoch, seq, from_epoch, from_seq, last_seq, next_seq, bookings, holds, ended,
  without_envelope)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
LACKING = """
SELECT lacks FROM restored_reservations WHERE program = $1 AND reservation_id = $2
ORDER BY held_epoch DESC, held_seq DESC LIMIT 1
"""


class KnownEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Events of the gap that follow from the ledger's state, packed like a journal entry."""

    epoch: int
    first_seq: int
    at_ms: int
    payload: bytes


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What one restoration recorded."""

    bookings: int = 0  # confirmed ones that the records did not have
    holds: int = 0
    ended: int = 0  # reservations whose end was not recorded
    without_envelope: int = 0  # bookings and holds whose names and contacts are lost
    quotas: int = 0
    openings: int = 0
    entries: int = 0  # of the journal
    gap: int = 0  # changes without a journal entry; their audit rows are lost
    left_out: int = 0  # reservations whose stored value cannot be read or does not fit a row


async def restore(
    connection: Connection,
    program: str,
    expected: Position | None,
    state: LedgerState,
    known_events: Sequence[KnownEvents],
    *,
    booking_code: BookingCode,
    forgotten_ms: int,
) -> Restored:
    """Bring the records to the ledger's state, and move the position from `expected` to the ledger's.

    Raises:
        StaleRecorder: the position is not `expected`; nothing was written.
        RebuildRefused: ledger and records contradict each other; nothing was written.
    """
    try:
        async with connection.transaction():
            await move_position(connection, program, expected, state.position)
            difference = Difference(state, await read_rows(connection, program, state), forgotten_ms)
            effects = difference.effects()
            await apply_effects(connection, program, effects, new_rows(program, effects, booking_code), booking_code)
            await _write_history(connection, program, state, known_events)
            return await _note(connection, program, expected, state, difference)
    except UNFIT as error:
        if lacks_partition(error):
            raise
        message = str(error.args[0]) if error.args else type(error).__name__
        raise RebuildRefused(
            f"the ledger of {program} and the records contradict each other ({message}): the records are not an older "
            "copy of the ledger; nothing was changed"
        ) from error


async def read_lacking(connection: Connection, program: str, reservation_id: str) -> tuple[str, ...]:
    """The parts that a reservation's row lacks since it was restored: envelope, payment_reference, times."""
    lacking = await connection.fetchval(LACKING, program, reservation_id)
    return tuple(lacking.split(",")) if lacking else ()


async def _write_history(
    connection: Connection, program: str, state: LedgerState, known_events: Sequence[KnownEvents]
) -> None:
    have = {row.epoch: row.base_seq for row in await load_epochs(connection, program)}
    new = [(epoch, base_seq) for epoch, base_seq in state.lineage if have.get(epoch, -1) < base_seq]
    if new:
        await connection.execute(NEW_EPOCHS, program, *(list(column) for column in zip(*new, strict=True)))
    journal = [
        (program, each.epoch, each.first_seq, each.position.seq, each.at_ms, each.chain, each.payload)
        for each in state.entries
    ]
    events = [(program, *msgspec.structs.astuple(each)) for each in known_events]
    await connection.copy_records_to_table("journal", records=journal, columns=JOURNAL_COLUMNS)
    await connection.copy_records_to_table("restored_events", records=events, columns=KNOWN_COLUMNS)


def restored_by(state: LedgerState, difference: Difference, expected: Position | None) -> Restored:
    """The report of a restoration that applies the effects of the difference to records at `expected`."""
    return Restored(
        bookings=len(difference.new_bookings) + len(difference.moved),
        holds=len(difference.new_holds),
        ended=len(difference.ended),
        without_envelope=sum(ENVELOPE in lacks.split(",") for lacks in difference.lacking.values()),
        quotas=len(state.quotas),
        openings=len(state.openings),
        entries=len(state.entries),
        gap=state.first_told_seq - (expected.seq if expected else 0) - 1,
        left_out=difference.left_out,
    )


async def _note(
    connection: Connection, program: str, expected: Position | None, state: LedgerState, difference: Difference
) -> Restored:
    """Note the gap and the parts that could not be restored, and return the counts."""
    next_seq = state.first_told_seq
    last_seq = int(await connection.fetchval(LAST_BEFORE, program, next_seq) or 0)
    start = expected or Position(epoch=0, seq=0)
    restored = restored_by(state, difference, expected)
    lacking = [(program, *key, lacks) for key, lacks in difference.lacking.items()]
    await connection.copy_records_to_table("restored_reservations", records=lacking, columns=LACKING_COLUMNS)
    counts = (restored.bookings, restored.holds, restored.ended, restored.without_envelope)
    at = (state.position.epoch, state.position.seq, start.epoch, start.seq)
    await connection.execute(NOTE, program, *at, last_seq, next_seq, *counts)
    return restored
