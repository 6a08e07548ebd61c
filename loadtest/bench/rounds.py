"""Measures the variants interleaved: bare, each compared one, bare again; a round on shaky ground is repeated."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from loadtest.bench.claims import requests
from loadtest.bench.client import Load, run_load
from loadtest.bench.cores import busy_s
from loadtest.bench.ground import Ground
from loadtest.bench.ports import wait_listening
from loadtest.bench.variants import COMPARED, Bare, Ours, Variant

DRIFT_MAX = 0.10  # a round counts only when the bare handler before and after it differ by no more
START_TIMEOUT_S = 30.0
CLAIMS_MIN = 200  # fewer say nothing
PROBES = 8  # claims that show how large our answer is
SIZE_SLACK = 4  # our answer lacks ".000" where a deadline falls on a whole second
TIMEOUT_FACTOR = 20  # a measurement may take so many times what it should, and at least the start's time


class WrongResult(Exception):
    """A variant did not do what it was measured for; its speed means nothing."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int
    connections: int
    seconds: float  # one measurement should last so long
    claims: int  # claims in one measurement; 0: as many as `seconds` take
    warm_up_claims: int
    repeats_max: int  # repeated rounds for each round that was asked for


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One measurement of one variant."""

    variant: str
    claimed: int
    refused: int
    claims_per_s: float
    p50_ms: float
    p99_ms: float
    front_share: float  # of its core, while the load ran
    busy_us: dict[str, float]  # processor time a claim, by process; background work until it is settled included


@dataclass(frozen=True, kw_only=True)
class Round:
    """The variants between two measurements of the bare handler."""

    before: Measured
    compared: dict[str, Measured]
    after: Measured

    @property
    def reference(self) -> float:
        """The bare handler's claims a second during this round."""
        return (self.before.claims_per_s + self.after.claims_per_s) / 2

    @property
    def drift(self) -> float:
        """How far the bare handler moved during the round, as a share."""
        return abs(self.after.claims_per_s - self.before.claims_per_s) / self.reference

    @property
    def counts(self) -> bool:
        """Whether the ground was firm enough."""
        return self.drift <= DRIFT_MAX

    def ratio(self, variant: str) -> float:
        """A variant as a share of the bare handler around it."""
        return self.compared[variant].claims_per_s / self.reference


class Bench:
    """The running variants, and the next person to claim."""

    def __init__(self, ground: Ground, plan: Plan) -> None:
        self._ground = ground
        self._plan = plan
        self._next_person = 0
        self._rates: dict[str, float] = {}  # the last measured ones, which say how many claims `seconds` take
        self._claimed: dict[str, int] = {}  # in the whole run, warm-up included
        self.answer_bytes = 0

    async def run(self, say: Callable[[str], None]) -> list[Round]:
        """All rounds, the repeated ones too.

        Raises:
            WrongResult: answers were refused, of another size, or unknown to the store.
        """
        async with AsyncExitStack() as stack:
            bare, compared = await self._start(stack)
            for variant in (bare, *compared):
                say(f"warming up: {variant.name}")
                await self._measure(variant, self._plan.warm_up_claims)
            return await self._rounds(bare, compared, say)

    async def _start(self, stack: AsyncExitStack) -> tuple[Variant, list[Variant]]:
        """Ours first: the others answer in the size of its answer."""

        async def started(kind: type[Variant], ground: Ground) -> Variant:
            variant = kind(ground)
            stack.push_async_callback(variant.stop)
            await variant.start()
            await wait_listening(variant.port, START_TIMEOUT_S)
            return variant

        ours = await started(Ours, self._ground)
        await self._measure(ours, PROBES)
        ground = replace(self._ground, answer_bytes=self.answer_bytes)
        bare = await started(Bare, ground)
        return bare, [ours if kind is Ours else await started(kind, ground) for kind in COMPARED]

    async def _rounds(self, bare: Variant, compared: Sequence[Variant], say: Callable[[str], None]) -> list[Round]:
        plan, rounds = self._plan, list[Round]()
        before = await self._measure(bare)
        for _ in range(plan.rounds * (1 + plan.repeats_max)):
            measured = {variant.name: await self._measure(variant) for variant in compared}
            after = await self._measure(bare)
            rounds.append(Round(before=before, compared=measured, after=after))
            before = after
            say(_sentence(rounds[-1]))
            if sum(done.counts for done in rounds) >= plan.rounds:
                break
        return rounds

    async def _measure(self, variant: Variant, claims: int = 0) -> Measured:
        plan = self._plan
        rate = self._rates.get(variant.name, CLAIMS_MIN)
        count = claims or plan.claims or max(CLAIMS_MIN, int(rate * plan.seconds))
        prebuilt = requests(self._next_person, count, self._ground.quotas)
        self._next_person += count
        roots = {**self._ground.store_pids, **variant.pids}
        busy_before = {name: busy_s(pid) for name, pid in roots.items()}
        timeout_s = max(START_TIMEOUT_S, count / rate * TIMEOUT_FACTOR)
        load = await run_load(variant.port, prebuilt, connections=plan.connections, timeout_s=timeout_s)
        front_s = busy_s(roots["front"]) - busy_before["front"]
        await variant.settle()
        busy_us = {name: (busy_s(pid) - busy_before[name]) / count * 1e6 for name, pid in roots.items()}
        busy_us["load"] = load.busy_s / count * 1e6
        await self._verify(variant, load)
        self._rates[variant.name] = load.claims_per_s
        return Measured(
            variant=variant.name,
            claimed=load.claimed,
            refused=load.refused,
            claims_per_s=load.claims_per_s,
            p50_ms=load.latency_ms(0.5),
            p99_ms=load.latency_ms(0.99),
            front_share=front_s / load.elapsed_s,
            busy_us=busy_us,
        )

    async def _verify(self, variant: Variant, load: Load) -> None:
        """Every claim succeeded, in an answer of the common size, and the store holds exactly as many."""
        name = variant.name
        if load.refused:
            raise WrongResult(f"{name} refused {load.refused} claims: {dict(load.answers)}")
        self.answer_bytes = self.answer_bytes or max(load.answer_bytes)
        if max(load.answer_bytes) != self.answer_bytes or min(load.answer_bytes) < self.answer_bytes - SIZE_SLACK:
            raise WrongResult(f"{name} answers in {sorted(load.answer_bytes)} bytes instead of {self.answer_bytes}")
        self._claimed[name] = self._claimed.get(name, 0) + load.claimed
        held = await variant.held()
        if held is not None and held != self._claimed[name]:
            raise WrongResult(f"{name} answered 201 to {self._claimed[name]} claims and holds {held}")


def _sentence(done: Round) -> str:
    ratios = ", ".join(f"{name} {done.ratio(name):.2f}" for name in done.compared)
    rest = "" if done.counts else f"; does not count, bare moved by {done.drift:.0%}"
    return f"bare {done.reference:,.0f}/s: {ratios}{rest}"
