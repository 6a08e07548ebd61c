"""A process with the quota views of many fronts, which only follow journals."""

import asyncio
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection

import uvloop

from loadtest.bench.own_ledger import OwnLedger
from loadtest.stage.cores import ran_s
from reservasi import logs
from reservasi.availability import Availability, follower
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.servers import Servers
from reservasi.settings import Settings

STALE_MS = Settings.model_fields["view_stale_ms"].default
TOO_MANY = 1_000_000_000
WANT_INTERVAL_S = 1.0
TIMEOUT_S = 60.0
POLL_S = 0.01


class Followers:
    """The views of `count` fronts of each program, in one other process; no process for 0.

    With `wanted`, people keep asking for more places than there are.
    """

    def __init__(self, url: str, ledgers: Sequence[OwnLedger], count: int, *, wanted: bool = True) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, url, count, wanted, [ledger.program for ledger in ledgers])
        self._process = context.Process(target=_run, args=arguments, daemon=True)
        self._count = count

    async def __aenter__(self) -> "Followers":
        if self._count:
            self._process.start()
        await self.reach(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._count:
            self._process.kill()
            self._process.join()

    def cpu_s(self) -> float:
        return ran_s(self._process.pid) if self._process.pid else 0.0

    async def reach(self, places: int) -> None:
        """Wait until every view counts this many taken places in all programs together."""
        if self._count:
            self._pipe.send(places)
            if not await asyncio.to_thread(self._pipe.poll, TIMEOUT_S):
                raise TimeoutError("the followers do not see what was claimed")
            self._pipe.recv()


def _run(pipe: Connection, url: str, count: int, wanted: bool, programs: Sequence[str]) -> None:
    logs.configure("warning", "console")
    if not wanted:
        follower.IDLE_AFTER_S = 0.0  # at rest at once
    uvloop.run(_follow(pipe, [Servers(url) for _ in range(count)], wanted, programs))


async def _follow(pipe: Connection, servers: Sequence[Servers], wanted: bool, programs: Sequence[str]) -> None:
    """Receive numbers of places, and send each one back when every view counts that many taken."""
    fronts = [_front(each, programs) for each in servers]
    wanting = asyncio.create_task(_want(fronts)) if wanted else None  # noqa: F841 - kept from the collector
    while True:
        places = await asyncio.to_thread(pipe.recv)
        while any(_taken(front) < places for front in fronts):  # noqa: ASYNC110 - a view has no event
            await asyncio.sleep(POLL_S)
        pipe.send(places)


def _front(servers: Servers, programs: Sequence[str]) -> Availability:
    """The views that one front has of the programs."""
    library = read_library()
    front = Availability(
        lambda program: LedgerConnection(servers.of(program), program, library),
        lambda program: Journal(servers.client_of(program), program),
        server_of=servers.name_of,
        stale_ms=STALE_MS,
    )
    for program in programs:
        front.follow(program)
    return front


def _taken(front: Availability) -> int:
    """Taken places that these views count; -1 while they are not in step."""
    return sum(quota.counts.taken for quota in front.changed_since(0)) if front.ready else -1


async def _want(fronts: Sequence[Availability]) -> None:
    """Keep asking for more places than there are, like a crowd after a quota is sold out."""
    while True:
        for front in fronts:
            for quota in front.changed_since(0):
                front.is_sold_out(quota.id, TOO_MANY, "")
        await asyncio.sleep(WANT_INTERVAL_S)
