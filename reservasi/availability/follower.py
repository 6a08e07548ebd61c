"""Keeping one program's view in step with its journal."""

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

ENTRY_EVENTS_MAX = 5000  # applied before other work gets its turn
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.0
STEADY_S = 5.0  # a view that was followed for so long begins anew at once
SNAPSHOT_TIMEOUT_S = 5.0
CLOCK_JUMP_MS = 5000
READ_BLOCK_MS = 1000  # how long a read waits for the next change
IDLE_AFTER_S = 5.0  # without anybody whom the view could refuse
PROOFS_MAX = 64  # positions that the view has not reached yet, of the last seconds
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
        hurry: Callable[[], None],
    ) -> None:
        """`hurry` asks whoever proves views to look at once whether this one is due."""
        self.program = program
        self.view = ProgramView()
        self.ready = False
        self.fault = "it has not answered yet"  # why the view is not in step, while it is not
        self.fresh_at = float("-inf")  # by the event loop's clock: all that had happened by then is in the view
        self.clock_offset_ms = 0.0  # ledger's clock minus the event loop's
        self.needed_at = float("-inf")  # by the event loop's clock: when it last mattered whether the view is fresh
        self.hurry = hurry
        self._connection = connection
        self._journal = journal
        self._note_change = note_change  # tells the views' readers, and returns the new version
        self._asked_at = float("-inf")  # when the ledger was last asked where it is
        self._asked_from: Position | None = None  # where the view was then
        self._proofs: deque[tuple[float, Position]] = deque()  # where the ledger was at what time, not in the view yet
        self._lost: asyncio.Future[Exception] | None = None  # why the view cannot go on as it is
        # Until the view is as fresh as that; each is a connection's one request, and those are limited.
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self.task = asyncio.create_task(self._run())

    async def close(self) -> None:
        await end_tasks([self.task])
        self._tell_waiting(float("inf"))
        await self._connection.drop()

    def when_complete(self, tell: Callable[[], None]) -> None:
        """Call `tell` once all that has happened by now is in the view, or once that cannot be known."""
        self.needed_at = asyncio.get_running_loop().time()
        self._waiting.append((self.needed_at, tell))
        if self.ready:
            self.hurry()
        else:
            self._tell_waiting(float("inf"))

    # -- what the prover does --------------------------------------------------------------------------------------

    def due_at(self, now: float, *, busy_s: float, idle_s: float) -> float:
        """When the ledger is to be asked again where it is, by the event loop's clock.

        Every `busy_s` while it matters whether the view is fresh, else every `idle_s`.
        """
        if not self.ready:
            return float("inf")
        if self._waiting and self._waiting[-1][0] > self._asked_at:  # what was asked before does not do for them
            return now
        return self._asked_at + (idle_s if now - self.needed_at > IDLE_AFTER_S else busy_s)

    def note_asked(self, now: float) -> None:
        """The ledger is asked where it is."""
        self._asked_at, self._asked_from = now, self.view.position

    def note_told(self, seen: LedgerMeta) -> None:
        """What it answered: where it is, or that this view follows something else than what is sold from now."""
        before, self._asked_from = self._asked_from, None
        if before is None:  # begun anew meanwhile
            return
        same_seq_other_chain = seen.position.seq == before.seq and seen.position.chain != before.chain
        if seen.position.epoch < before.epoch or seen.position.seq < before.seq or same_seq_other_chain:
            self._lose(JournalGap("the ledger is not the one that was followed"))
        elif 0 < self.view.incomplete_since_epoch < seen.position.epoch:  # a rebuild may have mended what was damaged
            self._lose(JournalGap("the view lacks what was damaged when it began"))
        elif not seen.owned:  # what a restarted server still knows is not sold from: nothing is to be shown as open
            self._lose(JournalGap("the ledger waits to be owned"))
        else:
            if len(self._proofs) < PROOFS_MAX:
                self._proofs.append((self._asked_at, seen.position))
            self._note_reached()

    def note_not_told(self, error: Exception) -> None:
        """It did not answer."""
        if self._asked_from is not None:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Begin anew."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(error)

    # --------------------------------------------------------------------------------------------------------------

    def _tell_waiting(self, fresh_at: float) -> None:
        while self._waiting and self._waiting[0][0] <= fresh_at:
            _, tell = self._waiting.popleft()
            try:
                tell()
            except Exception:  # one that fails must not cost the others theirs
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
                    self.fault = "its ledger is fenced: the worker's /readyz and reservasi doctor say why"
            except (Unavailable, JournalGap, LedgerFault, NotFollowed) as error:
                log.warning("view_lost_the_journal", program=self.program, error=str(error))
                self.fault = str(error)
            except Exception as error:  # a view that stopped following without a word would mislead everybody
                log.exception("view_failed", program=self.program)
                self.fault = f"the view cannot be made: {type(error).__name__}"
            self._set_ready(False)
            if loop.time() - followed_at > STEADY_S:  # else snapshots would follow each other without a pause
                pause_s = PAUSE_MIN_S
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
        await self._connection.drop()  # its work is done; programs are many
        VIEW_RESYNCS.labels(self.program).inc()
        return True

    async def _follow(self) -> None:
        """Read until that fails, or until the ledger turns out to be another one."""
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
            ignore_failure(reading)  # it may have failed in the moment in which the following was to end
            await self._journal.rest()

    async def _read(self) -> None:
        """Bring each change into the view as soon as the journal has it."""
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
                    raise NotFollowed(f"the entry at seq {at.seq} speaks of {error}, which the view has not") from error
            self._follow_clock(entries[-1].at_ms - loop.time() * 1000)
            self._note_reached()
            await asyncio.sleep(GATHER_S)  # in a rush a read costs as much for one entry as for ten

    def _note_reached(self) -> None:
        """What the view has reached had all happened when the ledger was asked; when it is read says nothing."""
        here = self.view.position
        while self._proofs:
            asked_at, seen = self._proofs[0]
            if not _has_reached(here, seen):
                break
            self.fresh_at = asked_at
            self._proofs.popleft()
        self._tell_waiting(self.fresh_at)

    def _follow_clock(self, offset_ms: float) -> None:
        """Read late, an entry makes the clock seem slow: what is ahead is believed, or a clock that was set back."""
        if offset_ms > self.clock_offset_ms or offset_ms < self.clock_offset_ms - CLOCK_JUMP_MS:
            self.clock_offset_ms = offset_ms

    def _set_ready(self, ready: bool) -> None:
        self.ready = ready
        VIEW_READY.labels(self.program).set(int(ready))
        if not ready:
            self.fresh_at, self._asked_from = float("-inf"), None
            self._tell_waiting(float("inf"))


def _has_reached(here: Position, seen: Position) -> bool:
    """Whether a view has all that the ledger had; who is further in an older lineage has what is not sold from now."""
    if here.seq == seen.seq:
        return here.chain == seen.chain
    return here.seq > seen.seq and here.epoch >= seen.epoch
