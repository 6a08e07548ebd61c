"""What a fault is, and what it finds when it strikes: a running service, and a crowd in the middle of its claims."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis.asyncio as redis_asyncio

from loadtest.crowd.crowd import Crowd
from loadtest.faults.proxy import Proxy
from loadtest.faults.shims import Shim, Shims
from loadtest.stage.service import Part, Service, wait_for
from reservasi.embedded import Places

POLL_S = 0.02
GONE_TIMEOUT_S = 10.0
STRIKE_TIMEOUT_S = 120.0
STRIKE_SHARE_MIN, STRIKE_SHARE_MAX = 0.15, 0.4  # of the places that are taken when it strikes


class Missed(Exception):
    """The fault did not do what it was to do, so the run says nothing; or the service did not do what it must."""


@dataclass(kw_only=True)
class Scene:
    """Everything that a fault may touch."""

    service: Service
    crowd: Crowd
    program: str
    capacity: int
    chance: random.Random
    shims: Shims
    lost_until_ms: float = 0.0  # answers until then came from a ledger that is gone
    planted: str = ""  # with which the checker's word of what was planted begins, as it must
    proxy: Proxy | None  # between fronts and ledger, when the fault asked for it

    @property
    def places(self) -> Places:
        """Where the service's files lie."""
        return Places.of(self.service.data_dir)

    @property
    def served(self) -> int:
        """How many reservations the crowd was given so far."""
        return len({e.body["id"] for e in self.crowd.history if e.call == "claim" and e.outcome == 201})

    async def mid_sale(self) -> None:
        """Wait until a random part of the places is taken."""
        await self.taken(self.chance.uniform(STRIKE_SHARE_MIN, STRIKE_SHARE_MAX))

    async def taken(self, share: float) -> None:
        """Wait until this share of the places is taken.

        Raises:
            Missed: the crowd has left before.
        """
        while self.served < share * self.capacity:
            if self.crowd.results.total() == self.crowd.plan.people:
                raise Missed(f"the crowd left when {self.served} of {self.capacity} places were taken")
            await asyncio.sleep(POLL_S)

    async def replaced(self, part: Part) -> None:
        """SIGKILL the oldest process of a part, and wait until another one has taken its place."""
        await asyncio.to_thread(self.service.kill_and_wait, part)

    @contextmanager
    def unsupervised(self) -> Iterator[None]:
        """Nobody starts again what dies meanwhile."""
        os.kill(self.service.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.service.pid, signal.SIGCONT)

    def kill(self, part: Part) -> None:
        """SIGKILL every process of a part, and wait until they are gone; only while nobody supervises them."""
        pids = self.service.pids(part)
        if not pids:
            raise Missed(f"no {part} runs")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: None if self.service.pids(part) else True, GONE_TIMEOUT_S, f"{part} does not die")

    def owners_said(self) -> list[str]:
        """What the worker has logged of who may sell, in its order."""
        return [line for line in self.service.log_path.read_text().splitlines() if '"ledger_ownership"' in line]

    def ledger(self) -> redis_asyncio.Redis:
        """A client of the ledger's server that goes past the service."""
        return redis_asyncio.Redis.from_url(self.service.redis_url)

    def append_only_files(self) -> list[Path]:
        """The files that the ledger's server appends to."""
        return sorted(self.places.valkey.rglob("*.incr.aof"))


Strike = Callable[[Scene], Awaitable[str]]  # returns what the table says of it


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One row of the table."""

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
    surprises: bool = False  # people may be told, rightly, that their hold has ended
    recorded_only: bool = False  # the ledger is gone: holds that were not recorded yet are not promised
    journal_gap: bool = False  # what was recorded anew has no entries: nothing can be replayed across that
    alone: bool = False  # it strikes before anybody comes
    timeout_s: float = STRIKE_TIMEOUT_S  # of the strike
    settings: Mapping[str, str] = field(default_factory=dict)  # of the service, as its environment has them
    short: bool = False  # cheap enough for every change
