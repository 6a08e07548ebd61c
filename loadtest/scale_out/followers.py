"""Fronts that do nothing but follow journals, in a process of their own: `python -m loadtest.scale_out.followers`."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvloop

from loadtest.scale_out.processor import cpu_s
from reservasi import logs
from reservasi.availability.follower import Follower
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal import Journal
from reservasi.ledger.library import read_library
from reservasi.ledger.servers import Servers

BLOCK_MS = 50  # the setting's default
TIMEOUT_S = 60.0
POLL_S = 0.01


class Followers:
    """So many fronts' views of each program, kept by another process as each front keeps its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def cpu_s(self) -> float:
        """Processor time of all of them so far."""
        return cpu_s(self._process.pid)

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
async def following(url: str, programs: Sequence[str], count: int) -> AsyncIterator[Followers]:
    """So many followers of each program, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __spec__.name, url, str(count), *programs,
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


async def _follow(url: str, count: int, programs: Sequence[str]) -> None:
    """For each number on standard input answer with a line, once every view has so many places taken."""
    servers = [Servers(url) for _ in range(count)]
    groups = [[_follower(each, program) for program in programs] for each in servers]
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        async with asyncio.timeout(TIMEOUT_S):
            while any(_taken(group) < int(line) for group in groups):  # noqa: ASYNC110 - a view has no event
                await asyncio.sleep(POLL_S)
        print("there", flush=True)


def _follower(servers: Servers, program: str) -> Follower:
    return Follower(
        program,
        LedgerConnection(servers.of(program), program, read_library()),
        Journal(servers.client_of(program), program),
        note_change=lambda: 0,
        block_ms=BLOCK_MS,
    )


def _taken(group: Sequence[Follower]) -> int:
    """Places that these views see taken; -1 until all of them follow."""
    if not all(follower.ready for follower in group):
        return -1
    return sum(quota.counts.taken for follower in group for quota in follower.view.quotas.values())


if __name__ == "__main__":
    logs.configure("warning", "console")
    uvloop.run(_follow(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
