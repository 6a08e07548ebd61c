"""Whether a sold-out answer costs a front the same however many quotas a program has, and however many are sold out."""

import asyncio
import contextlib
import datetime as dt
import itertools
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from loadtest.bench import claims
from loadtest.bench.client import run_load
from loadtest.bench.figures import Figure
from loadtest.bench.ground import Ground, prepared
from loadtest.bench.measuring import START_TIMEOUT_S, WrongResult
from loadtest.bench.own_ledger import batches
from loadtest.bench.variants import Ours
from loadtest.stage.cores import Cores, ran_s
from loadtest.stage.ports import wait_listening
from loadtest.stage.program import open_terms, program_file
from reservasi.bootstrap.commands import Operations, open_operations, open_program
from reservasi.cli.importing import import_program
from reservasi.ledger.group_commit import GroupCommit
from reservasi.model import Answer, Outcome, SetQuota
from reservasi.programs.files import read_program

FLAT = 1.15
OPEN_MIN = 9  # quotas that stay open, and whose places change all the time
OFFICES, STARTS = 100, 20  # over which a program's quotas are spread; the rest is dates
CHANGES_PER_S = 50
CONNECTIONS = 4
BATCH = 500  # quotas that are created together
FIRST_PERSON = 12_000_000  # nobody else in the benchmark is one of these


@dataclass(frozen=True)
class Point:
    """A program of so many quotas, of which so many are sold out."""

    quotas: int
    sold_out: int

    @property
    def name(self) -> str:
        return f"{self.sold_out} of {self.quotas} quotas sold out"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    base: Point
    points: tuple[Point, ...]
    pairs: int
    refusals: int  # in one measurement


def sizes_of(smoke: bool) -> Sizes:
    """A little, or what the targets are for."""
    base = Point(OPEN_MIN + 1, 1)
    if smoke:
        return Sizes(base, (Point(60, 60 - OPEN_MIN),), pairs=3, refusals=100)
    grown = (Point(11_552, 1820), Point(20_000, 1), Point(20_000, 20_000 - OPEN_MIN))
    return Sizes(base, grown, pairs=41, refusals=400)


@dataclass(frozen=True)
class Offer:
    """The quotas of one program."""

    program: str
    sold_out: tuple[str, ...]
    open: tuple[str, ...]


async def measured(cores: Cores, smoke: bool, say: Callable[[str], None]) -> list[Figure]:
    """A figure a point: the front's processor time a refusal, as a share of that in a small program."""
    sizes = sizes_of(smoke)
    async with prepared(cores) as ground, AsyncExitStack() as stack:
        operations = await stack.enter_async_context(open_operations(ground.settings))
        offers = []
        for number, point in enumerate((sizes.base, *sizes.points)):
            say(f"growth: a program with {point.name}")
            offers.append(await _offered(operations, ground, f"refusals-{number}", point))
        ours = Ours(ground)
        stack.push_async_callback(ours.stop)
        await ours.start()
        await wait_listening(ours.port, START_TIMEOUT_S)
        meter = _Meter(ours, sizes)
        figures = []
        for point, offer in zip(sizes.points, offers[1:], strict=True):
            say(f"growth: refusals with {point.name}")
            async with _changing(operations, offers[0]), _changing(operations, offer):
                pairs = await meter.pairs(offers[0], offer)
            figures.append(_figure(sizes.base, point, pairs))
        return figures


def _figure(base: Point, point: Point, pairs: Sequence[tuple[float, float]]) -> Figure:
    return Figure(
        name=f"refusal, {point.name}",
        title=f"a front's processor time a sold-out answer against {base.name}, interleaved; places change meanwhile",
        value=statistics.median(grown / small for small, grown in pairs),
        target=FLAT,
        sense="at most",
        note=f"{statistics.median(grown for _, grown in pairs) * 1e6:.0f} us a refusal",
    )


