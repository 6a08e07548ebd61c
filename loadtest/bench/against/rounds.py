"""Measuring both services by turns, a few requests at a time, so that the machine's moods fall on both."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from loadtest.bench.against.line import Line, WrongAnswer
from loadtest.bench.against.operations import Operation
from loadtest.bench.against.stand import Stand
from loadtest.bench.figures import Figure
from loadtest.stage.undisturbed import undisturbed

WARM_UP = 5  # requests on each connection before its time counts
BLOCKS = "ABBA"  # of one round: whoever comes first, a drift weighs on both

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """Processor time of the front and of the ledger's server, in seconds a request."""

    front_s: float
    ledger_s: float


@dataclass(frozen=True)
class Pair:
    """One round of one operation: this tree, and the other revision."""

    here: Cost
    there: Cost

    @property
    def ratio(self) -> float:
        """The front's time here, as a share of the other's."""
        return self.here.front_s / self.there.front_s

    @property
    def whole_ratio(self) -> float:
        """The ratio with the ledger's processor time included."""
        return (self.here.front_s + self.here.ledger_s) / (self.there.front_s + self.there.ledger_s)


@dataclass(frozen=True)
class Compared:
    """All rounds of one operation."""

    operation: str
    target: float | None
    pairs: tuple[Pair, ...]

    def median(self, value: Callable[[Pair], float]) -> float:
        return statistics.median(map(value, self.pairs))

    @property
    def figure(self) -> Figure:
        """The median ratio of the rounds with its target."""
        there_us = self.median(lambda pair: pair.there.front_s) * 1e6
        here_us = self.median(lambda pair: pair.here.front_s) * 1e6
        ratios = [pair.ratio for pair in self.pairs]
        return Figure(
            name=self.operation,
            title="the front's processor time a request, of the other revision's",
            value=statistics.median(ratios),
            target=self.target,
            sense="at most",
            note=f"{there_us:.0f} -> {here_us:.0f} us; rounds {min(ratios):.2f} to {max(ratios):.2f}; "
            f"with the ledger's {self.median(lambda pair: pair.whole_ratio):.2f}",
        )


def mean(costs: Sequence[Cost]) -> Cost:
    """Of blocks of the same length."""
    return Cost(statistics.fmean(cost.front_s for cost in costs), statistics.fmean(cost.ledger_s for cost in costs))


def compare(
    stands: tuple[Stand, Stand], operations: Sequence[Operation], *, rounds: int, scale: float, say: Say
) -> Iterator[list[Compared]]:
    """Every operation in every round, this tree and the other revision in blocks that alternate; so far, each round."""
    found: dict[str, list[Pair]] = {operation.name: [] for operation in operations}
    for number in range(rounds + 1):
        say("warming up" if not number else f"round {number} of {rounds}")
        pairs = {operation.name: _pair(*stands, operation, scale) for operation in operations}
        if number:
            for name, pair in pairs.items():
                found[name].append(pair)
            yield [Compared(each.name, each.target, tuple(found[each.name])) for each in operations]


def _pair(here: Stand, there: Stand, operation: Operation, scale: float) -> Pair:
    costs: dict[str, list[Cost]] = {"A": [], "B": []}
    for side in BLOCKS:
        costs[side].append(measure(here if side == "A" else there, operation, scale))
    return Pair(here=mean(costs["A"]), there=mean(costs["B"]))


def measure(stand: Stand, operation: Operation, scale: float) -> Cost:
    """One block of one operation on a connection of its own."""
    for left in reversed(range(operation.tries)):
        try:
            return _measure_once(stand, operation, scale)
        except (WrongAnswer, TimeoutError):
            if not left:
                raise
    raise AssertionError("an operation is tried once at least")


def _measure_once(stand: Stand, operation: Operation, scale: float) -> Cost:
    count = max(1, round(operation.block * scale))
    warm_up, work = (operation.prepare(stand, number) for number in (min(WARM_UP, count), count))
    with Line(stand.port) as line, operation.during(stand), undisturbed():
        warm_up(line)
        front_s, ledger_s = stand.front_s(), stand.ledger_s()
        work(line)
        return Cost((stand.front_s() - front_s) / count, (stand.ledger_s() - ledger_s) / count)
