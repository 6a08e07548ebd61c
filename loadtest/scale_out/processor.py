"""Processor time of one process, exact to the nanosecond, where the kernel's ticks would be too coarse."""

from contextlib import suppress
from pathlib import Path


def cpu_s(pid: int) -> float:
    """What all living threads of a process have used, in seconds; what a thread used that has ended is not there."""
    total_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended while we looked
            total_ns += int((thread / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def family_cpu_s(pid: int) -> float:
    """The same of a process and its living children."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    total_s = 0.0
    for each in (pid, *children):
        with suppress(FileNotFoundError, ProcessLookupError):
            total_s += cpu_s(each)
    return total_s
