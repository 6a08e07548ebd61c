"""Why a program's ledger sells nothing, in words: recovery's comparison, without changing anything."""

from reservasi.bootstrap import Operations
from reservasi.errors import JournalGap, LedgerFenced
from reservasi.ledger.wire import Snapshot
from reservasi.model import Position

CALL_TIMEOUT_S = 5.0


async def require_snapshot(operations: Operations, program: str) -> Snapshot:
    """Every quota of a program as the ledger has them now.

    Raises:
        LedgerFenced: the ledger sells nothing now; the message says why.
    """
    connection = operations.ledgers.connection(program)
    try:
        snapshot = await connection.snapshot(CALL_TIMEOUT_S)
    finally:
        await connection.drop()
    if snapshot is None:
        raise LedgerFenced(f"the ledger of {program} is fenced: {await fence_cause(operations, program)}")
    return snapshot


async def fence_cause(operations: Operations, program: str) -> str:
    """What recovery finds where it compares a fenced ledger with the records."""
    connection = operations.ledgers.connection(program)
    try:
        seen = (await connection.meta(CALL_TIMEOUT_S)).position
    finally:
        await connection.drop()
    recorded = await operations.records.position(program) or Position(epoch=0, seq=0)
    places = f"it is at {_words(seen)}, the records at {_words(recorded)}"
    if (seen.epoch, seen.seq) < (recorded.epoch, recorded.seq):
        return f"behind, {places}: selling from it would sell places twice"
    if not await _goes_on(operations, program, recorded, seen):
        return f"diverged, {places}, and its journal does not go on from there"
    return f"not compared with the records yet, {places}: is a worker running?"


async def _goes_on(operations: Operations, program: str, recorded: Position, seen: Position) -> bool:
    """Whether the first entry after the recorded position chains to it; what follows is for recovery to walk."""
    if seen.seq == recorded.seq:
        return seen.chain == recorded.chain
    try:
        return bool(await operations.ledgers.journal(program).read(recorded, 1, 0))
    except JournalGap:
        return False


def _words(position: Position) -> str:
    return f"epoch {position.epoch}, seq {position.seq}" if position.epoch else "nothing"
