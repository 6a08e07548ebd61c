"""Processor time, memory, open files and start time of each process of a role that shares one exposition.

The metrics library measures only the process that answers, and nothing with a shared directory. Here each process has a
name during its life, such as `front-0`: there are few names, and a restarted process takes one over.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

SUFFIX = ".process"
NAMES_MAX = 256  # more than the fronts at one time, also while all are replaced


class Name:
    """A name that this process has while this object lives; the kernel releases it when the process ends."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    @classmethod
    def take(cls, directory: Path, name: str) -> "Name | None":
        """The name, or None if another process has it."""
        descriptor = os.open(directory / f"{name}{SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return cls(name, descriptor)

    @classmethod
    def take_next(cls, directory: Path, role: str) -> "Name | None":
        """The first free name of a role; None without a shared directory."""
        for number in range(NAMES_MAX):
            if (taken := cls.take(directory, f"{role}-{number}")) is not None:
                return taken
        return None


class ProcessesCollector(Collector):
    """The `process_*` metrics of every process that has a name there, by `process`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        metrics: dict[str, Metric] = {}
        for name, pid in self._processes():
            for measured in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                metric = metrics.setdefault(measured.name, Metric(measured.name, measured.documentation, measured.type))
                for sample in measured.samples:
                    metric.add_sample(sample.name, {**sample.labels, "process": name}, sample.value)
        return metrics.values()

    def _processes(self) -> Iterator[tuple[str, int]]:
        for path in sorted(self._directory.glob(f"*{SUFFIX}"))[:NAMES_MAX]:
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # fails while the process lives
            except BlockingIOError:
                text = path.read_text()
                if text.isdecimal():
                    yield path.name.removesuffix(SUFFIX), int(text)
            except OSError:
                continue