class _Meter:
    """Asks one front."""

    def __init__(self, ours: Ours, sizes: Sizes) -> None:
        self._ours = ours
        self._sizes = sizes
        self._people = FIRST_PERSON

    async def pairs(self, base: Offer, grown: Offer) -> list[tuple[float, float]]:
        """Seconds of the front's processor a refusal in both programs, one right after the other, several times."""
        found = []
        for number in range(self._sizes.pairs + 1):
            took = {}
            for offer in (base, grown) if number % 2 else (grown, base):
                took[offer.program] = await self._refusal_s(offer)
            found.append((took[base.program], took[grown.program]))
        return found[1:]  # the first one warmed up

    async def _refusal_s(self, offer: Offer) -> float:
        count = self._sizes.refusals
        self._people += count
        asked = claims.requests(self._people, count, offer.sold_out)
        front = self._ours.pids["front"]
        before_s = ran_s(front)
        load = await run_load(self._ours.port, asked, connections=CONNECTIONS, timeout_s=START_TIMEOUT_S, wanted=409)
        if load.refused:
            raise WrongResult(f"a sold-out quota answered {dict(load.answers)}, not always 409")
        return (ran_s(front) - before_s) / count


async def _offered(operations: Operations, ground: Ground, program: str, point: Point) -> Offer:
    """A stored program with these quotas; those without places have a capacity of none."""
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=30)
    file = ground.settings.data_dir / f"{program}.toml"
    file.write_text(program_file(1, 1, day, 7200, program))
    await import_program(operations, read_program(file), day, day, open_now=True, quiet=True)
    commands = [_quota(program, number, sold_out=number < point.sold_out) for number in range(point.quotas)]
    async with open_program(operations, program) as group:
        for batch in batches(commands, BATCH):
            await _submit(group, batch)
    quotas = [command.quota for command in commands]
    return Offer(program, tuple(quotas[: point.sold_out]), tuple(quotas[point.sold_out :]))


def _quota(program: str, number: int, *, sold_out: bool) -> SetQuota:
    """They are spread as a program's quotas are: over dates, times and offices, sold-out ones among the others."""
    number = number * 7919 % 20_011  # both are prime: each number has its own
    days, slot = divmod(number, OFFICES * STARTS)
    at, office = divmod(slot, OFFICES)
    hour, minute = 8 + at // 2, at % 2 * 30
    date = (dt.date(2030, 12, 2) + dt.timedelta(days=days)).isoformat()
    terms = open_terms(
        capacity=0 if sold_out else 40_000,
        office=f"kantor-{office:03d}",
        date=date,
        start=f"{hour:02d}:{minute:02d}",
        end=f"{hour:02d}:{minute + 29:02d}",
    )
    name = f"{program}.{terms.office}.{terms.service}.{date.replace('-', '')}.{hour:02d}{minute:02d}.{terms.channel}"
    return SetQuota(quota=name, terms=terms)


async def _submit(group: GroupCommit, commands: Sequence[SetQuota]) -> None:
    answers: list[Answer] = await asyncio.gather(*map(group.submit, commands))
    if wrong := {answer.outcome for answer in answers} - {Outcome.QUOTA_SET}:
        raise WrongResult(f"a quota was not created: {wrong}")


@asynccontextmanager
async def _changing(operations: Operations, offer: Offer) -> AsyncIterator[None]:
    """The open quotas' places change all the time, one after the other."""
    async with open_program(operations, offer.program) as group:
        task = asyncio.create_task(_change(group, offer.open))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _change(group: GroupCommit, quotas: Sequence[str]) -> None:
    for number, quota in enumerate(itertools.cycle(quotas)):
        answer = await group.submit(SetQuota(quota=quota, capacity=30_000 + number % 9000))
        if answer.outcome is not Outcome.QUOTA_SET:
            raise WrongResult(f"a quota was not changed: {answer.outcome}")
        await asyncio.sleep(1 / CHANGES_PER_S)
