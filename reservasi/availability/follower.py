"""Keeps one program's view in step with its journal."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from reservasi.availability.view import NotFollowed, ProgramView
from reservasi.errors import JournalGap, LedgerFault, Unavailable
from reservasi.ledger.connection import LedgerConnection, LedgerMeta
from reservasi.ledger.ending_tasks import end_tasks, ignore_failure
from reservasi.ledger.journal.stream import Journal
from reservasi.logs import get_sparing_logger
from reservasi.metrics import VIEW_READY, VIEW_RESYNCS
from reservasi.model import Position

log = get_sparing_logger()

ENTRY_EVENTS_MAX = 5000  # events applied before other tasks may run
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.0
STEADY_S = 5.0  # a view that was followed for so long takes a new snapshot at once
SNAPSHOT_TIMEOUT_S = 5.0
CLOCK_JUMP_MS = 5000
READ_BLOCK_MS = 1000  # how long a read waits for the next change
IDLE_AFTER_S = 5.0  # without a request for which the view must be fresh
PROOFS_MAX = 64  # ledger positions of the last seconds that the view has not reached yet
GATHER_S = 0.02  # additional lag of the view under load; much smaller than `view_stale_ms`


class Follower:
    """Keeps one view in step with its journal for the lifetime of the process."""

    def __init__(
        self,
        program: str,
        connection: LedgerConnection,
        journal: Journal,
        *,
        note_change: Callable[[], int],
        hurry: Callable[[], None],
    ) -> None:
        """`hurry` asks the prover to check at once whether this view is due."""
        self.program = program
        self.view = ProgramView()
        self.ready = False
        self.fault = "no answer yet"  # why the view is not in step
        # by the event loop's clock: the view contains everything that had happened by then
        self.fresh_at = float("-inf")
        self.clock_offset_ms = 0.0  # ledger's clock minus the event loop's
        self.needed_at = float("-inf")  # by the event loop's clock: when a request last needed a fresh view
        self.hurry = hurry
        self._connection = connection
        self._journal = journal
        self._note_change = note_change  # wakes the readers of the view and returns the new version
        self._asked_at = float("-inf")  # when the ledger was last asked for its position
        self._asked_from: Position | None = None  # the view's position at that time
        # (time, ledger position) pairs that the view has not reached yet
        self._proofs: deque[tuple[float, Position]] = deque()
        self._lost: asyncio.Future[Exception] | None = None  # set when following must stop, with the reason
        # Requests that wait until the view is complete; each belongs to a connection, whose number is limited.
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self.task = asyncio.create_task(self._run())

    async def close(self) -> None:
        await end_tasks([self.task])
        self._resolve_waiting(float("inf"))
        await self._connection.drop()

    def when_complete(self, resolve: Callable[[], None]) -> None:
        """Call `resolve` once the view contains everything that has happened by now, or if that cannot be known."""
        self.needed_at = asyncio.get_running_loop().time()
        self._waiting.append((self.needed_at, resolve))
        if self.ready:
            self.hurry()
        else:
            self._resolve_waiting(float("inf"))

    # -- what the prover does --------------------------------------------------------------------------------------

    def due_at(self, now: float, *, busy_s: float, idle_s: float) -> float:
        """When the ledger is to be asked for its position again, by the event loop's clock.

        Every `busy_s` while requests need a fresh view, else every `idle_s`.
        """
        if not self.ready:
            return float("inf")
        if self._waiting and self._waiting[-1][0] > self._asked_at:  # the previous question was sent too early for them
            return now
        return self._asked_at + (idle_s if now - self.needed_at > IDLE_AFTER_S else busy_s)

    def note_asked(self, now: float) -> None:
        """The ledger is being asked for its position."""
        self._asked_at, self._asked_from = now, self.view.position

    def note_answered(self, seen: LedgerMeta) -> None:
        """Handle the ledger's position; the view is lost if it follows something that is no longer sold from."""
        before, self._asked_from = self._asked_from, None
        if before is None:  # the view was reset in the meantime
            return
        same_seq_other_chain = seen.position.seq == before.seq and seen.position.chain != before.chain
        if seen.position.epoch < before.epoch or seen.position.seq < before.seq or same_seq_other_chain:
            self._lose(JournalGap("the ledger is not the one that the view follows"))
        elif 0 < self.view.incomplete_since_epoch < seen.position.epoch:  # a rebuild may have repaired what was damaged
            self._lose(JournalGap("the view lacks what was damaged when it began"))
        elif not seen.owned:  # a restarted server may still answer, but does not sell: nothing may be shown as open
            self._lose(JournalGap("the ledger is not owned yet"))
        else:
            if len(self._proofs) < PROOFS_MAX:
                self._proofs.append((self._asked_at, seen.position))
            self._note_reached()

    def note_unanswered(self, error: Exception) -> None:
        """The ledger did not answer."""
        if self._asked_from is not None:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Stop following, so that a new snapshot is taken."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(error)

    # --------------------------------------------------------------------------------------------------------------

    def _resolve_waiting(self, fresh_at: float) -> None:
        while self._waiting and self._waiting[0][0] <= fresh_at:
            _, resolve = self._waiting.popleft()
            try:
                resolve()
            except Exception:  # a failing callback must not prevent the others
                log.exception("view_waiter_failed", program=self.program)

    async def _run(self) -> None:
        pause_s = PAUSE_MIN_S
        loop = asyncio.get_running_loop()
        while True:
            followed_at = float("inf")
            try:
                if await self._take_snapshot():
                    followed_at = loop.time()
                    await self._follow()
                else:
                    self.fault = "its ledger is fenced: see the worker's /readyz or reservasi doctor"
            except (Unavailable, JournalGap, LedgerFault, NotFollowed) as error:
                log.warning("view_lost_journal", program=self.program, error=str(error))
                self.fault = str(error)
            except Exception as error:  # a view must not stop silently
                log.exception("view_failed", program=self.program)
                self.fault = f"the view cannot be built:  {type(error).__name__}"
            self._set_ready(False)
            if loop.time() - followed_at > STEADY_S:  # otherwise snapshots would follow each other without a pause
                pause_s = PAUSE_MIN_S
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _take_snapshot(self) -> bool:
        """Take a snapshot, from which the journal is followed; False while the ledger is fenced."""
        snapshot = await self._connection.snapshot(SNAPSHOT_TIMEOUT_S)
        if snapshot is None:
            return False
        self.needed_at = asyncio.get_running_loop().time()
        self.clock_offset_ms = snapshot.now_ms - self.needed_at * 1000
        # Ids read after the snapshot may be too many, never too few: an additional id only costs a ledger call.
        ids = [reservation_id async for reservation_id in self._journal.reservation_ids()]
        self.view.reset(snapshot, ids, self._note_change())
        await self._connection.drop()  # not needed while following; there may be many programs
        VIEW_RESYNCS.labels(self.program).inc()
        return True

    async def _follow(self) -> None:
        """Follow the journal until an error, or until the ledger is another one."""
        self._proofs.clear()
        self._lost = asyncio.get_running_loop().create_future()
        self._set_ready(True)
        self.hurry()
        reading = asyncio.create_task(self._read())
        try:
            either: list[asyncio.Future[Any]] = [reading, self._lost]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done():
                raise self._lost.result()
            await reading
        finally:
            self._lost = None
            await end_tasks([reading])
            ignore_failure(reading)  # it may fail while following ends
            await self._journal.rest()

    async def _read(self) -> None:
        """Apply each journal entry to the view as soon as it is available."""
        loop = asyncio.get_running_loop()
        while True:
            entries = await self._journal.read(self.view.position, ENTRY_EVENTS_MAX, READ_BLOCK_MS)
            if not entries:
                continue
            version = self._note_change()
            for entry in entries:
                try:
                    self.view.apply(entry, version)
                except KeyError as error:
                    at = entry.position
                    raise NotFollowed(
                        f"the entry at seq {at.seq} names {error}, which the view does not have"
                    ) from error
            self._follow_clock(entries[-1].at_ms - loop.time() * 1000)
            self._note_reached()
            await asyncio.sleep(GATHER_S)  # under load, one read of many entries costs as much as a read of one

    def _note_reached(self) -> None:
        """Mark the view as fresh up to the time at which the ledger was asked, once it has reached that position."""
        here = self.view.position
        while self._proofs:
            asked_at, seen = self._proofs[0]
            if not _has_reached(here, seen):
                break
            self.fresh_at = asked_at
            self._proofs.popleft()
        self._resolve_waiting(self.fresh_at)

    def _follow_clock(self, offset_ms: float) -> None:
        """Update the clock offset. A late read makes the ledger's clock seem slow, so the larger offset wins.

        A smaller offset is accepted only if the ledger's clock was set back.
        """
        if offset_ms > self.clock_offset_ms or offset_ms < self.clock_offset_ms - CLOCK_JUMP_MS:
            self.clock_offset_ms = offset_ms

    def _set_ready(self, ready: bool) -> None:
        self.ready = ready
        VIEW_READY.labels(self.program).set(int(ready))
        if not ready:
            self.fresh_at, self._asked_from = float("-inf"), None
            self._resolve_waiting(float("inf"))


def _has_reached(here: Position, seen: Position) -> bool:
    """Whether a view has everything that the ledger had; a view further ahead in an older epoch has not."""
    if here.seq == seen.seq:
        return here.chain == seen.chain
    return here.seq > seen.seq and here.epoch >= seen.epoch
