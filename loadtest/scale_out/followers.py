"""Fronts that do nothing but follow journals, in a process of their own: `python -m loadtest.scale_out.followers`."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvloop

from loadtest.stage.cores import ran_s
from reservasi import logs
from reservasi.availability import Availability, follower
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.ending_tasks import end_tasks
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
    """So many fronts' views of each program, kept by another process as each front keeps its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def cpu_s(self) -> float:
        return ran_s(self._process.pid)

    async def reach(self, places: int) -> None:
        """Wait until every view knows that so many places are taken in all programs together.

        Raises:
            TimeoutError: one does not within `TIMEOUT_S`.
            RuntimeError: the process has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018 - both are pipes
        self._process.stdin.write(f"{places}\n".encode())
        async with asyncio.timeout(TIMEOUT_S):
            if not await self._process.stdout.readline():
                raise RuntimeError("the followers have ended")


@asynccontextmanager
async def following(url: str, programs: Sequence[str], count: int, *, wanted: bool = True) -> AsyncIterator[Followers]:
    """So many followers of each program, until the block ends; `wanted`: all the time somebody could be refused."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __spec__.name, url, str(count), str(int(wanted)), *programs,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        followers = Followers(process)
        await followers.reach(0)
        yield followers
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _follow(url: str, count: int, wanted: bool, programs: Sequence[str]) -> None:
    """For each number on standard input answer with a line, once every view has so many places taken."""
    servers = [Servers(url) for _ in range(count)]
    fronts = [_front(each, programs) for each in servers]
    loop = asyncio.get_running_loop()
    if not wanted:
        follower.IDLE_AFTER_S = 0.0  # at rest at once
    wanting = [asyncio.create_task(_want(fronts))] if wanted else []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        async with asyncio.timeout(TIMEOUT_S):
            while any(_taken(front) < int(line) for front in fronts):  # noqa: ASYNC110 - a view has no event
                await asyncio.sleep(POLL_S)
        print("there", flush=True)
    await end_tasks(wanting)


def _front(servers: Servers, programs: Sequence[str]) -> Availability:
    """Views of the programs, as a front has them."""
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
    """Places that these views see taken; -1 until all of them follow."""
    return sum(quota.counts.taken for quota in front.changed_since(0)) if front.ready else -1


async def _want(fronts: Sequence[Availability]) -> None:
    """Ask again and again for more places than there are, as a crowd does that memory refuses."""
    while True:
        for front in fronts:
            for quota in front.changed_since(0):
                front.is_sold_out(quota.id, TOO_MANY, "")
        await asyncio.sleep(WANT_INTERVAL_S)


if __name__ == "__main__":
    logs.configure("warning", "console")
    uvloop.run(_follow(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", sys.argv[4:]))
