"""One measured figure with the target that it is held against."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What one measure showed."""

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
