"""Explains why a program's ledger sells nothing; changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from reservasi.errors import LedgerFenced

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.ledger.wire.messages import Snapshot
    from reservasi.model import Position
    from reservasi.worker.ledger_owner import Comparison

CALL_TIMEOUT_S = 5.0


async def compare(operations: Operations, program: str) -> Comparison:
    """Compare a program's ledger with the records; if it sells nothing because of unique changes, they are counted."""
    from reservasi.worker.at_stake import count_at_stake
    from reservasi.worker.ledger_owner import ONLY_IN_LEDGER, compare_ledger

    connection = operations.ledgers.connection(program)
    journal = operations.ledgers.journal(program)
    try:
        comparison = await compare_ledger(program, connection, journal, operations.records)
    finally:
        await connection.drop()
    if comparison.verdict not in ONLY_IN_LEDGER:
        return comparison
    return msgspec.structs.replace(comparison, at_stake=await count_at_stake(program, journal, operations.records))


async def require_snapshot(operations: Operations, program: str) -> Snapshot:
    """The program's quotas in the ledger.

    Raises:
        LedgerFenced: the ledger sells nothing now; the message says why.
        ConfigurationError: there is no such program.
    """
    connection = operations.ledgers.connection(program)
    try:
        snapshot = await connection.snapshot(CALL_TIMEOUT_S)
    finally:
        await connection.drop()
    if snapshot is None:
        await operations.program(program)
        raise LedgerFenced(f"the ledger of {program} is fenced: {fence_cause(await compare(operations, program))}")
    return snapshot


def fence_cause(comparison: Comparison) -> str:
    """The result of a comparison as a message."""
    from reservasi.worker.ledger_owner import FROM_LEDGER, Ownership

    causes = {
        Ownership.OWNABLE: "not compared with the records yet, {places}: is a worker running?",
        Ownership.BEHIND: "behind, {places}: selling from it would sell places twice",
        Ownership.DIVERGED: "diverged, {places}, and its journal does not continue from there: {cause}",
        Ownership.RECORDS_OLD: "the records are an older copy and lack changes of the ledger, {places}",
        Ownership.UNREADABLE: "stored in another form, {places}: only the version that wrote it can sell from it",
        Ownership.DAMAGED: "damaged: its stored position is wrong, {places}; a rebuild repairs it",
        Ownership.SUPERSEDED: "superseded, {places}: another server was owned after this one",
    }
    places = f"it is at {_words(comparison.meta.position)}, the records at {_words(comparison.recorded)}"
    words = causes.get(comparison.verdict, "{places}").format(places=places, cause=comparison.cause)
    if comparison.at_stake is not None:
        words += f"; {comparison.at_stake}"
    if comparison.verdict is Ownership.RECORDS_OLD:
        words += f": `{FROM_LEDGER.format(comparison.program)}` restores the records"
    return words


def _words(position: Position) -> str:
    return f"epoch {position.epoch}, seq {position.seq}" if position.epoch else "nothing"
