"""What most people meet at an opening: joins, the list of what is left, and `sold-out`; each beside a bare handler."""

from contextlib import AsyncExitStack
from dataclasses import replace

import redis.asyncio as redis_asyncio

from loadtest.bench import claims
from loadtest.bench.client import Load
from loadtest.bench.figures import Pair, Say, WrongResult
from loadtest.bench.ground import PROGRAM, Ground
from loadtest.bench.measuring import Bench, Meter, Subject, leaves_nothing, started
from loadtest.bench.variants import Bare
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
OPENING = f"{PROGRAM}-joins"
OPENS_AT_MS = 4_000_000_000_000  # nobody waits that long: every join is one before the opening
MISTAKEN_MAX = 10_000  # one in so many may be taken for somebody who joined before
FIRST_JOINER = 100_000_000  # the number of a person who has not claimed


class Joiners:
    """Everybody joins once in a whole run."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._next = FIRST_JOINER
        self.joined = 0

    def requests(self, count: int) -> list[bytes]:
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
    """The ledger's count is that of the people who joined, but for those who may be mistaken for others."""
    if not 0 <= joined - counted <= joined // MISTAKEN_MAX:
        raise WrongResult(f"{joined} people joined, and the ledger counts {counted}")


async def prepare_answers(ground: Ground) -> None:
    """One quota without places, and an opening of another one so far ahead that nobody waits so long."""
    async with open_operations(ground.settings) as operations, open_program(operations, PROGRAM) as group:
        terms = new_terms(operations.sealing, OPENING, OPENS_AT_MS, WaitingRoom(), joins_from_ms=1)
        emptied = await group.submit(SetQuota(quota=ground.read_quotas[0], capacity=0))
        created = await group.submit(SetOpening(opening=OPENING, terms=terms))
        # Nobody can join an opening without quotas.
        taken = SetQuota(quota=ground.read_quotas[-1], opens_at_ms=OPENS_AT_MS, closes_at_ms=0, taker=OPENING)
        moved = await group.submit(taken)
    if {emptied.outcome, moved.outcome} != {Outcome.QUOTA_SET} or created.outcome is not Outcome.OPENING_SET:
        outcomes = f"{emptied.outcome}, {created.outcome}, {moved.outcome}"
        raise WrongResult(f"nothing can be refused or joined: {outcomes}")


async def measure_answers(bench: Bench, joiners: Joiners, meter: Meter, say: Say) -> dict[str, list[Pair]]:
    """Each kind of answer, interleaved with a bare handler that answers as many bytes."""
    ground, ours = bench.ground, bench.ours
    filters = f"program={PROGRAM}&office={ground.read_office}&service=baru&channel=online"
    listing = claims.get(f"/v1/availability?{filters}", encoding="identity")

    def refused(count: int) -> list[bytes]:
        return bench.claims(count, ground.read_quotas[:1])

    subjects = (
        Subject(name=SOLD_OUT, variant=ours, requests=refused, wanted=409),
        Subject(name=AVAILABILITY, variant=ours, requests=lambda count: [listing] * count, wanted=200),
        Subject(name=JOINS, variant=ours, requests=joiners.requests, check=joiners.check),
    )
    return {subject.name: await _beside_bare(subject, meter, say) for subject in subjects}


async def _beside_bare(subject: Subject, meter: Meter, say: Say) -> list[Pair]:
    """Our service, interleaved with a bare handler that answers all of it with this status and as many bytes."""
    answer_bytes = await subject.probe()
    async with AsyncExitStack() as stack:
        variant = Bare(replace(subject.variant.ground, answer_bytes=answer_bytes), subject.wanted)
        await started(variant, stack)
        ours = replace(subject, answer_bytes=answer_bytes)
        bare = replace(ours, name=f"bare {subject.name}", variant=variant, check=leaves_nothing)
        return (await meter.rounds(bare, [ours], say))[subject.name]
