"""Which core does what, and how much processor time a process and its children used."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LEAST_PRIORITY = 19
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """The front has a core of its own; the load generator and the stores share the other."""

    front: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def split(cls) -> "Cores":
        """The first two cores that we may use; one core alone is shared by all."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(frozenset(allowed[:1]), frozenset(allowed[1:2] or allowed))

    @property
    def separate(self) -> bool:
        return self.front != self.rest


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def yield_to_others(pid: int) -> None:
    """Let a process and its descendants use only the time that others leave."""
    for each in family(pid):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, each, LEAST_PRIORITY)
            # Where each session is scheduled as a group of its own, a priority only counts within its group.
            Path(f"/proc/{each}/autogroup").write_text(str(LEAST_PRIORITY))


def _of_threads(pid: int, name: str) -> list[str]:
    """The content of this file of /proc for each thread of a process, without threads that end meanwhile."""
    shown = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                shown.append(Path(f"/proc/{pid}/task/{task}/{name}").read_text())
    return shown


def children(pid: int) -> list[int]:
    return sorted(int(child) for shown in _of_threads(pid, "children") for child in shown.split())


def family(pid: int) -> list[int]:
    return [pid, *(each for child in children(pid) for each in family(child))]


def busy_s(pid: int) -> float:
    """Processor time of a process and of all its living descendants, in seconds."""
    total = 0.0
    for each in family(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended while we looked
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return total


def ran_s(pid: int) -> float:
    """Processor time to the nanosecond, from the scheduler's account; without threads that have ended."""
    return sum(int(account.split()[0]) for each in family(pid) for account in _of_threads(each, "schedstat")) / 1e9


def resident_bytes(pid: int) -> int:
    """Proportional resident memory of a process and of all its living descendants."""
    lines = (line for each in family(pid) for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
