"""Keeping one program's view in step with its journal."""

import asyncio
import random
from collections.abc import Callable

import structlog

from reservasi.availability.view import ProgramView
from reservasi.errors import JournalGap, LedgerFault, Unavailable
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.ending import end_tasks
from reservasi.ledger.journal import Journal
from reservasi.metrics import VIEW_READY, VIEW_RESYNCS

log = structlog.get_logger()

ENTRY_EVENTS_MAX = 5000  # applied before other work gets its turn
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.0
SNAPSHOT_TIMEOUT_S = 5.0
META_TIMEOUT_S = 2.0
LOOK_INTERVAL_S = 0.5  # between two looks at whether the ledger is still the one that is followed
CLOCK_JUMP_MS = 5000
IDLE_AFTER_S = 5.0  # without a change, and without anybody whom the view could refuse
IDLE_BLOCK_MS = 1000  # how long a read waits then: a program at rest asks for a twentieth of the reads
GATHER_S = 0.02  # by which a view may lag more in a rush; far below what may be shown, and what is called stale


class Follower:
    """Keeps one view in step with its journal, for as long as the process lives."""

    def __init__(
        self,
        program: str,
        connection: LedgerConnection,
        journal: Journal,
        *,
        note_change: Callable[[], int],
        block_ms: int,
    ) -> None:
        self.view = ProgramView()
        self.ready = False
        self.fresh_at = float("-inf")  # by the event loop's clock: when the view last was all there was
        self.clock_offset_ms = 0.0  # ledger's clock minus the event loop's
        self.needed_at = float("-inf")  # by the event loop's clock: when it last mattered whether the view is fresh
        self._program = program
        self._connection = connection
        self._journal = journal
        self._note_change = note_change  # tells the views' readers, and returns the new version
        self._block_ms = block_ms
        self.task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop following."""
        await end_tasks([self.task])
        await self._connection.drop()

    async def _run(self) -> None:
        pause_s = PAUSE_MIN_S
        while True:
            try:
                if await self._take_snapshot():
                    pause_s = PAUSE_MIN_S
                    await self._follow()
            except (Unavailable, JournalGap, LedgerFault) as error:
                log.warning("view_lost_the_journal", program=self._program, error=str(error))
            except Exception:  # a view that stopped following without a word would mislead everybody
                log.exception("view_failed", program=self._program)
            self._set_ready(False)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _take_snapshot(self) -> bool:
        """A place in the journal to follow from; False while the ledger is fenced."""
        snapshot = await self._connection.snapshot(SNAPSHOT_TIMEOUT_S)
        if snapshot is None:
            return False
        self.needed_at = asyncio.get_running_loop().time()
        self.clock_offset_ms = snapshot.now_ms - self.needed_at * 1000
        # Ids read after the snapshot may be too many, never too few: one that is too many only costs a ledger call.
        ids = [reservation_id async for reservation_id in self._journal.reservation_ids()]
        self.view.reset(snapshot, ids, self._note_change())
        self._set_ready(True)
        VIEW_RESYNCS.labels(self._program).inc()
        return True

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        look_at_s = loop.time() + LOOK_INTERVAL_S
        while True:
            idle = loop.time() - self.needed_at > IDLE_AFTER_S
            block_ms = max(self._block_ms, IDLE_BLOCK_MS) if idle else self._block_ms
            entries = await self._journal.read(self.view.position, ENTRY_EVENTS_MAX, block_ms)
            if loop.time() >= look_at_s and not entries:
                await self._check_ledger()
                look_at_s = loop.time() + LOOK_INTERVAL_S
            if entries:
                version = self._note_change()
                for entry in entries:
                    self.view.apply(entry, version)
                self._follow_clock(entries[-1].at_ms - loop.time() * 1000)
            self.fresh_at = loop.time()
            if entries:
                self.needed_at = self.fresh_at
                await asyncio.sleep(GATHER_S)  # in a rush a read costs as much for one entry as for ten

    def _follow_clock(self, offset_ms: float) -> None:
        """Read late, an entry makes the clock seem slow: what is ahead is believed, or a clock that was set back."""
        if offset_ms > self.clock_offset_ms or offset_ms < self.clock_offset_ms - CLOCK_JUMP_MS:
            self.clock_offset_ms = offset_ms

    async def _check_ledger(self) -> None:
        """A journal in which nothing new appears may be another one: an emptied or restored server's.

        Raises:
            JournalGap: the ledger is not owned, or is not where this view has seen it.
        """
        meta = await self._connection.meta(META_TIMEOUT_S)
        seen, here = meta.position, self.view.position
        same_seq_other_chain = seen.seq == here.seq and seen.chain != here.chain
        if not meta.owned or (seen.epoch, seen.seq) < (here.epoch, here.seq) or same_seq_other_chain:
            raise JournalGap("the ledger is not the one that was followed, or waits to be owned")

    def _set_ready(self, ready: bool) -> None:
        self.ready = ready
        VIEW_READY.labels(self._program).set(int(ready))
        if not ready:
            self.fresh_at = float("-inf")
