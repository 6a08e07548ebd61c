"""Measured figures beside the targets that they are held against."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from loadtest.stage.tables import Table

MET = {None: "", True: "met", False: "not met"}


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
        """Whether the target is met; None where there is none."""
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
    """Each figure with its target, and whether it is met."""
    rows = tuple(figure.as_row() for figure in figures)
    return Table(title=title, columns=("figure", "measured", "target", "", "what"), rows=rows, notes=notes)


def number(value: float) -> str:
    """Two digits after the point where they say something."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.2f}"
