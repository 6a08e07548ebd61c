"""Sides that are measured by turns: what the machine does meanwhile happens to all, so their ratios mean something."""

import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

DRIFT_MAX = 0.10  # a pair counts only when the base moved by no more meanwhile

Side = TypeVar("Side")
Say = Callable[[str], None]
Measured: TypeAlias = Mapping[str, float]  # by the name of the figure


class WrongResult(Exception):
    """What was measured is not what should have been, so that its figures mean nothing; it ends every run."""


@dataclass(frozen=True)
class Pair:
    """What the same work cost on two sides, one right after the other."""

    base: Measured
    other: Measured
    drift: float = 0.0  # how far the base moved meanwhile, as a share

    @property
    def counts(self) -> bool:
        """Whether the ground was firm enough."""
        return self.drift <= DRIFT_MAX

    def ratio(self, *figures: str) -> float:
        """The sum of these figures on the other side, as a share of that on the base."""
        return sum(self.other[figure] for figure in figures) / sum(self.base[figure] for figure in figures)


def firm(pairs: Sequence[Pair]) -> Sequence[Pair]:
    """Those that count; all of them when there is none."""
    return [pair for pair in pairs if pair.counts] or pairs


def ratio(pairs: Sequence[Pair], *figures: str) -> float:
    """The median of the pairs' ratios, in which a drift between two pairs does not show."""
    return statistics.median(pair.ratio(*figures) for pair in pairs)


def by_turns(
    sides: Sequence[Side], rounds: int, say: Say = lambda _: None, *, warm_up: bool = True
) -> Iterator[tuple[bool, Sequence[Side]]]:
    """The sides in the order of each round, and whether the round counts, which one that warms up does not.

    Each round reverses the order, so that a drift of the machine weighs on all sides.
    """
    for number in range(not warm_up, rounds + 1):
        say(f"round {number} of {rounds}" if number else "warming up")
        yield bool(number), sides if number % 2 else sides[::-1]


async def paired(base: Side, other: Side, measure: Callable[[Side], Awaitable[Measured]], rounds: int) -> list[Pair]:
    """Both sides measured in each round, one right after the other."""
    pairs = []
    for counts, sides in by_turns((base, other), rounds):
        figures = {side: await measure(side) for side in sides}
        pairs += [Pair(figures[base], figures[other])] if counts else []
    return pairs
