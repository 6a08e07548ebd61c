"""What is compared, and a run of it: every case once a round, in the reverse order each time."""

import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields

from loadtest.scale_out.cluster import LocalCluster, local_cluster
from loadtest.scale_out.measuring import Case, Sizes, Work, measure

ONE = (1,)  # a single program: what cannot be split
UNEVEN = (50, 20, 10, 10, 5, 5)  # one office that half the country wants


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Cases that are held against the first of them."""

    name: str
    title: str
    cases: tuple[Case, ...]


ALL = (
    Experiment(
        name="primaries",
        title="The same claims in six programs, on one, two and three primaries",
        cases=(
            Case(name="1 primary"),
            Case(name="2 primaries", primaries=2),
            Case(name="3 primaries", primaries=3),
            Case(name="3, uneven: 50, 20, 10, 10, 5, 5 %", primaries=3, shares=UNEVEN),
        ),
    ),
    Experiment(
        name="batches",
        title="One program, by how many go in one call",
        cases=(
            *(Case(name=f"claims, {batch} a call", shares=ONE, batch=batch) for batch in (256, 128, 32, 8, 1)),
            *(
                Case(name=f"confirmations, {batch} a call", shares=ONE, batch=batch, confirms=True)
                for batch in (256, 32, 1)
            ),
        ),
    ),
    Experiment(
        name="replicas",
        title="Six programs on one primary, by its replicas",
        cases=(
            Case(name="no replica"),
            Case(name="1 replica", replicas=1),
            Case(name="1 replica, which must acknowledge", replicas=1, acks=1),
            Case(name="2 replicas", replicas=2),
            Case(name="2 replicas, which must acknowledge", replicas=2, acks=2),
        ),
    ),
    Experiment(
        name="followers",
        title="Six programs on one primary, by the further fronts that follow every one of them",
        cases=(
            Case(name="nobody follows"),
            *(Case(name=f"{count} more", followers=count) for count in (1, 4, 16)),
        ),
    ),
)
NAMES = tuple(experiment.name for experiment in ALL)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the rounds of one experiment showed, by case."""

    experiment: Experiment
    rounds: tuple[dict[str, Work], ...]

    def median(self, case: Case, figure: str) -> float:
        """The middle one of a figure's values."""
        return float(statistics.median(getattr(works[case.name], figure) for works in self.rounds))

    def medians(self, case: Case) -> dict[str, float]:
        """All figures, with the capacity that follows."""
        figures = [*(field.name for field in fields(Work)), "capacity_per_s"]
        return {figure: self.median(case, figure) for figure in figures}

    def ratio(self, case: Case, figure: str) -> tuple[float, float, float]:
        """A figure against that of the first case in the same round: the middle ratio, the least, the greatest."""
        base = self.experiment.cases[0].name
        ratios = [getattr(works[case.name], figure) / getattr(works[base], figure) for works in self.rounds]
        return statistics.median(ratios), min(ratios), max(ratios)


class Clusters:
    """A cluster of each shape that was asked for, until all of them end together."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._by_shape: dict[tuple[int, int], LocalCluster] = {}

    async def of(self, case: Case) -> LocalCluster:
        """The one that a case is measured in; its files are rewritten between two measurements, never during one."""
        shape = (case.primaries, case.replicas)
        if shape not in self._by_shape:
            cluster = await self._stack.enter_async_context(local_cluster(case.primaries, replicas=case.replicas))
            for node in cluster.nodes:
                await node.ask("CONFIG", "SET", "auto-aof-rewrite-percentage", 0)
            self._by_shape[shape] = cluster
        return self._by_shape[shape]


@asynccontextmanager
async def local_clusters() -> AsyncIterator[Clusters]:
    """Clusters as they are asked for."""
    async with AsyncExitStack() as stack:
        yield Clusters(stack)


async def run(experiment: Experiment, clusters: Clusters, sizes: Sizes, say: Callable[[str], None]) -> Result:
    """Measure it.

    Raises:
        WrongResult: the ledgers do not hold what was answered.
    """
    if sizes.warm_up:
        say(f"{experiment.name}: warming up")
        await _round(experiment.cases, clusters, sizes)
    rounds = []
    for number in range(1, sizes.rounds + 1):
        say(f"{experiment.name}: round {number} of {sizes.rounds}")
        rounds.append(await _round(experiment.cases if number % 2 else experiment.cases[::-1], clusters, sizes))
    return Result(experiment=experiment, rounds=tuple(rounds))


async def _round(cases: Sequence[Case], clusters: Clusters, sizes: Sizes) -> dict[str, Work]:
    return {case.name: await measure(await clusters.of(case), case, sizes) for case in cases}
