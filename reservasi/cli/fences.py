"""Why a program's ledger sells nothing, in words; nothing here changes it."""

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
    """A program's ledger beside the records; counted is what only the ledger knows, where it sells nothing for that."""
    from reservasi.worker.at_stake import count_at_stake
    from reservasi.worker.ledger_owner import ONLY_IN_LEDGER, compare_ledger

    connection = operations.ledgers.connection(program)
    journal = operations.ledgers.journal(program)
    try:
        found = await compare_ledger(program, connection, journal, operations.records)
    finally:
        await connection.drop()
    if found.verdict not in ONLY_IN_LEDGER:
        return found
    return msgspec.structs.replace(found, at_stake=await count_at_stake(program, journal, operations.records))


async def require_snapshot(operations: Operations, program: str) -> Snapshot:
    """Every quota of a program as the ledger has them now.

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


def fence_cause(found: Comparison) -> str:
    """What a comparison found, for people."""
    from reservasi.worker.ledger_owner import FROM_LEDGER, Ownership

    causes = {
        Ownership.OWNABLE: "not compared with the records yet, {places}: is a worker running?",
        Ownership.BEHIND: "behind, {places}: selling from it would sell places twice",
        Ownership.DIVERGED: "diverged, {places}, and its journal does not go on from there: {cause}",
        Ownership.RECORDS_OLD: "the records are an older copy of what it knows, {places}",
        Ownership.UNREADABLE: "stored in another form, {places}: only the version that wrote it can sell from it",
        Ownership.DAMAGED: "damaged: what says where it is is wrong, {places}; a rebuild mends it",
        Ownership.SUPERSEDED: "superseded, {places}: another server was owned after this one",
    }
    places = f"it is at {_words(found.meta.position)}, the records at {_words(found.recorded)}"
    words = causes.get(found.verdict, "{places}").format(places=places, cause=found.cause)
    if found.at_stake is not None:
        words += f"; {found.at_stake}"
    if found.verdict is Ownership.RECORDS_OLD:
        words += f": `{FROM_LEDGER.format(found.program)}` records them anew"
    return words


def _words(position: Position) -> str:
    return f"epoch {position.epoch}, seq {position.seq}" if position.epoch else "nothing"
