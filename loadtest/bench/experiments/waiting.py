"""What people who wait for an opening cost: the ledger's memory and a front's, for thousands and for a million."""

import time
from collections.abc import Callable

import redis.asyncio as redis_asyncio

from loadtest.bench.client import run_load
from loadtest.bench.experiments.memory import resident_bytes
from loadtest.bench.experiments.programs import LedgerRefused, OwnLedger, own_ledger
from loadtest.bench.figures import Figure
from loadtest.bench.ground import Ground
from loadtest.bench.joins import FIRST_PERSON, MISTAKEN_MAX, check_count, create_opening, join_request, read_count
from loadtest.bench.stores import prepared
from loadtest.bench.variants import Ours
from loadtest.stage.cores import Cores
from loadtest.stage.ports import wait_listening
from reservasi.ledger import keys
from reservasi.model import Join, OpeningTerms, Outcome, SetOpening

NAME = "waiting"
TITLE = "Waiting: memory of the ledger and of a front by how many people wait for an opening"
PROGRAM = "waiting"
OPENING = f"{PROGRAM}-1"
OPENS_AT_MS = 4_000_000_000_000  # nobody waits that long
FRONT_BYTES_MAX = 8 << 20  # whoever asked within the last second or so is remembered for their rate limit
START_TIMEOUT_S = 30.0
LOAD_TIMEOUT_S = 300.0
CONNECTIONS = 64
AT_ONCE = 10_000  # people whose requests are built together


async def run(cores: Cores, smoke: bool, say: Callable[[str], None]) -> list[Figure]:
    """The figures of both."""
    in_ledger, in_front = ((100, 1000, 10_000), (200, 1000)) if smoke else ((1000, 100_000, 1_000_000), (1000, 100_000))
    async with prepared(cores) as ground:
        used = await ledger_bytes(ground.redis_url, in_ledger, say)
        resident = await front_bytes(ground, in_front, say)
    return [
        *(
            Figure(
                name=f"ledger, {people} joined",
                title=f"the ledger's memory of who joined, a person, when {people:,} have",
                value=used[people] / people,
                unit="bytes",
                note=f"MEMORY USAGE of the list: {used[people]:,} bytes",
            )
            for people in in_ledger
        ),
        Figure(
            name="mistaken",
            title=f"people who were taken for others, of {in_ledger[-1]:,}",
            value=used[0],
            unit="people",
            target=in_ledger[-1] // MISTAKEN_MAX,
            sense="at most",
            note="they are not counted, and have their tickets all the same",
        ),
        Figure(
            name=f"front, {in_front[1]} wait",
            title=f"a front's memory more than with {in_front[0]:,} who joined through it, with {in_front[1]:,}",
            value=resident[in_front[1]] - resident[in_front[0]],
            unit="bytes",
            target=FRONT_BYTES_MAX,
            sense="at most",
            note="resident memory; it follows how many join a second, not how many have joined",
        ),
    ]


async def ledger_bytes(redis_url: str, points: tuple[int, ...], say: Callable[[str], None]) -> dict[int, int]:
    """The ledger's memory of who joined, once so many have; by 0 how many of all were taken for others."""
    async with redis_asyncio.Redis.from_url(redis_url) as client, own_ledger(redis_url, PROGRAM, 1, 1) as ledger:
        await ledger.carry_out([SetOpening(opening=OPENING, terms=_terms())], Outcome.OPENING_SET)
        used, joined = {}, 0
        for people in points:
            say(f"waiting: {people} people join at the ledger")
            await _join(ledger, joined, people)
            joined = people
            check_count(await read_count(client, PROGRAM, OPENING), joined)
            used[0] = people - await read_count(client, PROGRAM, OPENING)
            used[people] = int(await client.memory_usage(f"{keys.joined(PROGRAM)}:{OPENING}:before", samples=0) or 0)
        if ledger.program != PROGRAM or not all(used[people] for people in points):
            raise LedgerRefused("nobody was counted")
    return used


async def _join(ledger: OwnLedger, first: int, last: int) -> None:
    for start in range(first, last, AT_ONCE):
        people = range(start, min(start + AT_ONCE, last))
        # As long as a keyed hash, and like one to a hash function.
        await ledger.carry_out([Join(opening=OPENING, ticket_id=f"{number:022d}") for number in people], Outcome.JOINED)


def _terms() -> OpeningTerms:
    return OpeningTerms(
        opens_at_ms=OPENS_AT_MS,
        joins_from_ms=int(time.time() * 1000) - 60_000,
        ends_at_ms=OPENS_AT_MS + 3_600_000,
        waiting_room=True,
        proof_of_work=False,
        rate_per_min=600,
        rate_max_per_min=600,
        adaptive=False,
        commitment="0" * 64,
        sealed_seed="k1." + "x" * 120,
    )


async def front_bytes(ground: Ground, points: tuple[int, ...], say: Callable[[str], None]) -> dict[int, int]:
    """A front's resident memory once so many have joined through it."""
    ours, resident, joined = Ours(ground), {}, 0
    try:
        await ours.start()
        await wait_listening(ours.port, START_TIMEOUT_S)
        await create_opening(ground)
        for people in points:
            say(f"waiting: {people} people join through a front")
            while joined < people:
                some = min(AT_ONCE, people - joined)
                requests = [join_request(FIRST_PERSON + joined + number) for number in range(some)]
                load = await run_load(ours.port, requests, connections=CONNECTIONS, timeout_s=LOAD_TIMEOUT_S)
                if load.refused:
                    raise LedgerRefused(f"joins were answered {dict(load.answers)}")
                joined += some
            resident[people] = resident_bytes(ours.pids["front"])
    finally:
        await ours.stop()
    return resident
