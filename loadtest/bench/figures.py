"""Measurements of two sides taken in turn, their ratios, and figures with their targets.

Whatever else the machine does affects both sides alike, so a ratio says more than either measurement.
"""

import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from loadtest.stage.tables import Table

MET = {None: "", True: "met", False: "not met"}
DRIFT_MAX = 0.10  # a pair counts only when the base moved by no more meanwhile

Side = TypeVar("Side")
Say = Callable[[str], None]
Measured: TypeAlias = Mapping[str, float]  # by the name of the figure


class WrongResult(Exception):
    """A measurement checked its own result and found it wrong. Its figures mean nothing, so it ends the run."""


@dataclass(frozen=True)
class Pair:
    """One measurement of the base and one of the other side, directly after each other."""

    base: Measured
    other: Measured
    drift: float = 0.0  # change of the base during the measurement, as a share

    @property
    def counts(self) -> bool:
        """Whether the base was steady enough for the ratio to be used."""
        return self.drift <= DRIFT_MAX

    def ratio(self, *figures: str) -> float:
        return sum(self.other[figure] for figure in figures) / sum(self.base[figure] for figure in figures)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "counts": self.counts}


Rounds: TypeAlias = Mapping[str, Sequence[Pair]]  # by what was measured beside the base, one pair a round


def mean(first: Measured, second: Measured) -> Measured:
    return {figure: (first[figure] + second[figure]) / 2 for figure in first}


def firm(pairs: Sequence[Pair]) -> Sequence[Pair]:
    """The pairs that count, or all of them if none does."""
    return [pair for pair in pairs if pair.counts] or pairs


def ratio(pairs: Sequence[Pair], *figures: str) -> float:
    return statistics.median(pair.ratio(*figures) for pair in pairs)


def by_turns(
    sides: Sequence[Side], rounds: int, say: Say = lambda _: None, *, warm_up: bool = True
) -> Iterator[tuple[bool, Sequence[Side]]]:
    """For each round whether it counts (the first one warms up), and the sides in the order of their measurements.

    Each round reverses the order, so that a drift of the machine affects all sides alike.
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


@dataclass(frozen=True, kw_only=True)
class Figure:
    name: str  # short, unique within its measure: `ours/evalsha`
    title: str  # one line on what was measured
    value: float
    unit: str = ""  # "" for a ratio
    target: float | None = None  # None: shown for information
    sense: Literal["at least", "at most"] = "at least"  # how the target is meant
    note: str = ""  # what a reader must know to understand the figure

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.sense == "at least" else self.value <= self.target

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}

    def as_row(self) -> tuple[str, ...]:
        unit = f" {self.unit}" if self.unit else ""
        target = "-" if self.target is None else f"{self.sense} {number(self.target)}{unit}"
        title = f"{self.title} ({self.note})" if self.note else self.title
        return self.name, f"{number(self.value)}{unit}", target, MET[self.met], title


def table_of(title: str, figures: Sequence[Figure], notes: tuple[str, ...] = ()) -> Table:
    rows = tuple(figure.as_row() for figure in figures)
    return Table(title=title, columns=("figure", "measured", "target", "", "what"), rows=rows, notes=notes)


def number(value: float) -> str:
    """Two decimals, or none for large and whole numbers."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.2f}"
