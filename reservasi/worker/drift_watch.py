"""Compares a ledger with the records in the worker: after each new ownership, and at an interval.

A wrong count that a server kept over a restart would be sold from until somebody compares. So each new epoch is
compared at once, by the worker whose recorder leads, and differences that a rebuild can repair are repaired. The
programs of a worker take turns. A repair owns the ledger under an epoch that was compared in the same turn, so that it
does not lead to another one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from reservasi.errors import JournalGap, LedgerFault, RebuildRefused, Unavailable
from reservasi.logs import get_logger
from reservasi.worker.reconciliation import Reconciled, Reconciler

log = get_logger()

COMPARISON_MAX_S = 600.0  # enough for millions of reservations; then other programs get their turn
RETRY_S = 10.0  # pause before a failed comparison of a new epoch is repeated


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
        """`repair` rebuilds a ledger that differs; None leaves that to an operator. `turn` is shared by all
        programs.
        """
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
        """Compare until `stop`, which interrupts a comparison, but not a repair; `interval_s` 0: only new epochs."""
        ending = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                wanted = asyncio.create_task(self._wanted.wait())
                await asyncio.wait((ending, wanted), timeout=interval_s or None, return_when=asyncio.FIRST_COMPLETED)
                wanted.cancel()
                if not stop.is_set():
                    await self._compare(ending)
                    self._wanted.clear()  # if another epoch is owned by now, the owner reports it with its next check
        finally:
            ending.cancel()

    async def _compare(self, ending: "asyncio.Task[bool]") -> None:
        is_new = self._owned_epoch != self._compared_epoch
        try:
            async with self._turn:
                reconciled = await self._found(ending)
                if reconciled is not None:
                    self._report(reconciled)
                    await self._settle(reconciled, is_new=is_new)
        except (Unavailable, LedgerFault, JournalGap, RebuildRefused, TimeoutError) as error:
            self._not_before_s = time.monotonic() + RETRY_S
            log.warning("comparison_not_done", program=self._program, reason=str(error) or type(error).__name__)
        except Exception:  # the task continues
            self._not_before_s = time.monotonic() + RETRY_S
            log.exception("reconciliation_failed", program=self._program)

    async def _found(self, ending: "asyncio.Task[bool]") -> Reconciled | None:
        """The result of a comparison; None if stopped before it ended."""
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

    async def _settle(self, reconciled: Reconciled, *, is_new: bool) -> None:
        """Repair the differences of a new epoch, and remember the compared epoch."""
        if is_new and self._repair is not None and self._leads() and is_mended_by_rebuilding(reconciled):
            reconciled = await self._repair()
            log.warning("drift_repaired", program=self._program, repaired=reconciled.repaired, lost=reconciled.lost)
            self._report(reconciled)
        if reconciled.kinds.get("unrecorded"):
            self._not_before_s = time.monotonic() + RETRY_S
        elif not reconciled.kinds.get("ledger"):  # fenced again: its next owner reports that
            self._compared_epoch = reconciled.epoch

    def _report(self, reconciled: Reconciled) -> None:
        if reconciled.drift:
            kinds = {kind: count for kind, count in reconciled.kinds.items() if count}
            log.error("ledger_and_records_differ", program=self._program, seq=reconciled.seq, **kinds)
            if reconciled.settled or reconciled.unread:
                log.error(
                    "repair_left_to_operator",
                    program=self._program,
                    settled=len(reconciled.settled),
                    unread=reconciled.unread,
                )


def is_mended_by_rebuilding(reconciled: Reconciled) -> bool:
    """Whether the records are complete, so that a rebuild repairs all differences and loses nothing.

    If the records lack something, such as an event among the dead letters, only the ledger may have it: also after an
    operator settled the letter, and if a reservation that the records never had is damaged or fits no row.
    """
    if reconciled.settled or reconciled.unread:
        return False
    return 0 < reconciled.repairable == sum(reconciled.kinds.values()) and not reconciled.kinds.get("ledger")
