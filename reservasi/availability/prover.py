"""Proves that views are complete: asks the ledgers for their positions, those of one server in one call.

A journal without new entries may mean that nothing happened, that it is slow, or that the server is dead or empty. Only
a position that the ledger had at a known time proves that a view was complete at that time.
"""

import asyncio
from collections.abc import Callable, Sequence

from reservasi.availability.follower import Follower
from reservasi.errors import LedgerUnreachable
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.logs import get_sparing_logger

log = get_sparing_logger()

IDLE_S = 1.0  # how old a view may become that no request needs
PAUSE_MIN_S = 0.005  # between two checks, however often `hurry` is called: requests of the public may cause it
TIMEOUT_S = 2.0


class Prover:
    """Asks for all followers of a front, each as often as needed."""

    def __init__(
        self, open_connection: Callable[[str], LedgerConnection], server_of: Callable[[str], str], *, busy_s: float
    ) -> None:
        """Views in use are proved every `busy_s`; 0: as seldom as unused ones. `server_of` names a program's server."""
        self._open_connection = open_connection
        self._server_of = server_of
        self._busy_s = min(busy_s or IDLE_S, IDLE_S)
        self._followers: list[Follower] = []
        self._connections: dict[str, LedgerConnection] = {}  # by the program for which each was opened
        self._asked: set[Follower] = set()  # followers whose question is under way
        self._tasks: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, follower: Follower) -> None:
        self._followers.append(follower)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def remove(self, follower: Follower) -> None:
        self._followers.remove(follower)

    def hurry(self) -> None:
        """Check which followers are due, at once unless that was just done."""
        self._hurry.set()

    async def close(self) -> None:
        await end_tasks([*([self._task] if self._task else []), *self._tasks])
        for connection in self._connections.values():
            await connection.drop()

    async def _run(self) -> None:
        while True:
            await self._until_due()
            now = asyncio.get_running_loop().time()
            groups: dict[str, list[Follower]] = {}
            for follower in self._followers:
                # Half an interval early is allowed, so that followers of one server are asked together.
                if self._due_at(follower, now, self._busy_s / 2, IDLE_S / 2) <= now:
                    groups.setdefault(self._server_of(follower.program), []).append(follower)
            for group in groups.values():
                for follower in group:
                    follower.note_asked(now)
                self._asked.update(group)
                task = asyncio.create_task(self._ask_together(group))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(PAUSE_MIN_S)

    def _due_at(self, follower: Follower, now: float, busy_s: float, idle_s: float) -> float:
        return float("inf") if follower in self._asked else follower.due_at(now, busy_s=busy_s, idle_s=idle_s)

    async def _until_due(self) -> None:
        """Wait until the first follower is due, or `hurry` was called."""
        self._hurry.clear()
        loop = asyncio.get_running_loop()
        now = loop.time()
        due_at = min([self._due_at(each, now, self._busy_s, IDLE_S) for each in self._followers], default=float("inf"))
        if due_at <= now:
            return
        timer = loop.call_at(min(due_at, now + IDLE_S), self._hurry.set)
        try:
            await self._hurry.wait()
        finally:
            timer.cancel()

    async def _ask_together(self, followers: Sequence[Follower]) -> None:
        try:
            await self._ask(followers)
        finally:
            self._asked.difference_update(followers)
            self.hurry()

    async def _ask(self, followers: Sequence[Follower]) -> None:
        programs = [follower.program for follower in followers]
        try:
            metas = await self._connection_to(programs).metas(programs, TIMEOUT_S)
        except LedgerUnreachable as error:
            if len(followers) > 1 and not isinstance(error.__cause__, TimeoutError):
                await asyncio.gather(*map(self._ask_alone, followers))
                return
            for follower in followers:
                follower.note_unanswered(error)
        except Exception as error:  # a view that is not proved would never be fresh again
            log.exception("view_not_proved", programs=programs)
            for follower in followers:
                follower.note_unanswered(error)
        else:
            for follower, seen in zip(followers, metas, strict=True):
                follower.note_answered(seen)

    async def _ask_alone(self, follower: Follower) -> None:
        """Ask one by one: a ledger that has moved or does not answer must not affect the other views."""
        await self._ask([follower])
        # asking together needs one connection; there may be many programs
        await self._connections[follower.program].drop()

    def _connection_to(self, programs: Sequence[str]) -> LedgerConnection:
        """The connection of one of the programs; it leads to that program's ledger."""
        program = next(filter(self._connections.__contains__, programs), programs[0])
        if program not in self._connections:
            self._connections[program] = self._open_connection(program)
        return self._connections[program]
