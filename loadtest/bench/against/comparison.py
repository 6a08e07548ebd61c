"""Measures both services in turn, a few requests at a time, so that other load on the machine affects both alike."""

import argparse
import json
import resource
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.bench.against.checkout import HERE, Build, checked_out, commit_of
from loadtest.bench.against.operations import ALL, Operation
from loadtest.bench.against.stand import Stand, started
from loadtest.bench.claims import get
from loadtest.bench.client import Line
from loadtest.bench.command import carry_out
from loadtest.bench.figures import Figure, Measured, Pair, Say, WrongResult, by_turns, mean, ratio, table_of
from loadtest.stage.cores import Cores, pinned, resident_bytes
from loadtest.stage.http import UnreadableAnswer
from loadtest.stage.service import Part
from loadtest.stage.tables import Table
from loadtest.stage.undisturbed import undisturbed

OPERATIONS = {operation.name: operation for operation in ALL}
ROUNDS = 5
WARM_UP = 5  # requests on each connection before its time counts
SMOKE_SCALE = 0.05  # of the requests
CONNECTIONS = 10_000
SMOKE_CONNECTIONS = 100
REUSED_CONNECTIONS = 500  # opened first, so that memory which is allocated once does not count
FILES_SPARE = 1000  # descriptors that are not connections of ours
OVERLOAD_S = 8.0
OVERLOAD_RUNS = 5  # of each tree, by turns
OVERLOAD_TIMEOUT_S = 300
# Name of a figure, its outcome as either tree's command writes it, and the target.
OVERLOAD_FIGURES = (
    ("refusals a second, three times the load", "503 overloaded", 1.0),
    ("places a second, three times the load", "201", None),
)
FRONT, LEDGER = "front_s", "ledger_s"  # processor time of the front and of the ledger's server, a request
NOTES = (
    "One caller, a front on a core of its own; medians of rounds that alternate every few requests.",
    "Below 1 this tree takes less. In brackets: the other revision's median and this tree's.",
    "A ratio is the median of the rounds' ratios, so it can differ from the quotient of the two in brackets.",
)


@dataclass
class Comparison:
    revision: str
    commit: str = ""
    pairs: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))  # by operation, one a round
    further: list[Figure] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    def compare(
        self, stands: tuple[Stand, Stand], chosen: Sequence[Operation], *, rounds: int, scale: float, say: Say
    ) -> None:
        """Measure every operation in every round, with blocks of both services in turn."""
        for counts, ordered in by_turns(chosen, rounds, say):
            pairs = {operation.name: _pair(*stands, operation, scale) for operation in ordered}
            for operation in chosen if counts else ():
                self.pairs[operation.name].append(pairs[operation.name])

    @property
    def figures(self) -> list[Figure]:
        return [*(figure(OPERATIONS[name], pairs) for name, pairs in self.pairs.items()), *self.further]

    def tables(self) -> list[Table]:
        title = f"This tree against {self.revision} ({self.commit[:10]})"
        return [table_of(title, self.figures, NOTES)] if self.pairs else []

    def as_json(self) -> dict[str, Any]:
        rounds = {name: [pair.as_json() for pair in pairs] for name, pairs in self.pairs.items()}
        return {"figures": [figure.as_json() for figure in self.figures], "rounds": rounds}


def figure(operation: Operation, pairs: Sequence[Pair]) -> Figure:
    """The median ratio of an operation's rounds with its target."""
    there_us = statistics.median(pair.base[FRONT] for pair in pairs) * 1e6
    here_us = statistics.median(pair.other[FRONT] for pair in pairs) * 1e6
    ratios = [pair.ratio(FRONT) for pair in pairs]
    return Figure(
        name=operation.name,
        title="the front's processor time a request, of the other revision's",
        value=ratio(pairs, FRONT),
        target=operation.target,
        sense="at most",
        note=f"{there_us:.0f} -> {here_us:.0f} us; rounds {min(ratios):.2f} to {max(ratios):.2f}; "
        f"with the ledger's {ratio(pairs, FRONT, LEDGER):.2f}",
    )


def against_revision(arguments: argparse.Namespace) -> int:
    comparison = Comparison(arguments.against)
    return carry_out(comparison, lambda cores, say: _measure(comparison, arguments, cores, say), arguments.json)


def _measure(comparison: Comparison, arguments: argparse.Namespace, cores: Cores, say: Say) -> None:
    comparison.commit = commit_of(arguments.against)
    rounds, scale = (1, SMOKE_SCALE) if arguments.smoke else (arguments.rounds or ROUNDS, 1.0)
    chosen = [operation for name, operation in OPERATIONS.items() if name in (arguments.operations or OPERATIONS)]
    with ExitStack() as stack:
        there = stack.enter_context(checked_out(arguments.against, say))
        with pinned(cores.rest):
            say(f"starting both services: {HERE.name} and {there.name}")
            with started((HERE, there), cores) as stands:
                comparison.compare(stands, chosen, rounds=rounds, scale=scale, say=say)
                if not arguments.operations:
                    count = _connections(SMOKE_CONNECTIONS if arguments.smoke else CONNECTIONS)
                    say(f"{count} idle connections to each")
                    comparison.further.append(idle_connections(*stands, count))
        if not (arguments.operations or arguments.smoke):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rv-overload-")))
            comparison.further += compare_overload(HERE, there, directory, say)


