"""Checks that the cost of claims and refusals does not grow with the number of live reservations and quotas."""

import asyncio
import contextlib
import datetime as dt
import itertools
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.claims import requests
from loadtest.bench.client import run_load
from loadtest.bench.figures import Figure, Measured, Pair, Say, WrongResult, paired, ratio
from loadtest.bench.ground import import_quotas, prepared
from loadtest.bench.measuring import START_TIMEOUT_S, started
from loadtest.bench.own_ledger import BATCH, OwnLedger, batches, own_ledger, until_rewritten
from loadtest.bench.variants import Ours
from loadtest.stage.cores import Cores, ran_s
from loadtest.stage.program import open_terms
from reservasi.bootstrap.commands import Operations, open_operations, open_program
from reservasi.model import CAPACITY_MAX, Outcome, SetQuota

NAME = "growth"
TITLE = "Growth: what claims and refusals cost with many reservations and quotas, as a share of the smallest case"
FLAT = 0.15
VALKEY_US, RATE = "valkey_us", "claims_per_s"  # processor time of the server's main thread, a claim
WIDTH = 10  # quotas that one batch names, the same number everywhere
QUOTAS_OF_SIZES = 100  # how many quotas the reservations are spread over
SPARE = 2  # times the places that are needed: not every quota is named equally often
FRONT = "front_s"  # processor time of the front, a refusal
OPEN_MIN = 9  # quotas that stay open, and whose places change all the time
OFFICES, STARTS = 100, 20  # over which a program's quotas are spread; the rest is dates
CHANGES_PER_S = 50
CONNECTIONS = 4
QUOTAS_AT_ONCE = 500  # that are created together
FIRST_PERSON = 200_000_000  # nobody else in the benchmark has such a number


