"""Whether a sold-out answer costs a front the same however many quotas a program has, and however many are sold out."""

import asyncio
import contextlib
import datetime as dt
import itertools
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import claims
from loadtest.bench.client import run_load
from loadtest.bench.figures import Figure
from loadtest.bench.ground import prepared
from loadtest.bench.measuring import START_TIMEOUT_S, started
from loadtest.bench.own_ledger import batches
from loadtest.bench.turns import Pair, Say, WrongResult, by_turns, ratio
from loadtest.bench.variants import Ours
from loadtest.stage.cores import Cores, ran_s
from loadtest.stage.program import open_terms, program_file
from reservasi.bootstrap.commands import Operations, open_operations, open_program
from reservasi.cli.importing import import_program
from reservasi.model import Outcome, SetQuota
from reservasi.programs.files import read_program

FLAT = 1.15
FRONT = "front_s"  # processor time of the front, a refusal
OPEN_MIN = 9  # quotas that stay open, and whose places change all the time
OFFICES, STARTS = 100, 20  # over which a program's quotas are spread; the rest is dates
CHANGES_PER_S = 50
CONNECTIONS = 4
BATCH = 500  # quotas that are created together
FIRST_PERSON = 200_000_000  # nobody else in the benchmark has such a number


@dataclass(frozen=True)
class Point:
    """A program of so many quotas, of which so many are sold out."""

    quotas: int
    sold_out: int

    @property
    def name(self) -> str:
        return f"{self.sold_out} of {self.quotas} quotas sold out"


BASE = Point(OPEN_MIN + 1, 1)
SMOKE = (Point(60, 60 - OPEN_MIN),)
POINTS = (Point(11_552, 1820), Point(20_000, 1), Point(20_000, 20_000 - OPEN_MIN))


@dataclass(frozen=True)
class Offer:
    """The quotas of one program."""

    program: str
    sold_out: tuple[str, ...]
    open: tuple[str, ...]


async def measured(cores: Cores, smoke: bool, say: Say) -> list[Figure]:
    """A figure a point: the front's processor time a refusal, as a share of that in a small program."""
    points, repeats, refusals = (SMOKE, 3, 100) if smoke else (POINTS, 41, 400)
    async with prepared(cores) as ground, AsyncExitStack() as stack:
        operations = await stack.enter_async_context(open_operations(ground.settings))
        base, *grown = [
            await _offered(operations, ground.settings.data_dir, f"refusals-{number}", point)
            for number, point in enumerate((BASE, *points))
        ]
        ours = Ours(ground)
        await started(ours, stack)
        people, figures = itertools.count(FIRST_PERSON, refusals), []
        for point, offer in zip(points, grown, strict=True):
            say(f"growth: refusals with {point.name}")
            pairs = []
            async with _changing(operations, base), _changing(operations, offer):
                for counts, offers in by_turns((base, offer), repeats):
                    costs = {each: {FRONT: await _refusal_s(ours, each, next(people), refusals)} for each in offers}
                    pairs += [Pair(costs[base], costs[offer])] if counts else []
            figures.append(_figure(point, pairs))
        return figures


def _figure(point: Point, pairs: Sequence[Pair]) -> Figure:
    return Figure(
        name=f"refusal, {point.name}",
        title=f"a front's processor time a sold-out answer against {BASE.name}, interleaved; places change meanwhile",
        value=ratio(pairs, FRONT),
        target=FLAT,
        sense="at most",
        note=f"{statistics.median(pair.other[FRONT] for pair in pairs) * 1e6:.0f} us a refusal",
    )


async def _refusal_s(ours: Ours, offer: Offer, first_person: int, count: int) -> float:
    """Seconds of the front's processor for each of so many refusals."""
    requests = claims.requests(first_person, count, offer.sold_out)
    before_s = ran_s(ours.pids["front"])
    load = await run_load(ours.port, requests, connections=CONNECTIONS, timeout_s=START_TIMEOUT_S, wanted=409)
    load.check("a sold-out quota")
    return (ran_s(ours.pids["front"]) - before_s) / count


async def _offered(operations: Operations, directory: Path, program: str, point: Point) -> Offer:
    """A stored program with these quotas; those without places have a capacity of none."""
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=30)
    file = directory / f"{program}.toml"
    file.write_text(program_file(1, 1, day, 7200, program))
    await import_program(operations, read_program(file), day, day, open_now=True, quiet=True)
    commands = [_quota(program, number, sold_out=number < point.sold_out) for number in range(point.quotas)]
    async with open_program(operations, program) as group:
        for batch in batches(commands, BATCH):
            answers = await asyncio.gather(*map(group.submit, batch))
            if wrong := {answer.outcome for answer in answers} - {Outcome.QUOTA_SET}:
                raise WrongResult(f"a quota was not created: {wrong}")
    quotas = tuple(command.quota for command in commands)
    return Offer(program, quotas[: point.sold_out], quotas[point.sold_out :])


def _quota(program: str, number: int, *, sold_out: bool) -> SetQuota:
    """They are spread as a program's quotas are: over dates, times and offices, sold-out ones among the others."""
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
    """The open quotas' places change all the time, one after the other."""

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
