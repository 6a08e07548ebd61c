"""What a live reservation costs in the ledger's memory, and in a front's an open connection and a person who waits."""

import asyncio
import contextlib
import dataclasses
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import aiohttp
import redis.asyncio as redis_asyncio

from loadtest.bench.claims import requests
from loadtest.bench.client import HOST
from loadtest.bench.experiments.programs import info, own_ledger, rewritten
from loadtest.bench.figures import Figure
from loadtest.bench.ground import Ground
from loadtest.bench.stores import prepared
from loadtest.bench.variants import Ours
from loadtest.stage.cores import Cores
from loadtest.stage.ports import wait_listening
from reservasi.ledger import keys

NAME = "memory"
TITLE = "Memory: of the ledger a live reservation, of a front an open connection and a person who waits"
PROGRAM = "memory"
RESERVATION_BYTES_MAX = 300
FILES_SPARE = 200  # descriptors that are not connections of ours
START_TIMEOUT_S = 30.0
WARM_UP_CLAIMS = 200
WAIT_TIMEOUT_S = 30.0  # a claim's deadline while the ledger stands still
POLL_S = 0.02
CREATED = 201
IN_FLIGHT = "reservasi_requests_in_flight "

Line: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def run(cores: Cores, smoke: bool, say: Callable[[str], None]) -> list[Figure]:
    """The figures of both."""
    reservations, quotas, connections = (1000, 10, 50) if smoke else (100_000, 100, 4000)
    connections = min(connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_SPARE)
    async with prepared(cores) as ground:
        say(f"memory: {reservations} live reservations")
        live_bytes, journal_bytes = await reservation_bytes(ground.redis_url, reservations, quotas)
        say(f"memory: {connections} idle connections to a front")
        idle_bytes, waiting_bytes = await front_bytes(ground, connections, say)
    return [
        Figure(
            name="live reservation",
            title=f"ledger memory of each of {reservations:,} live reservations of one person, journal apart",
            value=live_bytes,
            unit="bytes",
            target=RESERVATION_BYTES_MAX,
            sense="at most",
            note="growth of used_memory: record, person and timer, with the tables' spare room",
        ),
        Figure(
            name="journal entry",
            title="journal in the ledger's memory for each of them, until it is recorded and trimmed",
            value=journal_bytes,
            unit="bytes",
            note="the sealed envelope is most of it; batches of 1000",
        ),
        Figure(
            name="idle connection",
            title=f"front memory of each of {connections:,} open connections that ask nothing",
            value=idle_bytes,
            unit="bytes",
            note="resident memory of the front's processes; nothing is stored for a person in the waiting room",
        ),
        Figure(
            name="waiting person",
            title=f"front memory more for each of {connections:,} people whose claims wait for the ledger",
            value=waiting_bytes,
            unit="bytes",
            note="the ledger stands still; above an idle connection, sealed envelope included; all are answered after",
        ),
    ]


async def reservation_bytes(redis_url: str, reservations: int, quotas: int) -> tuple[float, float]:
    """The growth of the ledger's memory by each reservation, without and in its journal."""
    async with (
        redis_asyncio.Redis.from_url(redis_url) as client,
        own_ledger(redis_url, PROGRAM, quotas, reservations) as ledger,
    ):
        before = await _used(client)
        await ledger.fill(reservations)
        after = await _used(client)
        if await ledger.held() != reservations:
            raise RuntimeError("the ledger does not hold what was measured")
    growth, in_journal = (later - earlier for earlier, later in zip(before, after, strict=True))
    return (growth - in_journal) / reservations, in_journal / reservations


async def _used(client: redis_asyncio.Redis) -> tuple[int, int]:
    """The ledger's whole memory, and that of the journal in it."""
    await rewritten(client)
    in_journal = await client.memory_usage(keys.journal(PROGRAM), samples=0)
    return int((await info(client, "memory"))["used_memory"]), int(in_journal or 0)


async def front_bytes(ground: Ground, connections: int, say: Callable[[str], None]) -> tuple[float, float]:
    """The growth of a front's resident memory by each idle connection, and by each claim that then waits on it."""
    settings = ground.settings.model_copy(update={"command_timeout_ms": int(WAIT_TIMEOUT_S * 1000)})
    ours = Ours(dataclasses.replace(ground, settings=settings))
    lines: list[Line] = []
    try:
        await ours.start()
        await wait_listening(ours.port, START_TIMEOUT_S)
        front = ours.pids["front"]
        # The first ones make room that later ones use again; they stay open and are not counted.
        lines += await _open(ours.port, max(1, connections // 10))
        before = resident_bytes(front)
        opened = await _open(ours.port, connections)
        lines += opened
        idle_bytes = (resident_bytes(front) - before) / connections

        say(f"memory: {connections} claims that wait for the ledger")
        claims = requests(0, WARM_UP_CLAIMS + connections, ground.quotas)
        for claim in claims[:WARM_UP_CLAIMS]:  # one after the other: they leave no room behind
            await _claimed(lines[0], claim)
        before = resident_bytes(front)
        with standing_still(ground.store_pids["valkey"]):
            for (_reader, writer), claim in zip(opened, claims[WARM_UP_CLAIMS:], strict=True):
                writer.write(claim)
            await _wait_in_flight(ground, connections)
            waiting_bytes = (resident_bytes(front) - before) / connections
        for line in opened:
            await _claimed(line)
        return idle_bytes, waiting_bytes
    finally:
        for _reader, writer in lines:
            writer.close()
        await ours.stop()


async def _open(port: int, connections: int) -> list[Line]:
    """Connections that the front has taken: each has had an answer."""
    opened = []
    for _ in range(connections):
        line = await asyncio.open_connection(HOST, port)
        opened.append(line)
        line[1].write(b"GET /v1/programs HTTP/1.1\r\nHost: bench\r\n\r\n")
        await _answer(line)
    return opened


async def _answer(line: Line) -> int:
    """Read an answer; its HTTP status."""
    reader, _writer = line
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(field for field in head.lower().split(b"\r\n") if field.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split(b" ", 2)[1])


async def _claimed(line: Line, claim: bytes = b"") -> None:
    """Send a claim, unless it was sent before, and see that it succeeded.

    Raises:
        RuntimeError: it did not.
    """
    line[1].write(claim)
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        if (status := await _answer(line)) != CREATED:
            raise RuntimeError(f"a claim was answered with {status}")


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """Stop a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _wait_in_flight(ground: Ground, claims: int) -> None:
    """Until the front says that so many requests wait for their answers.

    Raises:
        TimeoutError: they do not within `WAIT_TIMEOUT_S`.
    """
    settings = ground.settings
    async with asyncio.timeout(WAIT_TIMEOUT_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://{settings.admin_host}:{settings.admin_port}/metrics") as answer:
                told = [line for line in (await answer.text()).splitlines() if line.startswith(IN_FLIGHT)]
            if told and float(told[0].removeprefix(IN_FLIGHT)) >= claims:
                return
            await asyncio.sleep(POLL_S)


def resident_bytes(pid: int) -> int:
    """Proportional resident memory of a process and of all its living descendants."""
    total, waiting = 0, [pid]
    while waiting:
        directory = Path(f"/proc/{waiting.pop()}")
        for line in (directory / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
        for task in (directory / "task").iterdir():
            waiting += map(int, (task / "children").read_text().split())
    return total
