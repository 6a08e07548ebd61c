"""Owning the ledger: no run of its server sells before it has been compared with the records.

A fresh, restarted, emptied, restored or failed-over ledger answers `fenced`, since the run id that its `meta` names is
not the server's. Here it is compared with what PostgreSQL has. Equal or ahead along the same chain: it is owned and
the journal drained. Behind, or on another chain: it stays fenced, since selling from it would sell places twice.
"""

import asyncio
from enum import StrEnum

import structlog

from reservasi.errors import JournalGap, LedgerFault, Unavailable
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal import Journal
from reservasi.metrics import LEDGER_OWNED
from reservasi.model import Position
from reservasi.records import Records

log = structlog.get_logger()

CALL_TIMEOUT_S = 5.0
LOOK_INTERVAL_S = 0.2
DRAIN_EVENTS_MAX = 2000  # read at once while the chain is checked


class Ownership(StrEnum):
    """What came of an attempt to own a ledger."""

    OWNED = "owned"  # this run may sell
    BEHIND = "behind"  # the records have seen more than the ledger knows
    DIVERGED = "diverged"  # ledger and records tell different histories
    SUPERSEDED = "superseded"  # another server's ledger was owned after this one
    MOVED = "moved"  # somebody else was at it: look again


async def own_ledger(program: str, connection: LedgerConnection, journal: Journal, records: Records) -> Ownership:
    """Compare a program's ledger with the records, and own it when nothing that is recorded would be forgotten.

    Each run of a server is owned under an epoch of its own, claimed in the records first: what a ledger accepted and
    lost before can then never be taken for what it accepts under the same seq afterwards.

    Raises:
        LedgerUnreachable, RecordsUnavailable, LedgerFault: it could not be compared; nothing was changed.
    """
    meta = await connection.meta(CALL_TIMEOUT_S)
    seen = meta.position
    epochs = await records.epochs(program)
    latest = epochs[-1] if epochs else None
    if meta.owned and (latest is None or latest.epoch <= seen.epoch):
        return Ownership.OWNED
    if meta.owned and latest is not None and latest.run_id != meta.run_id:
        return Ownership.SUPERSEDED
    recorded = await records.position(program) or Position(epoch=0, seq=0)
    if (seen.epoch, seen.seq) < (recorded.epoch, recorded.seq):
        return Ownership.BEHIND
    if not await _leads_to(journal, recorded, seen):
        return Ownership.DIVERGED
    epoch = max(seen.epoch, latest.epoch if latest else 0) + 1
    if not await records.claim_epoch(program, epoch, seen.seq, meta.run_id):
        return Ownership.MOVED
    outcome = await connection.own(seen, epoch, CALL_TIMEOUT_S)
    return Ownership.OWNED if outcome == "owned" else Ownership.MOVED


async def _leads_to(journal: Journal, recorded: Position, tip: Position) -> bool:
    """Whether the journal goes on from the recorded position, link by link, to where the ledger says it is."""
    position = recorded
    try:
        while position.seq < tip.seq:
            entries = await journal.read(position, DRAIN_EVENTS_MAX, 0)
            if not entries:
                return False
            position = entries[-1].position
    except JournalGap as gap:
        log.warning("ledger_diverged", error=str(gap))
        return False
    return (position.seq, position.chain) == (tip.seq, tip.chain)


class Owner:
    """Watches one program's ledger, and owns it whenever a new run of its server may be trusted."""

    def __init__(self, program: str, connection: LedgerConnection, journal: Journal, records: Records) -> None:
        self._program = program
        self._connection = connection
        self._journal = journal
        self._records = records
        self._last: Ownership | str = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Look at the ledger until told to stop."""
        while not stop.is_set():
            await self._look()
            try:
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await stop.wait()
            except TimeoutError:
                continue
        await self._connection.drop()

    async def _look(self) -> None:
        result: Ownership | str
        try:
            result = await own_ledger(self._program, self._connection, self._journal, self._records)
        except (Unavailable, LedgerFault) as error:
            result = str(error)
        except Exception as error:  # nobody else would own the ledger again
            log.exception("ledger_ownership_failed", program=self._program)
            result = f"{type(error).__name__}"
        LEDGER_OWNED.labels(self._program).set(int(result == Ownership.OWNED))
        if result != self._last:  # said when it changes, not five times a second
            level = log.info if result == Ownership.OWNED else log.error
            level("ledger_ownership", program=self._program, result=str(result))
            self._last = result
