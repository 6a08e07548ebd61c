"""Follows the recorded position, so that a confirmation is answered when, and only when, it is recorded."""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import redis.asyncio as redis_asyncio

from reservasi.ledger import keys
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.ledger.journal.stream import EPOCHS_MAX
from reservasi.ledger.subscription import subscribed
from reservasi.ledger.topology.clients import LOST, READ_TIMEOUT_S, text
from reservasi.ledger.wire.recorded_word import RecordedWord, decode_message, decode_word
from reservasi.logs import get_sparing_logger

log = get_sparing_logger()

PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 2.0
WANTED_PAUSE_S = 0.05  # between attempts while requests wait for the recorded position
# confirmations of one program that may wait in one front; others are answered "confirming" at once
WAITERS_MAX = 20_000
LISTEN_S = 1.0  # after so long without a message the position is read, in case a message was lost


class Lineage:
    """What is recorded of one program: a position, and where each epoch branched off from the previous one.

    A ledger that lost changes continues under a new epoch from an earlier seq, so that one seq may stand for two
    changes. `(epoch, seq)` is recorded only if every later epoch branched off after it.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.seq = 0
        self._bases: dict[int, int] = {}

    def advance(self, epoch: int, seq: int, bases: Mapping[int, int]) -> None:
        """Move to a later position; an earlier one is a late message and is ignored."""
        if (epoch, seq) >= (self.epoch, self.seq):
            self.epoch, self.seq = epoch, seq
            self._bases = dict(bases) or self._bases

    def contains(self, epoch: int, seq: int) -> bool:
        """Whether the change is recorded."""
        if self.seq < seq:
            return False
        later = {each: base for each, base in self._bases.items() if epoch < each <= self.epoch}
        named_all = self.epoch <= epoch or len(self._bases) < EPOCHS_MAX or min(self._bases) <= epoch + 1
        return named_all and all(seq <= base for base in later.values())


class _Waiter:
    """A caller that waits for a position, with a deadline."""

    __slots__ = ("_is_recorded", "_resolve", "done", "timer")

    def __init__(self, is_recorded: Callable[[], bool], resolve: Callable[[bool], None]) -> None:
        self._is_recorded = is_recorded
        self._resolve = resolve
        self.done = False
        self.timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """The position was reached."""
        self._finish(self._is_recorded())

    def give_up(self) -> None:
        """The deadline has passed."""
        self._finish(recorded=False)

    def _finish(self, recorded: bool) -> None:
        if self.done:
            return
        self.done = True
        if self.timer is not None:
            self.timer.cancel()
        try:
            self._resolve(recorded)
        except Exception:  # a failing callback must not prevent the others
            log.exception("answer_not_taken")


class RecordedPositions:
    """The recorded position of each program, and the callers that wait for it."""

    def __init__(
        self, client: redis_asyncio.Redis, client_of: Callable[[str], redis_asyncio.Redis] | None = None
    ) -> None:
        """`client_of` returns a program's own client, for a cluster."""
        self._client_of = client_of or (lambda _program: client)
        self._lineages: dict[str, Lineage] = {}
        self._dead: dict[str, set[str]] = {}
        self._waiters: dict[str, list[tuple[int, int, _Waiter]]] = {}
        self._order = itertools.count()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # set while requests wait for the program's position
        self._wanted: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def follow(self, program: str) -> None:
        """Begin to follow a program; repeating it has no effect."""
        if program not in self._tasks:
            self._tasks[program] = asyncio.create_task(self._follow(program))

    async def unfollow(self, program: str) -> None:
        """Forget a program, so that a later program of the same id starts without a position."""
        task = self._tasks.pop(program, None)
        if task is not None:
            await end_tasks([task])
        self._lineages.pop(program, None)
        self._dead.pop(program, None)
        self._waiters.pop(program, None)
        self._wanted.pop(program, None)

    async def close(self) -> None:
        await end_tasks(self._tasks.values())

    async def wait(self, program: str, epoch: int, seq: int, reservation_id: str, timeout_s: float) -> bool:
        """Wait up to `timeout_s`; returns whether PostgreSQL has the change `(epoch, seq)` of a reservation."""
        recorded_future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def resolve(recorded: bool) -> None:
            if not recorded_future.done():
                recorded_future.set_result(recorded)

        self.when_recorded(program, epoch, seq, reservation_id, timeout_s, resolve)
        return await recorded_future

    def when_recorded(  # noqa: PLR0917 - as `wait`
        self, program: str, epoch: int, seq: int, reservation_id: str, timeout_s: float, resolve: Callable[[bool], None]
    ) -> None:
        """Like `wait`, without a task: `resolve` is called once, possibly before this returns."""
        lineage = self._lineages.setdefault(program, Lineage())
        if lineage.seq >= seq:
            resolve(self._has(program, epoch, seq, reservation_id))
            return
        heap = self._waiters.setdefault(program, [])
        if len(heap) >= WAITERS_MAX:
            resolve(False)
            return
        waiter = _Waiter(lambda: self._has(program, epoch, seq, reservation_id), resolve)
        waiter.timer = asyncio.get_running_loop().call_later(timeout_s, waiter.give_up)
        heapq.heappush(heap, (seq, next(self._order), waiter))
        self._wanted[program].set()

    def _has(self, program: str, epoch: int, seq: int, reservation_id: str) -> bool:
        lineage = self._lineages.setdefault(program, Lineage())
        return lineage.contains(epoch, seq) and reservation_id not in self._dead.get(program, ())

    async def _follow(self, program: str) -> None:
        pause_s = PAUSE_MIN_S
        while True:
            try:
                on_message = partial(self._take_message, program)
                async with subscribed(
                    self._client_of(program), keys.recorded_channel(program), on_message
                ) as subscription:
                    while True:
                        await self._read(program)
                        pause_s = PAUSE_MIN_S
                        await subscription.wait_for_silence(LISTEN_S)
            except LOST as error:
                log.warning("recorded_position_lost", program=program, error=type(error).__name__)
            except Exception:  # a follower must not stop silently: every confirmation would stay at "confirming"
                log.exception("recorded_position_unreadable", program=program)
            await self._rest(program, pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _rest(self, program: str, pause_s: float) -> None:
        """Pause before the next attempt, only briefly if a request waits: the ledger has just answered it."""
        await asyncio.sleep(min(pause_s, WANTED_PAUSE_S))
        if any(not waiter.done for _, _, waiter in self._waiters.get(program, ())):
            return  # a request from before the failed attempt still waits
        wanted = self._wanted[program]
        wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, pause_s - WANTED_PAUSE_S)):
                await wanted.wait()

    async def _read(self, program: str) -> None:
        """Read what was published before the subscription."""
        client = self._client_of(program)
        async with asyncio.timeout(READ_TIMEOUT_S):
            position = await client.hget(keys.recorded(program), keys.RECORDED_FIELD)
            # Read after the position, so that they include every event up to it that could not be recorded.
            dead = await client.smembers(keys.dead_letters(program))
        if position is not None:
            self._dead[program] = set()  # events may have been recorded later
            self._advance(program, decode_word(position), map(text, dead))

    def _take_message(self, program: str, sent: bytes) -> None:
        message = decode_message(sent)
        if message.revived and program in self._dead:
            self._dead[program].difference_update(message.revived)
        self._advance(program, message, message.dead)

    def _advance(self, program: str, word: RecordedWord, dead: Iterable[str]) -> None:
        self._dead.setdefault(program, set()).update(dead)
        lineage = self._lineages.setdefault(program, Lineage())
        lineage.advance(word.epoch, word.seq, dict(word.lineage))
        heap = self._waiters.get(program, [])
        while heap and heap[0][0] <= lineage.seq:
            heapq.heappop(heap)[2].wake()