def _pair(here: Stand, there: Stand, operation: Operation, scale: float) -> Pair:
    """Two blocks of each side: ours first and last, so that a steady drift affects both sides alike."""
    order = (here, there, there, here)
    first, second, third, fourth = (measure(stand, operation, scale) for stand in order)
    return Pair(base=mean(second, third), other=mean(first, fourth))


def measure(stand: Stand, operation: Operation, scale: float) -> Measured:
    """One block of one operation on a connection of its own."""
    for _ in range(operation.tries - 1):
        try:
            return _measure_once(stand, operation, scale)
        except (WrongResult, UnreadableAnswer, TimeoutError):
            continue
    return _measure_once(stand, operation, scale)


def _measure_once(stand: Stand, operation: Operation, scale: float) -> Measured:
    count = max(1, round(operation.block * scale))
    warm_up, work = (operation.prepare(stand, number) for number in (min(WARM_UP, count), count))
    with Line(stand.port) as line, operation.during(stand), undisturbed():
        warm_up(line)
        front_s, ledger_s = stand.ran_s(Part.FRONT), stand.ran_s(Part.VALKEY)
        work(line)
        return {
            FRONT: (stand.ran_s(Part.FRONT) - front_s) / count,
            LEDGER: (stand.ran_s(Part.VALKEY) - ledger_s) / count,
        }


def idle_connections(here: Stand, there: Stand, connections: int) -> Figure:
    (there_before, there_bytes), (here_before, here_bytes) = (_front_bytes(side, connections) for side in (there, here))
    there_each, here_each = (there_bytes - there_before) / connections, (here_bytes - here_before) / connections
    return Figure(
        name=f"memory with {connections:,} idle connections",
        title="a front's resident memory, of the other revision's",
        value=here_bytes / there_bytes,
        target=1.0,
        sense="at most",
        note=f"{there_bytes / 2**20:.0f} -> {here_bytes / 2**20:.0f} MiB; "
        f"a connection {there_each:,.0f} -> {here_each:,.0f} bytes",
    )


def _front_bytes(stand: Stand, connections: int) -> tuple[int, int]:
    """A front's memory before and with this many idle connections, each of which got one answer."""
    (front,), before = stand.service.pids(Part.FRONT), 0
    with ExitStack() as stack:
        for number in range(REUSED_CONNECTIONS + connections):
            if number == REUSED_CONNECTIONS:
                before = resident_bytes(front)
            stack.enter_context(Line(stand.port)).json(get("/v1/programs"))
        return before, resident_bytes(front)


def _connections(wanted: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, wanted + FILES_SPARE)), hard))
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_SPARE)


def compare_overload(here: Build, there: Build, directory: Path, say: Say) -> list[Figure]:
    """Run `make overload` of both trees in turn; no figures if one of them cannot run it."""
    runs: dict[str, list[dict[str, Any]]] = {here.name: [], there.name: []}
    for _, builds in by_turns((here, there), OVERLOAD_RUNS, warm_up=False):
        for build in builds:
            say(f"overload: {build.name}")
            facts = _run_overload(build, directory / "overload.json")
            if facts is None:
                say(f"overload: left out, since it does not run in {build.name}")
                return []
            runs[build.name].append(facts)
    return overload_figures(runs[here.name], runs[there.name])


def overload_figures(here: Sequence[dict[str, Any]], there: Sequence[dict[str, Any]]) -> list[Figure]:
    def per_s(runs: Sequence[dict[str, Any]], outcome: str) -> float:
        return float(statistics.median(run["outcomes"].get(outcome, 0) / run["seconds"] for run in runs))

    title = "of the other revision's; each tree is offered three times of its own peak"
    figures = []
    for name, outcome, target in OVERLOAD_FIGURES:
        here_per_s, there_per_s = per_s(here, outcome), per_s(there, outcome)
        note = f"{there_per_s:,.0f} -> {here_per_s:,.0f}"
        figures.append(Figure(name=name, title=title, value=here_per_s / there_per_s, target=target, note=note))
    return figures


def _run_overload(build: Build, written: Path) -> dict[str, Any] | None:
    """The JSON of one run, or None if it wrote none. Its own verdict is not used."""
    flags = ("--seconds", str(OVERLOAD_S), "--json", str(written))
    build.run((str(build.python), "-m", "loadtest.openloop.overload", *flags), OVERLOAD_TIMEOUT_S)
    if not written.exists():
        return None
    facts: dict[str, Any] = json.loads(written.read_text())
    written.unlink()
    return facts
