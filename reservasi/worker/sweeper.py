"""Sweeping: expires holds, returns places and deletes tombstones in time, so that views and pages show it.

Correctness does not depend on it: a claim that lacks room runs the timers of its quota itself. Any number may sweep.
"""

import asyncio

from reservasi.errors import LedgerFault, Unavailable
from reservasi.ledger.group_commit import GroupCommit
from reservasi.logs import get_logger
from reservasi.metrics import SWEPT
from reservasi.model import Sweep

log = get_logger()


class Sweeper:
    """Sweeps one program at a steady interval, without a pause while there is more to do."""

    def __init__(self, program: str, group: GroupCommit, *, interval_ms: int, items_max: int) -> None:
        self._program = program
        self._group = group
        self._interval_s = interval_ms / 1000
        self._items_max = items_max

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if await self._sweep() >= self._items_max:
                continue
            try:
                async with asyncio.timeout(self._interval_s):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _sweep(self) -> int:
        """The used part of the limit, 0 if the ledger cannot be reached."""
        try:
            answer = await self._group.submit(Sweep(items_max=self._items_max))
        except (Unavailable, LedgerFault) as error:
            log.debug("sweep_failed", program=self._program, error=str(error))
            return 0
        done = {"expired": answer.expired, "returned": answer.returned, "forgotten": answer.dropped}
        for what, count in done.items():
            SWEPT.labels(self._program, what).inc(count)
        # As in the ledger: holds and places share one limit, tombstones have their own.
        return max(answer.expired + answer.returned, answer.dropped)
