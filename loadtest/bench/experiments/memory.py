"""What a live reservation costs in the ledger's memory, and an open connection in a front's."""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path

import redis.asyncio as redis_asyncio

from loadtest.bench.client import HOST
from loadtest.bench.cores import Cores
from loadtest.bench.experiments.programs import info, own_ledger, rewritten
from loadtest.bench.figures import Figure
from loadtest.bench.ground import Ground
from loadtest.bench.ports import wait_listening
from loadtest.bench.stores import prepared
from loadtest.bench.variants import Ours
from reservasi.ledger import keys

NAME = "memory"
TITLE = "Memory: of the ledger a live reservation, of a front an open connection"
PROGRAM = "memory"
RESERVATION_BYTES_MAX = 300
FILES_SPARE = 200  # descriptors that are not connections of ours
START_TIMEOUT_S = 30.0


async def run(cores: Cores, smoke: bool, say: Callable[[str], None]) -> list[Figure]:
    """The figures of both."""
    reservations, quotas, connections = (1000, 10, 50) if smoke else (100_000, 100, 4000)
    connections = min(connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_SPARE)
    async with prepared(cores) as ground:
        say(f"memory: {reservations} live reservations")
        live_bytes, journal_bytes = await reservation_bytes(ground.redis_url, reservations, quotas)
        say(f"memory: {connections} idle connections to a front")
        idle_bytes = await connection_bytes(ground, connections)
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
            note="resident memory of the front's processes; nothing is stored for a person who waits",
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


async def connection_bytes(ground: Ground, connections: int) -> float:
    """The growth of a front's resident memory by each connection that is open and idle."""
    ours = Ours(ground)
    writers: list[asyncio.StreamWriter] = []
    try:
        await ours.start()
        await wait_listening(ours.port, START_TIMEOUT_S)
        # The first ones make room that later ones use again; they stay open and are not counted.
        writers += await _open(ours.port, max(1, connections // 10))
        before = resident_bytes(ours.pids["front"])
        writers += await _open(ours.port, connections)
        return (resident_bytes(ours.pids["front"]) - before) / connections
    finally:
        for writer in writers:
            writer.close()
        await ours.stop()


async def _open(port: int, connections: int) -> list[asyncio.StreamWriter]:
    """Connections that the front has taken: each has had an answer."""
    opened = []
    for _ in range(connections):
        reader, writer = await asyncio.open_connection(HOST, port)
        opened.append(writer)
        writer.write(b"GET /v1/programs HTTP/1.1\r\nHost: bench\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
    return opened


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
