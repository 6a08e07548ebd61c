"""Repairs a ledger that differs from the records, when several processes may do so at once.

A process that compares a ledger during another one's rebuild sees differences, and its own rebuild would undo what the
other is about to check. So each waits for its turn, compares again, rebuilds only what still differs, and checks the
result before the next turn.
"""

from collections.abc import Callable

import msgspec

from reservasi.worker.rebuild import Progress, Rebuilder, refuse_to_give_up
from reservasi.worker.reconciliation import Reconciled, Reconciler

TURN_WAIT_S = 300.0  # for comparisons and rebuilds of other processes


async def repaired(
    reconciler: Reconciler,
    rebuilder: Rebuilder,
    *,
    only_where: Callable[[Reconciled], bool] | None = None,
    progress: Progress | None = None,
    wait_s: float = TURN_WAIT_S,
) -> Reconciled:
    """The remaining differences after a rebuild, or after another process's turn that left nothing to repair.

    `only_where` decides about the differences of our turn.

    Raises:
        RebuildRefused: the ledger could only be discarded, or only it has the changes of dead letters, open or settled.
        LedgerMoved: others had the turn for `wait_s`; RecordsUnavailable, LedgerUnreachable, LedgerFault, JournalGap:
            it is not finished, and can be repeated.
    """
    async with rebuilder.alone(wait_s):
        before = await reconciler.run()
        if not before.repairable or (only_where and not only_where(before)):
            return before
        refuse_to_give_up(before.program, before.settled)
        report = await rebuilder.run_alone(force=True, progress=progress)
        after = await reconciler.run()
    return msgspec.structs.replace(after, repaired=before.repairable, lost=report.lost)
