"""Repairing a ledger that differs from the records, however many want to at once.

Who sees a ledger that another one is rebuilding sees drift, and a rebuild of their own would undo what the other is
about to judge. So each waits for their turn, compares again in it, rebuilds only what still differs then, and judges
the result before the next one's turn.
"""

import msgspec

from reservasi.rebuild import Progress, Rebuilder
from reservasi.reconciliation import Reconciled, Reconciler

TURN_WAIT_S = 300.0  # for the others' comparisons and rebuilds


async def repaired(
    reconciler: Reconciler, rebuilder: Rebuilder, *, progress: Progress | None = None, wait_s: float = TURN_WAIT_S
) -> Reconciled:
    """What differs once the ledger was rebuilt, or once somebody else's turn has left nothing to repair.

    Raises:
        RebuildRefused: the ledger could only be discarded.
        LedgerMoved: others were at it for `wait_s`; RecordsUnavailable, LedgerUnreachable, LedgerFault, JournalGap: it
            is not finished, and can be begun anew.
    """
    async with rebuilder.alone(wait_s):
        before = await reconciler.run()
        if not before.repairable:
            return before
        report = await rebuilder.run_alone(force=True, progress=progress)
        after = await reconciler.run()
    return msgspec.structs.replace(after, repaired=before.repairable, lost=report.lost)
