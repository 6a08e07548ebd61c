"""Comparing a ledger with the records in the worker: after each new ownership, and every so often.

A count that was wrong in what a server kept over a restart is sold from until somebody compares. So each new epoch is
compared at once, by the worker whose recorder leads, and what a rebuild mends is mended. The programs of a worker take
turns. A repair owns the ledger under an epoch that was compared in the same turn, so that it never leads to another.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from reservasi.errors import JournalGap, LedgerFault, RebuildRefused, Unavailable
from reservasi.logs import get_logger
from reservasi.worker.reconciliation import Reconciled, Reconciler

log = get_logger()

COMPARISON_MAX_S = 600.0  # a ledger of millions of reservations; the others' turn comes after it
RETRY_S = 10.0  # before a new epoch that could not be compared is looked at again


class DriftWatch:
    """Compares one program."""

    def __init__(
        self,
        program: str,
        reconciler: Reconciler,
        *,
        repair: Callable[[], Awaitable[Reconciled]] | None,
        leads: Callable[[], bool],
        turn: asyncio.Lock,
    ) -> None:
        """`repair` rebuilds a ledger that differs, None leaves that to a person; `turn` is shared by all programs."""
        self._program = program
        self._reconciler = reconciler
        self._repair = repair
        self._leads = leads
        self._turn = turn
        self._wanted = asyncio.Event()
        self._owned_epoch = 0
        self._compared_epoch = 0
        self._not_before_s = 0.0

    def note_owned(self, epoch: int) -> None:
        """The ledger was found owned under that epoch: a new one is compared as soon as the recorder leads."""
        self._owned_epoch = epoch
        if epoch != self._compared_epoch and self._leads() and time.monotonic() >= self._not_before_s:
            self._wanted.set()

    async def run(self, stop: asyncio.Event, interval_s: float) -> None:
        """Compare until told to stop, which ends a comparison, but no repair; `interval_s` 0: only new epochs."""
        ending = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                wanted = asyncio.create_task(self._wanted.wait())
                await asyncio.wait((ending, wanted), timeout=interval_s or None, return_when=asyncio.FIRST_COMPLETED)
                wanted.cancel()
                if not stop.is_set():
                    await self._look(ending)
                    self._wanted.clear()  # where another epoch is owned by now, the owner's next look says so
        finally:
            ending.cancel()

    async def _look(self, ending: "asyncio.Task[bool]") -> None:
        is_new = self._owned_epoch != self._compared_epoch
        try:
            async with self._turn:
                found = await self._found(ending)
                if found is not None:
                    self._report(found)
                    await self._settle(found, is_new=is_new)
        except (Unavailable, LedgerFault, JournalGap, RebuildRefused, TimeoutError) as error:
            self._not_before_s = time.monotonic() + RETRY_S
            log.warning("not_reconciled", program=self._program, reason=str(error) or type(error).__name__)
        except Exception:  # the role goes on
            self._not_before_s = time.monotonic() + RETRY_S
            log.exception("reconciliation_failed", program=self._program)

    async def _found(self, ending: "asyncio.Task[bool]") -> Reconciled | None:
        """What differs; None when told to stop before that is known."""
        if ending.done():
            return None
        comparing = asyncio.create_task(self._reconciler.run())
        try:
            await asyncio.wait((ending, comparing), timeout=COMPARISON_MAX_S, return_when=asyncio.FIRST_COMPLETED)
            if comparing.done():
                return comparing.result()
            if ending.done():
                return None
            raise TimeoutError(f"the comparison took longer than {COMPARISON_MAX_S:.0f} s")
        finally:
            if not comparing.done():
                comparing.cancel()
                await asyncio.gather(comparing, return_exceptions=True)

    async def _settle(self, found: Reconciled, *, is_new: bool) -> None:
        """Mend what differs under a new epoch, and remember which one was compared."""
        if is_new and self._repair is not None and self._leads() and is_mended_by_rebuilding(found):
            found = await self._repair()
            log.warning("drift_repaired", program=self._program, repaired=found.repaired, lost=found.lost)
            self._report(found)
        if found.kinds.get("unrecorded"):
            self._not_before_s = time.monotonic() + RETRY_S
        elif not found.kinds.get("ledger"):  # fenced again meanwhile: whoever owns it next says so
            self._compared_epoch = found.epoch

    def _report(self, found: Reconciled) -> None:
        if found.drift:
            kinds = {kind: count for kind, count in found.kinds.items() if count}
            log.error("ledger_and_records_differ", program=self._program, seq=found.seq, **kinds)
            if found.settled or found.unread:
                log.error(
                    "repair_left_to_a_person", program=self._program, settled=len(found.settled), unread=found.unread
                )


def is_mended_by_rebuilding(found: Reconciled) -> bool:
    """Whether the records are whole, so that a rebuild from them mends all that differs and forgets nothing.

    Where the records themselves lack something, such as an event among the dead letters, only the ledger may know it:
    also once a person has settled the letter, and where a reservation that the records never had is damaged, or fits no
    row.
    """
    if found.settled or found.unread:
        return False
    return 0 < found.repairable == sum(found.kinds.values()) and not found.kinds.get("ledger")
