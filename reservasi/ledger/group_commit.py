"""Group commit: concurrent commands of one program share one ledger call, one round trip and one fsync.

At most one call is in flight for a program. Commands that arrive meanwhile wait in a bounded queue (`command_queue.py`)
and go with the next call, so that batches grow under load and cost no delay without it. After a lost reply the same
bytes are sent again: every command is idempotent. The answers of a batch are released while the next one is in flight
(`answer_release.py`), so that neither front nor ledger is idle.
"""

import asyncio
import random

from reservasi.errors import (
    LedgerFault,
    LedgerUnreachable,
    Overloaded,
    ReservasiError,
)
from reservasi.ledger.answer_release import NO_REPLIES, AnswerRelease, Release, Replies
from reservasi.ledger.await_records import RecordsInstead
from reservasi.ledger.command_queue import Batch, CommandQueue
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.ledger.submitted import Resolve, Submitted, fail, fail_all
from reservasi.ledger.suspects import Suspects
from reservasi.ledger.wire import messages
from reservasi.logs import get_sparing_logger
from reservasi.metrics import BATCH_ITEMS, BATCH_SECONDS, LEDGER_RETRIES, LEDGER_UNSAFE, Gathered
from reservasi.model import Answer, Command

log = get_sparing_logger()

RETRY_PAUSE_MIN_S = 0.01
RETRY_PAUSE_MAX_S = 0.25
REAP_INTERVAL_S = 0.05


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
        """With `instead`, answers that too few replicas acknowledged are released once PostgreSQL has the changes.

        For `settle_ms` after a place was freed some front's view may lack it: answers about it are delayed by that
        time.
        """
        self._connection = connection
        self._timeout_s = command_timeout_ms / 1000
        self._tombstone_ms = tombstone_ms
        self._queue = CommandQueue(
            connection.program,
            items_max=queue_items_max,
            batch_items_max=batch_items_max,
            timeout_s=self._timeout_s,
            delay_target_s=queue_delay_target_ms / 1000,
        )
        self._suspects = Suspects(connection.program)
        self._release = AnswerRelease(settle_ms=settle_ms, instead=instead)
        self._sizes, self._durations = Gathered(BATCH_ITEMS), Gathered(BATCH_SECONDS)
        self._unsafe_calls = LEDGER_UNSAFE.labels(connection.program)
        self._in_flight: Batch = []
        self._unreleased = NO_REPLIES  # of the last batch
        self._idle: asyncio.Future[None] | None = None  # the loop's future while it waits for a command
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._reap())]

    async def close(self) -> None:
        """Carry out the submitted commands, then stop; bounded by the commands' deadlines."""
        self._closing = True
        self._wake()
        if self._tasks:
            runner, reaper = self._tasks
            await asyncio.wait([runner], timeout=self._timeout_s)
            await end_tasks((runner, reaper))
        self._observe()
        self._release_last()
        await self._release.close()
        # These can no longer be answered later.
        fail_all(self._in_flight, LedgerUnreachable("no reply from the ledger before the front closed"))
        self._queue.fail_all(Overloaded("the front is closing"))
        await self._connection.drop()

    # -- submitting -------------------------------------------------------------------------------------------------

    async def submit(self, command: Command) -> Answer:
        """Carry one command out with the next batch.

        Raises:
            Overloaded: the queue is full, or the deadline passed before the command was sent: nothing happened.
            LedgerUnreachable: no reply by the deadline: it may have been carried out; repeat it.
            LedgerFenced: the ledger is not owned.
            ItemDamaged: stored data of this command is damaged; other commands are not affected.
            NotReplicated: it was carried out and may still be lost: repeat it.
            LedgerFault: the function failed.
        """
        answered: asyncio.Future[Answer] = self._loop.create_future()

        def resolve(result: Answer | ReservasiError) -> None:
            if answered.done():
                return
            if isinstance(result, ReservasiError):
                answered.set_exception(result)
            else:
                answered.set_result(result)

        submitted = self.enqueue(command, resolve)
        try:
            return await answered
        except asyncio.CancelledError:
            submitted.abandon()
            raise

    def enqueue(self, command: Command, resolve: Resolve) -> Submitted:
        """Like `submit`, without a task: `resolve` is called with the result or the exception.

        Raises:
            Overloaded: the queue is full; `resolve` is not called.
        """
        if self._closing:
            raise Overloaded("the front is closing")
        submitted = self._queue.put(command, resolve, self._loop.time())
        if self._idle is not None:
            self._wake()
        return submitted

    def _wake(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    @property
    def admits_claims(self) -> bool:
        """Whether the queue has room for a claim or a join."""
        return self._queue.admits_crowd()

    def take_queue_delay_s(self) -> float:
        """How long claims and joins wait for their batch; see `CommandQueue.take_delay_s`."""
        return self._queue.take_delay_s()

    # -- the loop --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self._in_flight = batch
                self._queue.note_sent(batch)
                if not self._connection.connected:
                    self._release_last()  # sending the batch may take long
                self._note_replied(await self._replies_to(batch))
                await asyncio.sleep(0)  # lets arrived requests join the next batch
            elif self._unreleased:
                self._release_last()
            elif self._closing:
                return
            else:
                self._in_flight = []
                self._idle = self._loop.create_future()
                await self._idle

    def _take(self) -> Batch:
        batch = self._queue.take(self._unreleased.items)
        return self._suspects.set_apart(batch) if self._suspects else batch

    def _note_replied(self, replies: Replies) -> None:
        """A separate method, since variables of the loop would keep personal data until the next batch."""
        self._release_last()
        self._unreleased = replies
        self._queue.note_replied()

    def _release_last(self) -> None:
        last, self._unreleased = self._unreleased, NO_REPLIES
        last.release()

    async def _replies_to(self, batch: Batch) -> Replies:
        """Send a batch and return its replies; if it failed, its callers are answered here."""
        try:
            return await self._carry_out(batch)
        except ReservasiError as error:
            fail_all(batch, error)
        except Exception as error:
            # A failing batch must not stop the loop.
            log.exception("batch_failed")
            fail_all(batch, LedgerFault(f"a batch failed: {type(error).__name__}"))
        await self._connection.drop()
        return NO_REPLIES

    async def _carry_out(self, batch: Batch) -> Replies:
        loop = asyncio.get_running_loop()
        started = loop.time()
        last_deadline = max(group[-1].deadline for group in batch)
        frames = [messages.encode_frame([waiting.command for waiting in group], self._tombstone_ms) for group in batch]
        pause_s = RETRY_PAUSE_MIN_S
        retried = False
        while True:
            try:
                left_s = max(last_deadline - loop.time(), REAP_INTERVAL_S)
                raw = await self._connection.call(frames, left_s, sent=self._release_last)
                break
            except LedgerUnreachable as error:
                given_up = all(waiting.done for group in batch for waiting in group)
                if given_up or loop.time() + pause_s >= last_deadline:
                    fail_all(batch, error)
                    return NO_REPLIES
            retried = True
            LEDGER_RETRIES.inc()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, hides nothing
            pause_s = min(pause_s * 2, RETRY_PAUSE_MAX_S)
        self._sizes.add(sum(map(len, batch)))
        self._durations.add(loop.time() - started)
        release: Release = self._release.when_settled
        if not self._connection.safe:
            self._unsafe_calls.inc()
            release = self._release.when_safe
        return Replies(batch, raw, release, self._suspects.note, retried=retried)

    def _observe(self) -> None:
        """Update the metrics from collected values."""
        self._sizes.observe()
        self._durations.observe()
        self._queue.observe()

    async def _reap(self) -> None:
        """Refuse commands whose deadline has passed; one timer for all of them."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(REAP_INTERVAL_S)
            self._release_last()  # a batch that cannot be sent must not delay the answers of the previous one
            if not (self._queue or self._in_flight):
                self._queue.relax()
            self._observe()
            now = loop.time()
            self._queue.fail_late(now)
            late = [waiting for group in self._in_flight for waiting in group if waiting.deadline <= now]
            fail(late, LedgerUnreachable("no reply from the ledger before the deadline"))
