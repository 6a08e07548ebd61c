"""Measures servers that answer claims, each between two measurements of the bare handler, as ratios to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace

from loadtest.bench import claims
from loadtest.bench.client import Load, run_load
from loadtest.bench.figures import Measured, Pair, Say, WrongResult, mean
from loadtest.bench.ground import Ground
from loadtest.bench.variants import COMPARED, STRONG, Bare, Ours, OursRecorded, Variant
from loadtest.stage.cores import busy_s
from loadtest.stage.ports import wait_listening

START_TIMEOUT_S = 30.0
REQUESTS_MIN = 200  # fewer say nothing
TIMEOUT_FACTOR = 20  # a measurement may take so many times what it should, and at least the start's time
SIZE_SLACK = 4  # our answer lacks ".000" where a deadline falls on a whole second
PROBES = 8  # requests that show how large our answer is
FSYNC_MS = 3
RATE = "claims_per_s"  # the figure of a measurement that ratios are about

Check = Callable[[Load], Awaitable[None]]  # raises WrongResult


@dataclass(frozen=True)
class Arrangement:
    """Which variants are compared, with how many front processes and how slow a disk."""

    variants: tuple[type[Variant], ...] = COMPARED
    processes: int = 1  # of each front
    fsync_ms: int = 0  # added to each fsync of the stores

    @property
    def name(self) -> str:
        fronts = "1 front" if self.processes == 1 else f"{self.processes} fronts"
        return f"{fronts}, fsync {self.fsync_ms} ms longer" if self.fsync_ms else fronts


ONE_FRONT = Arrangement()
JUDGED = Arrangement(STRONG, processes=2, fsync_ms=FSYNC_MS)
SEVERAL_FRONTS = (Arrangement(STRONG, processes=2), Arrangement(STRONG, processes=4), JUDGED)


@dataclass(frozen=True, kw_only=True)
class Plan:
    rounds: int
    connections: int
    seconds: float  # one measurement should last so long, and have `REQUESTS_MIN` requests at least
    warm_up_claims: int


async def leaves_nothing(_load: Load) -> None:
    """The check of an answer from memory, which changes no store."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A server that is measured, and the requests it gets."""

    name: str
    variant: Variant
    requests: Callable[[int], list[bytes]]  # that many new ones
    check: Check = leaves_nothing
    wanted: int = 201  # the status that every answer must have
    answer_bytes: int = 0  # the size that every answer must have
    during: Callable[[], AbstractContextManager[None]] = nullcontext  # entered while the load runs

    async def probe(self) -> int:
        requests, port = self.requests(PROBES), self.variant.port
        load = await run_load(port, requests, connections=PROBES, timeout_s=START_TIMEOUT_S, wanted=self.wanted)
        load.check(self.name)
        await self.check(load)
        return max(load.answer_bytes)


class Meter:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._rates: dict[str, float] = {}  # the last measured ones, from which follows how many `seconds` take

    async def measure(self, subject: Subject, requests: int = 0) -> Measured:
        """One measurement: answers a second, latencies, and each process's processor time per request.

        Processor time includes background work until `settle` returns. `front_share` is measured under load only.
        """
        plan, variant = self.plan, subject.variant
        rate = self._rates.get(subject.name, REQUESTS_MIN)
        count = requests or max(REQUESTS_MIN, int(rate * plan.seconds))
        prebuilt = subject.requests(count)
        roots = {**variant.ground.store_pids, **variant.pids}
        busy_before = {name: busy_s(pid) for name, pid in roots.items()}
        with subject.during():
            timeout_s = max(START_TIMEOUT_S, count / rate * TIMEOUT_FACTOR)
            load = await run_load(
                variant.port, prebuilt, connections=plan.connections, timeout_s=timeout_s, wanted=subject.wanted
            )
        front_s = busy_s(roots["front"]) - busy_before["front"]
        await variant.settle()
        busy = {f"{name}_us": (busy_s(pid) - busy_before[name]) / count * 1e6 for name, pid in roots.items()}
        load.check(subject.name)
        check_size(subject.name, load, subject.answer_bytes)
        await subject.check(load)
        self._rates[subject.name] = load.claims_per_s
        return {
            "claimed": load.claimed,
            RATE: load.claims_per_s,
            "p50_ms": load.latency_ms(0.5),
            "p99_ms": load.latency_ms(0.99),
            "max_ms": load.latency_ms(1.0),
            "front_share": front_s / load.elapsed_s,
            "load_us": load.busy_s / count * 1e6,
            **busy,
        }

    async def rounds(self, bare: Subject, subjects: Sequence[Subject], say: Say) -> dict[str, list[Pair]]:
        """One pair per subject and round. The order is: bare, a subject, bare, the next subject, bare."""
        for subject in (bare, *subjects):
            say(f"warming up: {subject.name}")
            await self.measure(subject, min(self.plan.warm_up_claims, REQUESTS_MIN))
            await self.measure(subject, self.plan.warm_up_claims)
        results: dict[str, list[Pair]] = {subject.name: [] for subject in subjects}
        before = await self.measure(bare)
        for _ in range(self.plan.rounds):
            for subject in subjects:
                measured, after = await self.measure(subject), await self.measure(bare)
                results[subject.name].append(bracketed(before, measured, after))
                before = after
            last = {name: pairs[-1] for name, pairs in results.items()}
            ratios = ", ".join(f"{name} {pair.ratio(RATE):.2f}" for name, pair in last.items())
            shaky = "" if all(pair.counts for pair in last.values()) else "; on shaky ground"
            say(f"of bare: {ratios}{shaky}")
        return results


