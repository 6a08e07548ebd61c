"""Following how far PostgreSQL has come, so that a confirm is answered when, and only when, it is recorded."""

import asyncio
import contextlib
import heapq
import itertools
import json
import random
from collections.abc import Iterable

import redis.asyncio as redis_asyncio
import structlog

from reservasi.ledger import keys
from reservasi.ledger.connection import LOST, text

log = structlog.get_logger()

PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 2.0
WAITERS_MAX = 20_000  # confirms of one program that may wait in one front; more are told "confirming" at once
LISTEN_S = 1.0  # after so long without a word the position is read, in case a message was lost


class RecordedPositions:
    """The recorded position of each program, and those who wait for it to move."""

    def __init__(self, client: redis_asyncio.Redis) -> None:
        self._client = client
        self._positions: dict[str, tuple[int, int]] = {}
        self._dead: dict[str, set[str]] = {}
        self._waiters: dict[str, list[tuple[int, int, int, asyncio.Future[None]]]] = {}
        self._order = itertools.count()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, program: str) -> None:
        """Begin to follow a program; again is harmless."""
        if program not in self._tasks:
            self._tasks[program] = asyncio.create_task(self._follow(program))

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def wait(self, program: str, epoch: int, seq: int, reservation_id: str, timeout_s: float) -> bool:
        """Whether PostgreSQL has the change `(epoch, seq)` of a reservation, waiting at most so long for it."""
        if self._positions.get(program, (0, 0)) < (epoch, seq):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heap = self._waiters.setdefault(program, [])
            if len(heap) >= WAITERS_MAX:
                return False
            heapq.heappush(heap, (epoch, seq, next(self._order), future))
            try:
                async with asyncio.timeout(timeout_s):
                    await future
            except TimeoutError:
                return False
        return reservation_id not in self._dead.get(program, ())

    async def _follow(self, program: str) -> None:
        pause_s = PAUSE_MIN_S
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(keys.recorded_channel(program))
                    while True:
                        await self._read(program)
                        pause_s = PAUSE_MIN_S
                        while message := await subscription.get_message(timeout=LISTEN_S):
                            said = json.loads(message["data"])
                            self._advance(program, said["epoch"], said["seq"], said["dead"])
            except LOST as error:
                log.warning("recorded_position_lost", program=program, error=type(error).__name__)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _read(self, program: str) -> None:
        """What was said before we listened."""
        epoch, seq = await self._client.hmget(keys.recorded(program), ["epoch", "seq"])
        dead = await self._client.smembers(keys.dead_letters(program))
        self._advance(program, int(epoch or 0), int(seq or 0), [text(member) for member in dead])

    def _advance(self, program: str, epoch: int, seq: int, dead: Iterable[str]) -> None:
        self._dead.setdefault(program, set()).update(dead)
        position = self._positions[program] = max((epoch, seq), self._positions.get(program, (0, 0)))
        heap = self._waiters.get(program, [])
        while heap and heap[0][:2] <= position:
            future = heapq.heappop(heap)[3]
            with contextlib.suppress(asyncio.InvalidStateError):
                future.set_result(None)
