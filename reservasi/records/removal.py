"""Removing a program: it disappears from fronts and workers, and its recorded bookings are kept.

The removal has its own epoch, under which no ledger is ever owned. A copy of the ledger that returns later is therefore
behind the records, and a program that is imported again continues with the next epoch and the next seq, so that nothing
of its new life can be confused with its former one.
"""

import json
from collections.abc import Sequence

import msgspec

from reservasi.errors import RemovalRefused
from reservasi.model import Opening, Position
from reservasi.records.audit import COLUMNS
from reservasi.records.catalogue import QuotaRow, load_quotas
from reservasi.records.openings import load_openings
from reservasi.records.ownership import REMOVED_RUN, load_epochs, take_turn
from reservasi.records.pool import Connection
from reservasi.records.transaction import stored_position

LIVE = """
SELECT (SELECT count(*) FROM holds WHERE program = $1) AS held,
  (SELECT count(*) FROM bookings WHERE program = $1 AND state = 'confirmed' AND retired_at_ms = 0) AS confirmed
"""
KEPT = """
SELECT (SELECT count(*) FROM bookings WHERE program = $1) AS bookings,
  (SELECT count(*) FROM journal WHERE program = $1) AS journal_entries,
  (SELECT count(*) FROM audit WHERE program = $1) AS audit_rows
"""
IS_STORED = "SELECT EXISTS (SELECT FROM programs WHERE id = $1)"
RETIRE_QUOTAS = "UPDATE quotas SET retired_at_ms = $2 WHERE program = $1 AND retired_at_ms = 0"
RETIRE_OPENINGS = "UPDATE openings SET retired_at_ms = $2 WHERE program = $1 AND retired_at_ms = 0"
ADD_EPOCH = "INSERT INTO epochs (program, epoch, base_seq, run_id) VALUES ($1, $2, $3, $4)"
MOVE_POSITION = "UPDATE positions SET epoch = $2, updated_at = now() WHERE program = $1"
DELETE_PROGRAM = "DELETE FROM programs WHERE id = $1"


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What a removal took out of ledger and views, and what the records keep."""

    quotas: int = 0
    openings: int = 0
    bookings: int = 0  # this and the following are kept
    journal_entries: int = 0
    audit_rows: int = 0


async def obstacles(connection: Connection, program: str, now_ms: int) -> list[str]:
    """Reasons why the program may not be removed, as messages; empty if there are none."""
    live = await connection.fetchrow(LIVE, program)
    assert live is not None  # noqa: S101 - a SELECT of counts has a row
    quotas, openings = await load_quotas(connection, program), await load_openings(connection, program)
    return _obstacles(live["held"], live["confirmed"], quotas, openings, now_ms)


def _obstacles(
    held: int, confirmed: int, quotas: Sequence[QuotaRow], openings: Sequence[Opening], now_ms: int
) -> list[str]:
    reasons = []
    if held or confirmed:
        reasons.append(
            f"people have reservations: {held} are held and {confirmed} confirmed. Cancel or move them "
            "(`reservasi reservation cancel`); a visit that is over leaves `retire_quotas_after_h` later"
        )
    reasons += [
        f"the waiting room of {each.id} is live: cancel the opening (`reservasi opening cancel {each.id}`) or wait for "
        "its end"
        for each in openings
        if each.terms.waiting_room
        and not each.cancelled
        and each.terms.joins_from_ms <= now_ms
        and not _has_ended(each, quotas, now_ms)
    ]
    can_be_claimed = [each for each in quotas if not each.terms.closed and not 0 < each.terms.closes_at_ms <= now_ms]
    if can_be_claimed:
        reasons.append(
            f"{len(can_be_claimed)} quotas can be claimed now or later: close them (`reservasi quota close`), or use "
            "--close-quotas"
        )
    return reasons


def _has_ended(opening: Opening, quotas: Sequence[QuotaRow], now_ms: int) -> bool:
    """Whether it is over, at the latest when all of its quotas have closed for booking."""
    closings = [each.terms.closes_at_ms for each in quotas if opening.terms.covers(each.terms)]
    return opening.ended(now_ms) or (bool(closings) and all(0 < at_ms <= now_ms for at_ms in closings))


async def remove_program(
    connection: Connection, program: str, recorded: Position, *, actor: str, reason: str, now_ms: int
) -> Removed:
    """Delete the program from the catalogue, and retire its quotas and openings. Requires the owner's rights.

    `recorded` is the last position of a ledger that no longer sells.

    Raises:
        RemovalRefused: there is an obstacle, or the recorded position is another one; nothing was changed.
    """
    async with connection.transaction():
        await take_turn(connection, program)
        if (await stored_position(connection, program) or Position(epoch=0, seq=0)) != recorded:
            raise RemovalRefused(f"the records of {program} changed in the meantime: try again")
        if in_the_way := await obstacles(connection, program, now_ms):
            raise RemovalRefused("; ".join(in_the_way))
        epochs = await load_epochs(connection, program)
        epoch = max([recorded.epoch, *(row.epoch for row in epochs)]) + 1
        await connection.execute(ADD_EPOCH, program, epoch, recorded.seq, REMOVED_RUN)
        await connection.execute(MOVE_POSITION, program, epoch)
        quotas = _rows(await connection.execute(RETIRE_QUOTAS, program, now_ms))
        openings = _rows(await connection.execute(RETIRE_OPENINGS, program, now_ms))
        after = json.dumps({"program": "removed", "quotas": quotas, "openings": openings})
        row = (program, epoch, recorded.seq, now_ms, actor, reason, None, None, None, after)
        await connection.copy_records_to_table("audit", records=[row], columns=COLUMNS)
        await connection.execute(DELETE_PROGRAM, program)
        kept = await connection.fetchrow(KEPT, program)
    return Removed(quotas=quotas, openings=openings, **dict(kept or {}))


async def is_removed(connection: Connection, program: str) -> bool:
    """Whether the program was removed and has not been imported again."""
    return not await connection.fetchval(IS_STORED, program) and await begins_anew(connection, program)


async def begins_anew(connection: Connection, program: str) -> bool:
    """Whether no ledger was owned since the program was removed, also if it is stored again."""
    epochs = await load_epochs(connection, program)
    return bool(epochs) and epochs[-1].run_id == REMOVED_RUN


def _rows(status: str) -> int:
    """The number of rows in a PostgreSQL command status, such as "UPDATE 3"."""
    return int(status.rpartition(" ")[2])
