"""Group commit: concurrent commands of one program share one ledger call, one round trip and one fsync.

At most one call is in flight for a program. What arrives meanwhile waits in a bounded queue and goes with the next
call, so the batch grows by itself under load and costs no delay without it. A lost reply is answered by sending the
same bytes again: every command is idempotent. Confirmations and status go before claims and the joins of a waiting
room; these share what is left of a batch by how many they are, and only these are refused when more are under way than
the limit allows.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

from reservasi.errors import (
    LedgerFault,
    LedgerUnreachable,
    Overloaded,
    ReservasiError,
)
from reservasi.ledger import wire
from reservasi.ledger.acknowledging import stands
from reservasi.ledger.concurrency_limit import ConcurrencyLimit
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.ending import end_tasks
from reservasi.ledger.records_instead import RecordsInstead, not_replicated
from reservasi.ledger.submitted import Answered, Finish, Submitted, Tell, fail, fail_all
from reservasi.ledger.suspects import Suspects
from reservasi.logs import get_sparing_logger
from reservasi.metrics import (
    BATCH_ITEMS,
    BATCH_SECONDS,
    CLAIMS_LIMIT,
    LEDGER_RETRIES,
    LEDGER_UNSAFE,
    QUEUE_SECONDS,
)
from reservasi.model import (
    Admit,
    Answer,
    Cancel,
    Claim,
    Command,
    Confirm,
    Find,
    Join,
    MoveOpening,
    Release,
    Retire,
    RetireOpening,
    SetOpening,
    SetQuota,
    Sweep,
)

log = get_sparing_logger()

# Who has a place already goes before who wants one.
PRIORITY: tuple[type, ...] = (
    Confirm, Cancel, Release, SetQuota, SetOpening, MoveOpening, Admit, Find, Sweep, Claim, Join, Retire,
    RetireOpening,
)  # fmt: skip
CROWDS = (Claim, Join)  # the last of them: anybody may send them in any number, so the limit holds for them
RETRY_PAUSE_MIN_S = 0.01
RETRY_PAUSE_MAX_S = 0.25
REAP_INTERVAL_S = 0.05
SETTLE_MARGIN_MS = 2  # moments and timers are rounded to milliseconds
BATCH_HALVED_FROM = 8  # fewer go together, since a write to the disk is dearer than they are


_Batch: TypeAlias = list[list[Submitted]]  # a list for each kind, in order of priority, none of them empty


class GroupCommit:
    """Gathers the commands of one program and carries them out, batch after batch."""

    def __init__(
        self,
        connection: LedgerConnection,
        *,
        batch_items_max: int,
        queue_items_max: int,
        command_timeout_ms: int,
        tombstone_ms: int,
        queue_delay_target_ms: int,
        instead: RecordsInstead | None = None,
        settle_ms: int = 0,
    ) -> None:
        """With `instead`, what too few replicas have is told once the records have it.

        For `settle_ms` after a place came free some view may lack it: so long neither who got it nor who gave it back
        is told.
        """
        self._connection = connection
        self._suspects = Suspects(connection.program)
        self._instead = instead
        self._settle_ms = settle_ms + SETTLE_MARGIN_MS if settle_ms else 0
        self._settling = 0  # answers that are told when that time is over
        self._batch_items_max = batch_items_max
        self._queue_items_max = queue_items_max
        self._timeout_s = command_timeout_ms / 1000
        self._tombstone_ms = tombstone_ms
        self._queues: dict[type, deque[Submitted]] = {kind: deque() for kind in PRIORITY}
        self._claims_waiting, self._joins_waiting = (self._queues[kind] for kind in CROWDS)
        self._queued = 0
        self._in_flight: _Batch = []
        self._crowd_in_flight = 0
        self._delay_least_s: float | None = None  # of the batches with claims, since somebody asked
        self._limit = ConcurrencyLimit(
            least=batch_items_max, most=batch_items_max + queue_items_max, target_s=queue_delay_target_ms / 1000
        )
        self._limit_gauge = CLAIMS_LIMIT.labels(connection.program)
        self._limit_gauge.set(self._limit.value)
        self._unsafe_calls = LEDGER_UNSAFE.labels(connection.program)
        self._wakeup = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._answered = Answered()  # the last batch's: told while the next is under way, so that nobody stands idle

    def start(self) -> None:
        """Begin to carry out batches."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._reap())]

    async def close(self) -> None:
        """Carry out what has been submitted, then stop; bounded by the commands' own deadlines."""
        self._closing = True
        self._wakeup.set()
        if self._tasks:
            runner, reaper = self._tasks
            await asyncio.wait([runner], timeout=self._timeout_s)
            await end_tasks((runner, reaper))
        self._tell_last()
        if self._instead is not None:
            await self._instead.close()
        if self._settling:
            await asyncio.sleep(self._settle_ms / 1000)
        # Nobody is left to answer these later.
        fail_all(self._in_flight, LedgerUnreachable("no reply from the ledger before the front closed"))
        for queue in self._queues.values():
            fail(queue, Overloaded("the front is closing"))
        await self._connection.drop()

    async def submit(self, command: Command) -> Answer:
        """Carry one command out with the next batch.

        Raises:
            Overloaded: too many wait, or the deadline passed before the command was sent: nothing happened.
            LedgerUnreachable: no reply by the deadline: it may have been carried out; repeat it.
            LedgerFenced: the ledger is not owned.
            ItemDamaged: what is stored of it is damaged, and nobody else's.
            NotReplicated: it was carried out, and may yet be lost: repeat it.
            LedgerFault: the function failed.
        """
        answered: asyncio.Future[Answer] = self._loop.create_future()

        def tell(result: Answer | ReservasiError) -> None:
            if answered.done():
                return
            if isinstance(result, ReservasiError):
                answered.set_exception(result)
            else:
                answered.set_result(result)

        submitted = self.enqueue(command, tell)
        try:
            return await answered
        except asyncio.CancelledError:
            submitted.abandon()
            raise

    def enqueue(self, command: Command, tell: Tell) -> Submitted:
        """The same without a task: `tell` is called with what `submit` returns or raises.

        Raises:
            Overloaded: too many wait: `tell` is not called.
        """
        if self._closing:
            raise Overloaded("the front is closing")
        kind = type(command)
        if not (self.admits_claims if kind in CROWDS else self._admits_others):
            raise Overloaded("too many wait for the ledger")
        now = self._loop.time()
        submitted = Submitted(command, tell, now, now + self._timeout_s)
        self._queues[kind].append(submitted)
        self._queued += 1
        if not self._wakeup.is_set():
            self._wakeup.set()
        return submitted

    @property
    def admits_claims(self) -> bool:
        """Whether a claim or a join that comes now would be taken."""
        waiting = len(self._claims_waiting) + len(self._joins_waiting)  # not by a property: every claim asks twice
        return waiting < self._queue_items_max and waiting + self._crowd_in_flight < self._limit.value

    @property
    def _admits_others(self) -> bool:
        """Whether a confirmation, or what staff ask, would be taken: however many claims wait, they have their room."""
        return self._queued - self._crowd_waiting < self._queue_items_max

    @property
    def _crowd_waiting(self) -> int:
        return len(self._claims_waiting) + len(self._joins_waiting)

    def take_queue_delay_s(self) -> float:
        """How long claims and joins wait for their batch: the least since last asked, as a burst that drains is none.

        Where no batch was sent meanwhile, how long the oldest has waited already; 0 when none waits.
        """
        least_s, self._delay_least_s = self._delay_least_s, None
        if least_s is not None:
            return least_s
        oldest = [queue[0].since for queue in (self._claims_waiting, self._joins_waiting) if queue]
        return max(0.0, time.monotonic() - min(oldest)) if oldest else 0.0

    async def _run(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self._in_flight = batch
                self._learn(batch)
                if not self._connection.connected:
                    self._tell_last()  # it may take long to send the batch
                self._note_answered(await self._finished(batch))
                await asyncio.sleep(0)  # what can be read already goes with the next batch
            elif self._answered.replies:
                self._tell_last()
            elif self._closing:
                return
            else:
                self._in_flight = []
                self._wakeup.clear()
                await self._wakeup.wait()

    def _note_answered(self, answered: Answered) -> None:
        """Not in the loop itself, whose variables would keep people's data until somebody else comes."""
        self._tell_last()
        self._answered = answered
        self._crowd_in_flight = 0

    def _tell_last(self) -> None:
        last, self._answered = self._answered, Answered()
        last.tell()

    async def _finished(self, batch: _Batch) -> "Answered":
        """The replies to a batch, none when it failed, which is told at once; the last one's are told meanwhile."""
        try:
            return await self._carry_out(batch)
        except ReservasiError as error:
            fail_all(batch, error)
        except Exception as error:
            # One batch that cannot be carried out must not stop all that come after it.
            log.exception("batch_failed")
            fail_all(batch, LedgerFault(f"a batch failed: {type(error).__name__}"))
        await self._connection.drop()
        return Answered()

    def _learn(self, batch: _Batch) -> None:
        """Let the limit follow the delay of claims and joins."""
        crowd = [group for group in batch if type(group[0].command) in CROWDS]
        self._crowd_in_flight = sum(map(len, crowd))
        if not crowd:
            return
        now = time.monotonic()  # not the loop's clock, which stands still while a crowd is read
        delay_s = max(0.0, now - min(group[0].since for group in crowd))  # first in, first out
        self._delay_least_s = delay_s if self._delay_least_s is None else min(self._delay_least_s, delay_s)
        self._limit.observe(delay_s, self._crowd_in_flight + self._crowd_waiting, now)
        QUEUE_SECONDS.observe(delay_s)
        self._limit_gauge.set(self._limit.value)

    def _take(self) -> _Batch:
        """The next batch: in order of priority, without those who gave up waiting.

        Of a crowd, half go: while one half is carried out, the front has the other half to work on. All of them in one
        batch would make ledger and front wait for each other for ever. Who was just answered belongs to the crowd: of
        those alone who wait, half would be a third of it, and every batch has an fsync.
        """
        batch: _Batch = []
        crowd = self._queued + self._answered.items
        room = min(self._batch_items_max, max(BATCH_HALVED_FROM, (crowd + 1) // 2))
        for queue in self._queues.values():
            kept = 0  # for those behind
            if queue is self._claims_waiting and self._joins_waiting:
                kept = _share_of_joins(room, queue, self._joins_waiting)
            group = self._take_from(queue, room - kept)
            if group:
                batch.append(group)
                room -= len(group)
        return self._without_suspects(batch) if self._suspects else batch

    def _without_suspects(self, batch: _Batch) -> _Batch:
        """The batch with those that may have to be decided in parts as groups of their own, behind the others."""
        self._suspects.forget_old()
        parted: list[tuple[list[Submitted], list[Submitted]]] = []
        for group in batch:
            aside = [waiting for waiting in group if self._suspects.suspects(waiting.command)]
            parted.append(([waiting for waiting in group if waiting not in aside] if aside else group, aside))
        return [group for pair in zip(*parted, strict=True) for group in pair if group]

    def _take_from(self, queue: deque[Submitted], most: int) -> list[Submitted]:
        if len(queue) <= most:
            group = [waiting for waiting in queue if not waiting.done]
            self._queued -= len(queue)
            queue.clear()
            return group
        group = []
        while queue and len(group) < most:
            waiting = queue.popleft()
            self._queued -= 1
            if not waiting.done:
                group.append(waiting)
        return group

    async def _carry_out(self, batch: _Batch) -> Answered:
        loop = asyncio.get_running_loop()
        started = loop.time()
        last_deadline = max(group[-1].deadline for group in batch)
        frames = [wire.encode_frame([waiting.command for waiting in group], self._tombstone_ms) for group in batch]
        pause_s = RETRY_PAUSE_MIN_S
        retried = False
        while True:
            try:
                left_s = max(last_deadline - loop.time(), REAP_INTERVAL_S)
                replies = await self._connection.call(frames, left_s, sent=self._tell_last)
                break
            except LedgerUnreachable as error:
                given_up = all(waiting.done for group in batch for waiting in group)
                if given_up or loop.time() + pause_s >= last_deadline:
                    fail_all(batch, error)
                    return Answered()
            retried = True
            LEDGER_RETRIES.inc()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, hides nothing
            pause_s = min(pause_s * 2, RETRY_PAUSE_MAX_S)
        BATCH_ITEMS.observe(sum(map(len, batch)))
        BATCH_SECONDS.observe(loop.time() - started)
        finish: Finish = self._finish_settled
        if not self._connection.safe:
            self._unsafe_calls.inc()
            finish = self._finish_unsafe
        return Answered(batch, replies, finish, self._suspects.note, retried=retried)

    def _finish_settled(self, waiting: Submitted, answer: Answer | ReservasiError) -> None:
        """Tell an answer, but of a place that came free a moment ago only when no view lacks that any more.

        Asked again anywhere, whoever has it hears the same then, and not that nothing was left (P7). So it is with the
        answer to whoever gave it back: the next one to claim it is not told that it is gone.
        """
        if not isinstance(answer, Answer) or not answer.freed_at_ms:
            waiting.finish(answer)
            return
        # The ledger's clock may have been set back since: nobody waits longer than from now.
        wait_ms = min(answer.freed_at_ms + self._settle_ms - answer.now_ms, self._settle_ms)
        if wait_ms <= 0:
            waiting.finish(answer)
            return
        self._settling += 1
        self._loop.call_later(wait_ms / 1000, self._tell_settled, waiting, answer)

    def _tell_settled(self, waiting: Submitted, answer: Answer) -> None:
        self._settling -= 1
        waiting.finish(answer)

    def _finish_unsafe(self, waiting: Submitted, answer: Answer) -> None:
        """Tell an answer that too few replicas have as soon as it is definite, or that it is not."""
        if stands(waiting.command, answer):
            waiting.finish(answer)
        elif self._instead is None:
            waiting.finish(not_replicated())
        else:
            left_s = waiting.deadline - self._loop.time()
            self._instead.hold(waiting.command, answer, partial(self._finish_settled, waiting), left_s)

    async def _reap(self) -> None:
        """Answers those whose deadline has passed; one timer for all, instead of one a request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(REAP_INTERVAL_S)
            self._tell_last()  # a batch that cannot be sent must not hold up the answers of the one before it
            if not (self._queued or self._in_flight):
                self._limit.rest()
                self._limit_gauge.set(self._limit.value)
            self._fail_late(loop.time())

    def _fail_late(self, now: float) -> None:
        for queue in self._queues.values():
            for waiting in queue:
                if waiting.deadline > now:
                    break  # first in, first due
                fail([waiting], Overloaded("the deadline passed before the command was sent"))
        late = [waiting for group in self._in_flight for waiting in group if waiting.deadline <= now]
        fail(late, LedgerUnreachable("no reply from the ledger before the deadline"))


def _share_of_joins(room: int, claims: Sequence[Submitted], joins: Sequence[Submitted]) -> int:
    """What of the rest of a batch is kept for joins: as many as they are among all, and neither kind gets nothing."""
    if room < 2:
        return room if not claims or joins[0].since < claims[0].since else 0
    share = room * len(joins) // (len(joins) + len(claims))
    return min(max(share, 1), len(joins), room - 1 if claims else room)
