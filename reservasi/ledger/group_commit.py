"""Group commit: concurrent commands of one program share one ledger call, one round trip and one fsync.

At most one call is in flight for a program. What arrives meanwhile waits in a bounded queue and goes with the next
call, so the batch grows by itself under load and costs no delay without it. A lost reply is answered by sending the
same bytes again: every command is idempotent. Confirmations and status go before new claims.
"""

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import structlog

from reservasi.errors import LedgerFault, LedgerFenced, LedgerUnreachable, Overloaded, ReservasiError
from reservasi.ledger import wire
from reservasi.ledger.connection import Frame, LedgerConnection
from reservasi.ledger.ending import end_tasks
from reservasi.metrics import BATCH_ITEMS, BATCH_SECONDS, LEDGER_RETRIES
from reservasi.model import Answer, Cancel, Claim, Command, Confirm, Find, Release, SetQuota, Sweep

log = structlog.get_logger()

# Who has a place already goes before who wants one.
PRIORITY: tuple[type, ...] = (Confirm, Cancel, Release, SetQuota, Find, Sweep, Claim)
RETRY_PAUSE_MIN_S = 0.01
RETRY_PAUSE_MAX_S = 0.25
REAP_INTERVAL_S = 0.05


class _Waiting:
    """One submitted command and where its answer goes."""

    __slots__ = ("answer", "command", "deadline")

    def __init__(self, command: Command, answer: asyncio.Future[Answer], deadline: float) -> None:
        self.command = command
        self.answer = answer
        self.deadline = deadline  # by the event loop's clock


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
    ) -> None:
        self._connection = connection
        self._batch_items_max = batch_items_max
        self._queue_items_max = queue_items_max
        self._timeout_s = command_timeout_ms / 1000
        self._tombstone_ms = tombstone_ms
        self._queues: dict[type, deque[_Waiting]] = {kind: deque() for kind in PRIORITY}
        self._queued = 0
        self._in_flight: list[_Waiting] = []
        self._wakeup = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to carry out batches."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._reap())]

    async def close(self) -> None:
        """Carry out what has been submitted, then stop; bounded by the commands' own deadlines."""
        self._closing = True
        self._wakeup.set()
        if self._tasks:
            runner, reaper = self._tasks
            await asyncio.wait([runner], timeout=self._timeout_s)
            await end_tasks((runner, reaper))
        # Nobody is left to answer these later.
        _fail(self._in_flight, LedgerUnreachable("no reply from the ledger before the front closed"))
        for queue in self._queues.values():
            _fail(queue, Overloaded("the front is closing"))
        await self._connection.drop()

    async def submit(self, command: Command) -> Answer:
        """Carry one command out with the next batch.

        Raises:
            Overloaded: the queue is full, or the deadline passed before the command was sent: nothing happened.
            LedgerUnreachable: no reply by the deadline: it may have been carried out; repeat it.
            LedgerFenced: the ledger is not owned.
            LedgerFault: the function failed.
        """
        if self._queued >= self._queue_items_max or self._closing:
            raise Overloaded("the queue to the ledger is full" if not self._closing else "the front is closing")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(command, loop.create_future(), loop.time() + self._timeout_s)
        self._queues[type(command)].append(waiting)
        self._queued += 1
        self._wakeup.set()
        return await waiting.answer

    async def _run(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self._in_flight = batch
                try:
                    await self._carry_out(batch)
                except ReservasiError as error:
                    _fail(batch, error)
                    await self._connection.drop()
                except Exception as error:
                    # One batch that cannot be carried out must not stop all that come after it.
                    log.exception("batch_failed")
                    _fail(batch, LedgerFault(f"a batch failed: {type(error).__name__}"))
                    await self._connection.drop()
                self._in_flight = []
            elif self._closing:
                return
            else:
                self._wakeup.clear()
                await self._wakeup.wait()

    def _take(self) -> list[_Waiting]:
        """The next batch: in order of priority, without those who gave up waiting."""
        batch: list[_Waiting] = []
        for queue in self._queues.values():
            while queue and len(batch) < self._batch_items_max:
                waiting = queue.popleft()
                self._queued -= 1
                if not waiting.answer.done():
                    batch.append(waiting)
        return batch

    async def _carry_out(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        last_deadline = max(waiting.deadline for waiting in batch)
        groups = list(_by_kind(batch))
        frames = [
            Frame(
                command=wire.COMMAND_NAMES[type(group[0].command)],
                items=wire.encode_items([waiting.command for waiting in group], self._tombstone_ms),
            )
            for group in groups
        ]
        pause_s = RETRY_PAUSE_MIN_S
        retried = False
        while True:
            try:
                replies = await self._connection.call(frames, max(last_deadline - loop.time(), REAP_INTERVAL_S))
                break
            except LedgerUnreachable as error:
                if all(waiting.answer.done() for waiting in batch) or loop.time() + pause_s >= last_deadline:
                    _fail(batch, error)
                    return
            retried = True
            LEDGER_RETRIES.inc()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, hides nothing
            pause_s = min(pause_s * 2, RETRY_PAUSE_MAX_S)
        for group, reply in zip(groups, replies, strict=True):
            _resolve(group, reply, retried=retried)
        BATCH_ITEMS.observe(len(batch))
        BATCH_SECONDS.observe(loop.time() - started)

    async def _reap(self) -> None:
        """Answers those whose deadline has passed; one timer for all, instead of one a request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(REAP_INTERVAL_S)
            now = loop.time()
            for queue in self._queues.values():
                for waiting in queue:
                    if waiting.deadline > now:
                        break  # first in, first due
                    _fail([waiting], Overloaded("the deadline passed before the command was sent"))
            late = [waiting for waiting in self._in_flight if waiting.deadline <= now]
            _fail(late, LedgerUnreachable("no reply from the ledger before the deadline"))


def _by_kind(batch: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
    """The batch is sorted by kind already: cut it where the kind changes."""
    group: list[_Waiting] = []
    for waiting in batch:
        if group and type(waiting.command) is not type(group[0].command):
            yield group
            group = []
        group.append(waiting)
    if group:
        yield group


def _resolve(group: Sequence[_Waiting], raw: bytes | ReservasiError, *, retried: bool) -> None:
    if isinstance(raw, ReservasiError):
        log.error("ledger_refused_a_batch", error=str(raw))
        _fail(group, raw)
        return
    try:
        reply = wire.decode_reply(raw)
    except LedgerFault as fault:
        _fail(group, fault)
        return
    if reply.fenced:
        _fail(group, LedgerFenced("the ledger is not owned"))
        return
    if len(reply.answers) != len(group):
        _fail(group, LedgerFault(f"{len(reply.answers)} answers to {len(group)} items"))
        return
    for waiting, fields in zip(group, reply.answers, strict=True):
        if not waiting.answer.done():
            waiting.answer.set_result(wire.decode_answer(reply, fields, retried=retried))


def _fail(group: Iterable[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
