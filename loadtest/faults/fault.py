"""What a fault is, and what it finds when it strikes: a running service, and a crowd in the middle of its claims."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio as redis_asyncio

from loadtest.checker.history import Exchange
from loadtest.crowd.crowd import Crowd
from loadtest.stage.proxy import Connect, Link, Proxy
from loadtest.stage.service import Part, Service, wait_for
from loadtest.stage.shims import Shim, Shims
from reservasi.embedded import Places
from reservasi.ledger import keys

POLL_S = 0.02
GONE_TIMEOUT_S = 10.0
STRIKE_TIMEOUT_S = 120.0
DRAIN_S = 20.0
STRIKE_SHARE_MIN, STRIKE_SHARE_MAX = 0.15, 0.4  # of the places that are taken when it strikes


class Missed(Exception):
    """The fault did not do what it was to do, so the run says nothing; or the service did not do what it must."""


class LosingProxy(Proxy):
    """Loses answers to requests with the mark, on command: the request is carried out, its answer never arrives."""

    def __init__(self, connect: Connect, mark: bytes) -> None:
        super().__init__(connect)
        self.lost = 0  # answers so far
        self.all_lost = asyncio.Event()  # of those that were to be lost
        self._to_lose = 0
        self._mark = mark
        self._links: set[Link] = set()  # connections by which such a request is under way

    def lose(self, count: int) -> None:
        self._to_lose = count
        self.all_lost.clear()

    async def upwards(self, link: Link, chunk: bytes) -> bool:
        if self._mark in chunk:
            self._links.add(link)
        return True

    async def downwards(self, link: Link, chunk: bytes) -> bool:
        if link not in self._links:
            return True
        self._links.discard(link)
        if not chunk or not self._to_lose:
            return True
        self._to_lose -= 1
        self.lost += 1
        if not self._to_lose:
            self.all_lost.set()
        return False


@asynccontextmanager
async def open_proxy(connect: Connect, mark: bytes) -> AsyncIterator[LosingProxy]:
    proxy = LosingProxy(connect, mark)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


@dataclass(kw_only=True)
class Scene:
    service: Service
    crowd: Crowd
    program: str
    capacity: int
    chance: random.Random
    shims: Shims
    lost_until_ms: float = 0.0  # answers until then came from a ledger that is gone
    planted: str = ""  # the beginning of the violation that the checker must report of what was planted
    proxy: LosingProxy | None = None  # between fronts and ledger, when the fault asked for it

    # -- the sale --------------------------------------------------------------------------------------------------

    @property
    def served(self) -> int:
        return len({e.body["id"] for e in self.crowd.history if e.call == "claim" and e.outcome == 201})

    async def mid_sale(self) -> None:
        await self.taken(self.chance.uniform(STRIKE_SHARE_MIN, STRIKE_SHARE_MAX))

    async def taken(self, share: float) -> None:
        """Wait until this share of the places is taken; it is missed if the crowd leaves before."""
        while self.served < share * self.capacity:
            if self.crowd.results.total() == self.crowd.plan.people:
                raise Missed(f"the crowd left when {self.served} of {self.capacity} places were taken")
            await asyncio.sleep(POLL_S)

    async def served_in(self, seconds: float) -> int:
        before = self.served
        await asyncio.sleep(seconds)
        return self.served - before

    def exchanges(self, since_ms: float, until_ms: float) -> list[Exchange]:
        return [e for e in self.crowd.history if e.sent_ms > since_ms and e.answered_ms < until_ms]

    async def quotas_left(self, least: int = 1) -> list[str]:
        return await asyncio.to_thread(self.service.quotas, self.program, least)

    async def until(self, holds: Callable[[], object], timeout_s: float, otherwise: str) -> None:
        """Wait until it holds, or raise a TimeoutError that says `otherwise`."""
        await asyncio.to_thread(wait_for, holds, timeout_s, otherwise)

    # -- its processes ---------------------------------------------------------------------------------------------

    @contextmanager
    def unsupervised(self) -> Iterator[None]:
        """No process that dies meanwhile is replaced."""
        os.kill(self.service.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.service.pid, signal.SIGCONT)

    def kill(self, part: Part) -> None:
        """SIGKILL every process of a part, and wait until they are gone; only while they are unsupervised."""
        pids = self.service.pids(part)
        if not pids:
            raise Missed(f"no {part} runs")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self.service.pids(part), GONE_TIMEOUT_S, f"{part} does not die")

    def log_lines(self, event: str) -> list[str]:
        return [line for line in self.service.log_path.read_text().splitlines() if f'"{event}"' in line]

    async def command(self, *words: str, code: int = 0, program: bool = True) -> Any:
        """The JSON that a command of `reservasi` prints, which ends with that code; `program` adds `--program`."""
        named = ("--program", self.program) if program else ()
        done = await asyncio.to_thread(self.service.command, *words, *named)
        if done.returncode != code:
            output = f"{done.stdout[-1000:]}{done.stderr[-1000:]}"
            raise Missed(f"`reservasi {' '.join(words)}` ended with {done.returncode}: {output}")
        return json.loads(done.stdout)

    # -- its stores ------------------------------------------------------------------------------------------------

    @property
    def places(self) -> Places:
        return Places.of(self.service.data_dir)

    def append_only_files(self) -> list[Path]:
        return sorted(self.places.valkey.rglob("*.incr.aof"))

    def ledger(self) -> redis_asyncio.Redis:
        """A client of the ledger's server that goes past the service."""
        return redis_asyncio.Redis.from_url(self.service.redis_url)

    async def ledger_seq(self) -> int:
        async with self.ledger() as client:
            return int(await client.hget(keys.meta(self.program), "seq") or 0)

    async def recorded_seq(self) -> int:
        connection = await asyncpg.connect(self.service.postgres_dsn)
        try:
            return int(await connection.fetchval("SELECT seq FROM positions WHERE program = $1", self.program) or 0)
        finally:
            await connection.close()

    async def drained(self) -> float:
        """Seconds until everything that the ledger has now is recorded."""
        wanted, begun_s = await self.ledger_seq(), time.monotonic()
        while time.monotonic() < begun_s + DRAIN_S:
            try:
                if await self.recorded_seq() >= wanted:
                    return time.monotonic() - begun_s
            except (OSError, asyncpg.PostgresError):  # not up yet
                pass
            await asyncio.sleep(0.1)
        raise Missed(f"what waited was not recorded within {DRAIN_S:g} s")


Strike = Callable[[Scene], Awaitable[str]]  # returns the note of the table


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    strike: Strike
    shims: tuple[Shim, ...] = ()
    processes: int = 2  # fronts
    places: int = 300
    people: int = 450
    at_once: int = 60
    hold_s: int = 7200
    control: bool = False  # it must lose something: it shows that losses are seen
    through_proxy: bool = False  # fronts and worker reach the ledger through a proxy
    surprises: bool = False  # people may be answered, rightly, that their hold has ended
    recorded_only: bool = False  # the ledger is gone: holds that were not recorded yet are not promised
    journal_gap: bool = False  # what was recorded anew has no entries: nothing can be replayed across that
    alone: bool = False  # it strikes before anybody comes
    timeout_s: float = STRIKE_TIMEOUT_S  # of the strike
    settings: Mapping[str, str] = field(default_factory=dict)  # of the service, as its environment has them
