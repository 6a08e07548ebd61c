"""Repairing a ledger that differs from the records, however many want to at once.

Who sees a ledger that another one is rebuilding sees drift, and a rebuild of their own would undo what the other is
about to judge. So each waits for their turn, compares again in it, rebuilds only what still differs then, and judges
the result before the next one's turn.
"""

from collections.abc import Callable

import msgspec

from reservasi.worker.rebuild import Progress, Rebuilder, refuse_to_give_up
from reservasi.worker.reconciliation import Reconciled, Reconciler

TURN_WAIT_S = 300.0  # for the others' comparisons and rebuilds


async def repaired(
    reconciler: Reconciler,
    rebuilder: Rebuilder,
    *,
    only_where: Callable[[Reconciled], bool] | None = None,
    progress: Progress | None = None,
    wait_s: float = TURN_WAIT_S,
) -> Reconciled:
    """What differs once the ledger was rebuilt, or once somebody else's turn has left nothing to repair.

    `only_where` is asked about what differs in our turn.

    Raises:
        RebuildRefused: the ledger could only be discarded, or alone has what dead letters say, open or settled.
        LedgerMoved: others were at it for `wait_s`; RecordsUnavailable, LedgerUnreachable, LedgerFault, JournalGap: it
            is not finished, and can be begun anew.
    """
    async with rebuilder.alone(wait_s):
        before = await reconciler.run()
        if not before.repairable or (only_where and not only_where(before)):
            return before
        refuse_to_give_up(before.program, before.settled)
        report = await rebuilder.run_alone(force=True, progress=progress)
        after = await reconciler.run()
    return msgspec.structs.replace(after, repaired=before.repairable, lost=report.lost)
