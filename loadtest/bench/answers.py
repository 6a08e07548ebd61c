"""What most people meet at an opening: joins, the list of what is left, and `sold-out`; each beside a bare handler."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import redis.asyncio as redis_asyncio

from loadtest.bench import claims
from loadtest.bench.client import Load, run_load
from loadtest.bench.ground import PROGRAM, Ground
from loadtest.bench.measuring import START_TIMEOUT_S, Round, Say, Subject, WrongResult, check_size
from loadtest.bench.rounds import Bench, started
from loadtest.bench.variants import Bare, Variant
from loadtest.stage.people import person
from reservasi.bootstrap.commands import open_operations, open_program
from reservasi.ledger import keys
from reservasi.model import Outcome, SetOpening, SetQuota
from reservasi.programs import WaitingRoom
from reservasi.waiting_room.creation import new_terms

AVAILABILITY = "availability"
SOLD_OUT = "sold_out"
JOINS = "joins"
TITLES = {
    JOINS: "POST /v1/openings/{id}/tickets before the opening, against a constant 201 of the same size",
    SOLD_OUT: "claims for a quota without places, against a constant 409 of the same size",
    AVAILABILITY: "GET /v1/availability of one office, against a constant 200 of the same size",
}
PROBES = 8
OPENING = f"{PROGRAM}-joins"
OPENS_AT_MS = 4_000_000_000_000  # nobody waits that long: every join is one before the opening
MISTAKEN_MAX = 10_000  # one in so many may be taken for somebody who joined before
FIRST_JOINER = 100_000_000  # the number of a person who has not claimed

Requests = Callable[[int], list[bytes]]  # so many further ones
Check = Callable[[Load], Awaitable[None]]


class Joiners:
    """Everybody joins once in a whole run."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._next = FIRST_JOINER
        self.joined = 0

    def requests(self, count: int) -> list[bytes]:
        """So many further people join."""
        self._next += count
        return [claims.join(OPENING, person(number)) for number in range(self._next - count, self._next)]

    async def check(self, load: Load) -> None:
        """The ledger counts everybody who has joined, but for those who may be taken for others."""
        self.joined += load.claimed
        check_count(await self.counted(), self.joined)

    async def counted(self) -> int:
        """How many people joined, as the ledger has counted them."""
        async with redis_asyncio.Redis.from_url(self._ground.redis_url) as client:
            return int(await client.lindex(f"{keys.joined(PROGRAM)}:{OPENING}:before", 0) or 0)


def check_count(counted: int, joined: int) -> None:
    """Whether the ledger's count is that of the people who joined, but for those who may be mistaken for others.

    Raises:
        WrongResult: it is not.
    """
    if not 0 <= joined - counted <= joined // MISTAKEN_MAX:
        raise WrongResult(f"{joined} people joined, and the ledger counts {counted}")


async def prepare_answers(ground: Ground) -> None:
    """One quota without places, and an opening that lies so far ahead that nobody waits so long."""
    async with open_operations(ground.settings) as operations, open_program(operations, PROGRAM) as group:
        terms = new_terms(operations.sealing, OPENING, OPENS_AT_MS, WaitingRoom(), joins_from_ms=1)
        emptied = await group.submit(SetQuota(quota=ground.read_quotas[0], capacity=0))
        created = await group.submit(SetOpening(opening=OPENING, terms=terms))
    if (emptied.outcome, created.outcome) != (Outcome.QUOTA_SET, Outcome.OPENING_SET):
        raise WrongResult(f"nothing can be refused or joined: {emptied.outcome}, {created.outcome}")


async def measure_answers(bench: Bench, joiners: Joiners, say: Say) -> dict[str, list[Round]]:
    """Each kind of answer, interleaved with a bare handler that answers as many bytes.

    Raises:
        WrongResult: an answer had another status or size, or the ledger counted other than so many people.
    """
    ground = bench.ground
    filters = f"program={PROGRAM}&office={ground.read_office}&service=baru&channel=online"
    listing = claims.get(f"/v1/availability?{filters}", encoding="identity")
    emptied = ground.read_quotas[:1]
    return {
        SOLD_OUT: await _alike(bench, say, SOLD_OUT, 409, lambda count: bench.people.requests(count, emptied)),
        AVAILABILITY: await _alike(bench, say, AVAILABILITY, 200, lambda count: [listing] * count),
        JOINS: await _alike(bench, say, JOINS, 201, joiners.requests, check=joiners.check),
    }


async def _unchecked(_load: Load) -> None:
    """An answer from memory leaves nothing behind that could be checked."""


async def _alike(
    bench: Bench, say: Say, name: str, status: int, requests: Requests, *, check: Check = _unchecked
) -> list[Round]:
    """Our service, interleaved with a bare handler that answers all of it with this status and as many bytes."""
    ours = bench.ours
    probe = await run_load(ours.port, requests(PROBES), connections=PROBES, timeout_s=START_TIMEOUT_S, wanted=status)
    if probe.refused:
        raise WrongResult(f"{name} answered {dict(probe.answers)}, not always {status}")
    await check(probe)
    answer_bytes = max(probe.answer_bytes)

    def subject(title: str, variant: Variant, check: Check) -> Subject:
        async def check_both(load: Load) -> None:
            check_size(title, load, answer_bytes)
            await check(load)

        return Subject(
            name=title,
            port=variant.port,
            roots={**bench.ground.store_pids, **variant.pids},
            requests=requests,
            settle=variant.settle,
            check=check_both,
            wanted=status,
        )

    async with AsyncExitStack() as stack:
        bare = Bare(replace(bench.ground, answer_bytes=answer_bytes), status)
        await started(bare, stack)
        return await bench.meter.rounds(subject(f"bare {name}", bare, _unchecked), [subject(name, ours, check)], say)
