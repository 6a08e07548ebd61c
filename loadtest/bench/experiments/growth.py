"""Whether claims and refusals cost the same however many reservations are live and however many quotas there are."""

import statistics
import time
from dataclasses import dataclass

from loadtest.bench.experiments import refusals
from loadtest.bench.figures import Figure
from loadtest.bench.ground import prepared
from loadtest.bench.own_ledger import BATCH, OwnLedger, batches, own_ledger, servers_at, until_rewritten
from loadtest.bench.turns import Measured, Pair, Say, WrongResult, by_turns, ratio
from loadtest.stage.cores import Cores
from reservasi.model import CAPACITY_MAX, Outcome

NAME = "growth"
TITLE = "Growth: what claims and refusals cost with many reservations and quotas, as a share of the smallest case"
FLAT = 0.15
WIDTH = 10  # quotas that one batch names, the same number everywhere
QUOTAS_OF_SIZES = 100  # how many quotas the reservations are spread over
SPARE = 2  # times the places that are needed: not every quota is named equally often
VALKEY_US, RATE = "valkey_us", "claims_per_s"  # processor time of the server's main thread, a claim


@dataclass(frozen=True)
class Point:
    """How much a ledger holds."""

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
    """Of claims two figures a point, the server's time a claim and claims a second; of refusals the front's time."""
    points, repeats, claims = (SMOKE, 2, BATCH * 4) if smoke else (POINTS, 21, BATCH * 50)
    figures = list[Figure]()
    for smallest, point in points:
        say(f"growth: {point.name}")
        async with prepared(cores) as ground:  # an empty server, so that no earlier point weighs on it
            pairs = await _compared(ground.redis_url, smallest, point, repeats, claims)
        figures += _figures(smallest, point, pairs)
    return [*figures, *await refusals.measured(cores, smoke, say)]


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
    """The cost in the smallest case and at the point, one right after the other, several times."""
    async with (
        servers_at(redis_url) as servers,
        own_ledger(servers, "small", quotas=smallest.quotas, capacity=smallest.capacity(claims)) as base,
        own_ledger(servers, "grown", quotas=point.quotas, capacity=point.capacity(claims)) as grown,
    ):
        await base.fill(smallest.reservations)
        await grown.fill(point.reservations)
        await until_rewritten(base.client)
        pairs = []
        for counts, ledgers in by_turns((base, grown), repeats):
            costs = {ledger: await _cost(ledger, claims) for ledger in ledgers}
            pairs += [Pair(costs[base], costs[grown])] if counts else []
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
    """Processor time of the server's main thread so far."""
    facts = await ledger.client.info("cpu")
    return float(facts["used_cpu_user_main_thread"]) + float(facts["used_cpu_sys_main_thread"])
