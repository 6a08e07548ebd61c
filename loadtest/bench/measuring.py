"""One measurement, and measurements interleaved with those of the bare handler, which is what ratios are taken to."""

import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from loadtest.bench.client import Load, run_load
from loadtest.stage.cores import busy_s

DRIFT_MAX = 0.10  # a measure counts only when the bare handler before and after it differ by no more
START_TIMEOUT_S = 30.0
REQUESTS_MIN = 200  # fewer say nothing
TIMEOUT_FACTOR = 20  # a measurement may take so many times what it should, and at least the start's time
SIZE_SLACK = 4  # our answer lacks ".000" where a deadline falls on a whole second

Say = Callable[[str], None]
Side = TypeVar("Side")
During = Callable[[], AbstractAsyncContextManager[None]]


class WrongResult(Exception):
    """What was measured is not what should have been; its figures mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int
    connections: int
    seconds: float  # one measurement should last so long, and have `REQUESTS_MIN` requests at least
    warm_up_claims: int


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What can be measured: a server, and what is asked of it."""

    name: str
    port: int
    roots: Mapping[str, int]  # the roots of all process trees whose time is counted; `front` is there
    requests: Callable[[int], list[bytes]]  # so many further ones
    settle: Callable[[], Awaitable[None]]
    check: Callable[[Load], Awaitable[None]]  # raises WrongResult
    wanted: int = 201  # the status that every answer must have
    during: During = nullcontext  # entered while the load runs


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One measurement of one subject."""

    variant: str
    claimed: int  # wanted answers
    claims_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    front_share: float  # of its core, while the load ran
    busy_us: dict[str, float]  # processor time a request, by process; background work until it is settled included


@dataclass(frozen=True, kw_only=True)
class Bracketed:
    """A measurement between two of the bare handler."""

    before: Measured
    measured: Measured
    after: Measured

    @property
    def reference(self) -> float:
        """The bare handler's answers a second around the measurement."""
        return (self.before.claims_per_s + self.after.claims_per_s) / 2

    @property
    def reference_us(self) -> float:
        """The bare handler's processor time an answer around the measurement."""
        return (self.before.busy_us["front"] + self.after.busy_us["front"]) / 2

    @property
    def drift(self) -> float:
        """How far the bare handler moved meanwhile, as a share."""
        return abs(self.after.claims_per_s - self.before.claims_per_s) / self.reference

    @property
    def counts(self) -> bool:
        """Whether the ground was firm enough."""
        return self.drift <= DRIFT_MAX

    @property
    def ratio(self) -> float:
        """The subject as a share of the bare handler around it."""
        return self.measured.claims_per_s / self.reference


@dataclass(frozen=True, kw_only=True)
class Round:
    """Every subject once, each between two measurements of the bare handler."""

    compared: dict[str, Bracketed]

    @property
    def counts(self) -> bool:
        """Whether every measure was on firm ground."""
        return all(bracket.counts for bracket in self.compared.values())


def firm(rounds: Sequence[Round], *names: str) -> list[Round]:
    """The rounds in which these were measured on firm ground; all of them when there is none."""
    return [done for done in rounds if all(done.compared[name].counts for name in names)] or list(rounds)


class Meter:
    """Measures one subject after the other, as long as the plan says."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._rates: dict[str, float] = {}  # the last measured ones, from which follows how many `seconds` take

    async def measure(self, subject: Subject, requests: int = 0) -> Measured:
        """One measurement.

        Raises:
            WrongResult: an answer or the store is not what it should be.
        """
        plan = self.plan
        rate = self._rates.get(subject.name, REQUESTS_MIN)
        count = requests or max(REQUESTS_MIN, int(rate * plan.seconds))
        prebuilt = subject.requests(count)
        busy_before = {name: busy_s(pid) for name, pid in subject.roots.items()}
        async with subject.during():
            load = await run_load(
                subject.port,
                prebuilt,
                connections=plan.connections,
                timeout_s=max(START_TIMEOUT_S, count / rate * TIMEOUT_FACTOR),
                wanted=subject.wanted,
            )
        front_s = busy_s(subject.roots["front"]) - busy_before["front"]
        await subject.settle()
        busy_us = {name: (busy_s(pid) - busy_before[name]) / count * 1e6 for name, pid in subject.roots.items()}
        busy_us["load"] = load.busy_s / count * 1e6
        if load.refused:
            raise WrongResult(f"{subject.name} answered {dict(load.answers)}, not always {subject.wanted}")
        await subject.check(load)
        self._rates[subject.name] = load.claims_per_s
        return Measured(
            variant=subject.name,
            claimed=load.claimed,
            claims_per_s=load.claims_per_s,
            p50_ms=load.latency_ms(0.5),
            p99_ms=load.latency_ms(0.99),
            max_ms=load.latency_ms(1.0),
            front_share=front_s / load.elapsed_s,
            busy_us=busy_us,
        )

    async def rounds(self, bare: Subject, subjects: Sequence[Subject], say: Say) -> list[Round]:
        """All rounds: bare, a subject, bare, the next one, bare.

        Raises:
            WrongResult: an answer or a store is not what it should be.
        """
        for subject in (bare, *subjects):
            say(f"warming up: {subject.name}")
            await self.measure(subject, min(self.plan.warm_up_claims, REQUESTS_MIN))
            await self.measure(subject, self.plan.warm_up_claims)
        rounds, before = list[Round](), await self.measure(bare)
        for _ in range(self.plan.rounds):
            compared: dict[str, Bracketed] = {}
            for subject in subjects:
                measured, after = await self.measure(subject), await self.measure(bare)
                compared[subject.name] = Bracketed(before=before, measured=measured, after=after)
                before = after
            rounds.append(Round(compared=compared))
            ratios = ", ".join(f"{name} {bracket.ratio:.2f}" for name, bracket in compared.items())
            say(f"of bare: {ratios}" + ("" if rounds[-1].counts else "; on shaky ground"))
        return rounds


def by_turns(
    sides: Sequence[Side], rounds: int, say: Say = lambda _: None, *, warm_up: bool = True
) -> Iterator[tuple[bool, Sequence[Side]]]:
    """The sides in the order of each round, and whether the round counts, which one that warms up does not.

    Each round reverses the order, so that a drift of the machine weighs on all sides.
    """
    for number in range(not warm_up, rounds + 1):
        say(f"round {number} of {rounds}" if number else "warming up")
        yield bool(number), sides if number % 2 else sides[::-1]


@dataclass(frozen=True)
class Pair:
    """What the same work cost on two sides, one right after the other; figures by name."""

    base: Mapping[str, float]
    other: Mapping[str, float]

    def ratio(self, *figures: str) -> float:
        """The sum of these figures on the other side, as a share of that on the base."""
        return sum(self.other[figure] for figure in figures) / sum(self.base[figure] for figure in figures)


def ratio(pairs: Sequence[Pair], *figures: str) -> float:
    """The median of the pairs' ratios, in which a drift between two pairs does not show."""
    return statistics.median(pair.ratio(*figures) for pair in pairs)


def check_size(name: str, load: Load, answer_bytes: int) -> None:
    """Every answer has the size that all have.

    Raises:
        WrongResult: one has not.
    """
    sizes = load.answer_bytes
    if max(sizes) > answer_bytes or min(sizes) < answer_bytes - SIZE_SLACK:
        raise WrongResult(f"{name} answers in {sorted(sizes)} bytes instead of {answer_bytes}")