@dataclass(frozen=True)
class Point:
    reservations: int
    quotas: int

    @property
    def name(self) -> str:
        return f"{self.reservations} live, {self.quotas} quotas"

    def capacity(self, claims: int) -> int:
        """Room in each quota, however the batches fall on the quotas."""
        return min(CAPACITY_MAX, SPARE * (self.reservations + claims) // self.quotas + claims // WIDTH)


SMALL, FEW = Point(1000, QUOTAS_OF_SIZES), Point(1000, 10)
SMOKE = ((SMALL, Point(5000, QUOTAS_OF_SIZES)), (FEW, Point(1000, 200)))
POINTS = (  # each beside the smallest case that it is held against
    *((SMALL, Point(count, QUOTAS_OF_SIZES)) for count in (10_000, 100_000, 1_000_000)),
    *((FEW, Point(1000, quotas)) for quotas in (100, 1000, 10_000)),
)


async def run(cores: Cores, smoke: bool, say: Say) -> list[Figure]:
    """Two figures per point for claims (server time, claims a second), one per program for refusals."""
    points, repeats, claims = (SMOKE, 2, BATCH * 4) if smoke else (POINTS, 21, BATCH * 50)
    figures = list[Figure]()
    for smallest, point in points:
        say(f"growth: {point.name}")
        async with prepared(cores) as ground:  # an empty server, so that no earlier point weighs on it
            pairs = await _compared(ground.redis_url, smallest, point, repeats, claims)
        figures += _figures(smallest, point, pairs)
    return [*figures, *await _refusals(cores, smoke, say)]


def _figures(smallest: Point, point: Point, pairs: list[Pair]) -> list[Figure]:
    valkey_us, rate = (statistics.median(pair.other[figure] for pair in pairs) for figure in (VALKEY_US, RATE))
    against = f"against {smallest.name}, interleaved, batches of {BATCH}"
    return [
        Figure(
            name=f"valkey time, {point.name}",
            title=f"the server's processor time a claim {against}",
            value=ratio(pairs, VALKEY_US),
            target=1 + FLAT,
            sense="at most",
            note=f"{valkey_us:.1f} us a claim",
        ),
        Figure(
            name=f"claims/s, {point.name}",
            title=f"claims a second through the group commit {against}",
            value=ratio(pairs, RATE),
            target=1 - FLAT,
            note=f"{rate:,.0f} claims/s from one process",
        ),
    ]


async def _compared(redis_url: str, smallest: Point, point: Point, repeats: int, claims: int) -> list[Pair]:
    """The cost in the smallest case and at the point, paired."""
    async with (
        own_ledger(redis_url, "small", quotas=smallest.quotas, capacity=smallest.capacity(claims)) as base,
        own_ledger(redis_url, "grown", quotas=point.quotas, capacity=point.capacity(claims)) as grown,
    ):
        await base.fill(smallest.reservations)
        await grown.fill(point.reservations)
        await until_rewritten(base.client)
        pairs = await paired(base, grown, lambda ledger: _cost(ledger, claims), repeats)
        for ledger, its in ((base, smallest), (grown, point)):
            if {await ledger.taken(), await ledger.remembered()} != {its.reservations}:
                raise WrongResult(f"{ledger.program} holds something else than {its.name}")
    return pairs


async def _cost(ledger: OwnLedger, count: int) -> Measured:
    """Claim and measure; then forget the claims, so that the ledger stays as large as it was."""
    claims = ledger.claims(count, WIDTH)
    busy_before_s, started_s = await _busy_s(ledger), time.perf_counter()
    for batch in batches(claims, BATCH):
        await ledger.submit(batch, Outcome.HELD, in_flight=BATCH)
    elapsed_s = time.perf_counter() - started_s
    busy_s = await _busy_s(ledger) - busy_before_s
    await ledger.forget(claims)
    return {VALKEY_US: busy_s / count * 1e6, RATE: count / elapsed_s}


async def _busy_s(ledger: OwnLedger) -> float:
    facts = await ledger.client.info("cpu")
    return float(facts["used_cpu_user_main_thread"]) + float(facts["used_cpu_sys_main_thread"])


# Programs for refusals: quotas, and how many of them are sold out.
FEW_SOLD_OUT = (OPEN_MIN + 1, 1)
SMOKE_SOLD_OUT = ((60, 60 - OPEN_MIN),)
SOLD_OUT = ((11_552, 1820), (20_000, 1), (20_000, 20_000 - OPEN_MIN))


@dataclass(frozen=True)
class Offer:
    program: str
    sold_out: tuple[str, ...]
    open: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{len(self.sold_out)} of {len(self.sold_out) + len(self.open)} quotas sold out"


async def _refusals(cores: Cores, smoke: bool, say: Say) -> list[Figure]:
    """The front's processor time per refusal in each program, as a ratio to that in a small one."""
    sizes, repeats, count = (SMOKE_SOLD_OUT, 3, 100) if smoke else (SOLD_OUT, 41, 400)
    async with prepared(cores) as ground, AsyncExitStack() as stack:
        operations = await stack.enter_async_context(open_operations(ground.settings))
        base, *grown = [
            await _offered(operations, ground.settings.data_dir, f"refusals-{number}", quotas, sold_out)
            for number, (quotas, sold_out) in enumerate((FEW_SOLD_OUT, *sizes))
        ]
        ours = Ours(ground)
        await started(ours, stack)
        people, figures = itertools.count(FIRST_PERSON, count), list[Figure]()

        async def refuse(offer: Offer) -> Measured:
            claims, before_s = requests(next(people), count, offer.sold_out), ran_s(ours.pids["front"])
            load = await run_load(ours.port, claims, connections=CONNECTIONS, timeout_s=START_TIMEOUT_S, wanted=409)
            load.check("a sold-out quota")
            return {FRONT: (ran_s(ours.pids["front"]) - before_s) / count}

        for offer in grown:
            say(f"growth: refusals with {offer.name}")
            async with _changing(operations, base), _changing(operations, offer):
                pairs = await paired(base, offer, refuse, repeats)
            title = f"a front's processor time a sold-out answer against {base.name}, interleaved, while places change"
            note = f"{statistics.median(pair.other[FRONT] for pair in pairs) * 1e6:.0f} us a refusal"
            name, value = f"refusal, {offer.name}", ratio(pairs, FRONT)
            figures.append(Figure(name=name, title=title, value=value, target=1 + FLAT, sense="at most", note=note))
        return figures


async def _offered(operations: Operations, directory: Path, program: str, quotas: int, sold_out: int) -> Offer:
    """Create a program with this many quotas. The sold-out ones have a capacity of 0."""
    await import_quotas(operations, directory, program, 1, 1)
    commands = [_quota(program, number, sold_out=number < sold_out) for number in range(quotas)]
    async with open_program(operations, program) as group:
        for batch in batches(commands, QUOTAS_AT_ONCE):
            answers = await asyncio.gather(*map(group.submit, batch))
            if wrong := {answer.outcome for answer in answers} - {Outcome.QUOTA_SET}:
                raise WrongResult(f"a quota was not created: {wrong}")
    names = tuple(command.quota for command in commands)
    return Offer(program, names[:sold_out], names[sold_out:])


def _quota(program: str, number: int, *, sold_out: bool) -> SetQuota:
    """The terms of one quota. Numbers are spread over dates, times and offices, sold-out quotas among the others."""
    number = number * 7919 % 20_011  # both are prime: each number has its own
    days, slot = divmod(number, OFFICES * STARTS)
    half_hours, office = divmod(slot, OFFICES)
    starts = dt.datetime(2030, 12, 2, 8, tzinfo=dt.UTC) + dt.timedelta(days=days, minutes=30 * half_hours)
    terms = open_terms(
        capacity=0 if sold_out else 40_000,
        office=f"kantor-{office:03d}",
        date=f"{starts:%Y-%m-%d}",
        start=f"{starts:%H:%M}",
        end=f"{starts + dt.timedelta(minutes=29):%H:%M}",
    )
    return SetQuota(quota=f"{program}.{terms.office}.{terms.service}.{starts:%Y%m%d.%H%M}.{terms.channel}", terms=terms)


@asynccontextmanager
async def _changing(operations: Operations, offer: Offer) -> AsyncIterator[None]:
    """Keep changing the places of the open quotas, one after the other."""

    async def change() -> None:
        for number, quota in enumerate(itertools.cycle(offer.open)):
            answer = await group.submit(SetQuota(quota=quota, capacity=30_000 + number % 9000))
            if answer.outcome is not Outcome.QUOTA_SET:
                raise WrongResult(f"a quota was not changed: {answer.outcome}")
            await asyncio.sleep(1 / CHANGES_PER_S)

    async with open_program(operations, offer.program) as group:
        task = asyncio.create_task(change())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
