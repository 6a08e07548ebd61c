"""The memory that live reservations and people in a waiting room take."""

from contextlib import AsyncExitStack

import redis.asyncio as redis_asyncio

from loadtest.bench.answers import MISTAKEN_MAX, Joiners, prepare_answers
from loadtest.bench.client import run_load
from loadtest.bench.figures import Figure, Say, WrongResult
from loadtest.bench.ground import PROGRAM, QUOTAS, Ground, prepared
from loadtest.bench.measuring import started
from loadtest.bench.own_ledger import own_ledger, until_rewritten
from loadtest.bench.variants import Ours
from loadtest.stage.cores import Cores, resident_bytes
from reservasi.ledger import keys

NAME = "memory"
TITLE = "Memory: of a live reservation in the ledger, and of people who wait in the ledger and in a front"
OWN_PROGRAM = "memory"
RESERVATION_BYTES_MAX = 300
JOINED_BYTES_MAX = 8 << 20  # a front keeps those who asked within the last second or so, for their rate limit
JOIN_CONNECTIONS = 64
JOINS_AT_ONCE = 10_000  # requests that are built together
JOIN_TIMEOUT_S = 300.0


async def run(cores: Cores, smoke: bool, say: Say) -> list[Figure]:
    reservations, people = (1000, (200, 1000)) if smoke else (100_000, (1000, 100_000))
    async with prepared(cores) as ground, AsyncExitStack() as stack:
        say(f"memory: {reservations} live reservations")
        figures = await _reservations(ground.redis_url, reservations)
        await prepare_answers(ground)
        ours = Ours(ground)
        await started(ours, stack)
        say(f"memory: {people[-1]} people join through a front")
        return [*figures, *await _joined(ground, ours, people)]


async def _reservations(redis_url: str, reservations: int) -> list[Figure]:
    """The ledger's memory for each reservation: record and journal apart."""
    async with own_ledger(redis_url, OWN_PROGRAM, quotas=QUOTAS, capacity=reservations) as ledger:
        used, in_journal = await _used(ledger.client)
        await ledger.fill(reservations)
        used_now, in_journal_now = await _used(ledger.client)
        if await ledger.taken() != reservations:
            raise WrongResult("the ledger does not hold what was measured")
    journal_bytes = in_journal_now - in_journal
    return [
        Figure(
            name="live reservation",
            title=f"ledger memory of each of {reservations:,} live reservations of one person, journal apart",
            value=(used_now - used - journal_bytes) / reservations,
            unit="bytes",
            target=RESERVATION_BYTES_MAX,
            sense="at most",
            note="growth of used_memory: record, person and timer, with the tables' spare room",
        ),
        Figure(
            name="journal entry",
            title="journal in the ledger's memory for each of them, until it is recorded and trimmed",
            value=journal_bytes / reservations,
            unit="bytes",
            note="the sealed envelope is most of it; batches of 64",
        ),
    ]


async def _used(client: redis_asyncio.Redis) -> tuple[int, int]:
    """The ledger's whole memory without buffers of connections, and that of the journal in it."""
    await until_rewritten(client)
    in_journal = await client.memory_usage(keys.journal(OWN_PROGRAM), samples=0)
    facts = await client.info("memory")
    return facts["used_memory"] - facts["mem_clients_normal"], int(in_journal or 0)


async def _joined(ground: Ground, ours: Ours, points: tuple[int, int]) -> list[Figure]:
    joiners, resident = Joiners(ground), []
    for people in points:
        while joiners.joined < people:
            requests = joiners.requests(min(JOINS_AT_ONCE, people - joiners.joined))
            load = await run_load(ours.port, requests, connections=JOIN_CONNECTIONS, timeout_s=JOIN_TIMEOUT_S)
            load.check("joins")
            await joiners.check(load)
        resident.append(resident_bytes(ours.pids["front"]))
    async with redis_asyncio.Redis.from_url(ground.redis_url) as client:
        joined = client.scan_iter(match=f"{keys.joined(PROGRAM)}*")
        used = sum([int(await client.memory_usage(key, samples=0) or 0) async for key in joined])
    few, many = points
    return [
        Figure(
            name=f"ledger, {many} joined",
            title=f"the ledger's memory of each of {many:,} people who joined",
            value=used / many,
            unit="bytes",
        ),
        Figure(
            name="mistaken",
            title=f"people who were taken for others, of {many:,}",
            value=many - await joiners.counted(),
            unit="people",
            target=many // MISTAKEN_MAX,
            sense="at most",
            note="they are not counted, and have their tickets all the same",
        ),
        Figure(
            name=f"front, {many} joined",
            title=f"a front's memory more when {many:,} have joined through it than when {few:,} have",
            value=resident[1] - resident[0],
            unit="bytes",
            target=JOINED_BYTES_MAX,
            sense="at most",
            note="resident memory; it follows how many join a second, not how many have joined",
        ),
    ]