def bracketed(before: Measured, measured: Measured, after: Measured) -> Pair:
    """The pair of a measurement and the mean of the bare handler's before and after it."""
    base = {**mean(before, after), "max_ms": max(before["max_ms"], after["max_ms"])}
    return Pair(base, measured, abs(after[RATE] - before[RATE]) / base[RATE])


def check_size(name: str, load: Load, answer_bytes: int) -> None:
    sizes = load.answer_bytes
    if max(sizes) > answer_bytes or min(sizes) < answer_bytes - SIZE_SLACK:
        raise WrongResult(f"{name} answers in {sorted(sizes)} bytes instead of {answer_bytes}")


async def started(variant: Variant, stack: AsyncExitStack) -> None:
    stack.push_async_callback(variant.stop)
    await variant.start()
    await wait_listening(variant.port, START_TIMEOUT_S)


class Bench:
    """Our own service and the rivals that are compared with it. Every person claims once in a whole run."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.ours = Ours(ground)
        self.answer_bytes = 0  # of ours to a claim, once it is known
        self._people = 0  # who have claimed
        self._claimed: dict[str, int] = {}  # in the whole run, warm-up included

    async def start(self, stack: AsyncExitStack) -> None:
        await started(self.ours, stack)
        self.answer_bytes = await self._subject(Ours, self.ours).probe()

    @asynccontextmanager
    async def compared(self, kinds: Sequence[type[Variant]]) -> AsyncIterator[tuple[Subject, list[Subject]]]:
        """Run the bare handler and these variants, and yield their subjects."""
        ground = replace(self.ground, answer_bytes=self.answer_bytes)
        async with AsyncExitStack() as stack:
            bare, subjects = Bare(ground), list[Subject]()
            await started(bare, stack)
            for kind in kinds:
                variant: Variant = self.ours
                if not issubclass(kind, Ours):
                    variant = kind(ground)
                    await started(variant, stack)
                subjects.append(self._subject(kind, variant))
            yield self._subject(Bare, bare), subjects

    def claims(self, count: int, quotas: Sequence[str]) -> list[bytes]:
        self._people += count
        return claims.requests(self._people - count, count, quotas)

    def _subject(self, kind: type[Variant], variant: Variant) -> Subject:
        async def check(load: Load) -> None:
            """The store must hold exactly as many claims as were answered 201."""
            claimed = self._claimed[variant.name] = self._claimed.get(variant.name, 0) + load.claimed
            held = await variant.held()
            if held is not None and held != claimed:
                raise WrongResult(f"{kind.name} answered 201 to {claimed} claims and holds {held}")

        return Subject(
            name=kind.name,
            variant=variant,
            requests=lambda count: self.claims(count, self.ground.quotas),
            check=check,
            answer_bytes=self.answer_bytes,
            during=self.ours.recorder_still if kind is not OursRecorded else nullcontext,
        )
