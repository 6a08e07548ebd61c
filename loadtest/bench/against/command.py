"""`--against REV`: both services started, measured and compared."""

import argparse
import resource
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from loadtest.bench.against import connections, operations, overload
from loadtest.bench.against.checkout import HERE, NoRevision, checked_out, commit_of
from loadtest.bench.against.line import WrongAnswer
from loadtest.bench.against.operations import Operation
from loadtest.bench.against.rounds import Compared, Say, compare
from loadtest.bench.against.stand import started
from loadtest.bench.figures import Figure, table_of
from loadtest.stage.cores import Cores, pinned
from loadtest.stage.environment import describe
from loadtest.stage.tables import Table, write_run

ROUNDS = 5
SMOKE_SCALE = 0.05  # of the requests
CONNECTIONS = 10_000
SMOKE_CONNECTIONS = 100
FILES_SPARE = 1000  # descriptors that are not connections of ours
OVERLOAD_S = 8.0
NOTES = (
    "One caller, a front on a core of its own; medians of rounds that alternate every few requests.",
    "Below 1 this tree takes less. In brackets: the other revision's median and this tree's.",
    "A ratio is the median of the rounds' ratios, so it can differ from the quotient of the two in brackets.",
)


@dataclass
class Comparison:
    """What was found out."""

    revision: str
    commit: str = ""
    compared: list[Compared] = field(default_factory=list)
    further: list[Figure] = field(default_factory=list)

    @property
    def figures(self) -> list[Figure]:
        return [*(each.figure for each in self.compared), *self.further]

    @property
    def table(self) -> Table:
        return table_of(f"This tree against {self.revision} ({self.commit[:10]})", self.figures, NOTES)


def against_revision(
    arguments: argparse.Namespace, command: Sequence[str], cores: Cores, console: Console, errors: Console
) -> int:
    """Measure, print, and write what was asked for. 0 also where a target is missed: it is a measurement."""

    def say(text: str) -> None:
        errors.print(f"[dim]{text}[/]")

    with tempfile.TemporaryDirectory() as directory:
        environment = describe(Path(directory))
    found, status = Comparison(arguments.against), 0
    try:
        found.commit = commit_of(arguments.against)
        _measure(found, arguments, cores, say)
    except (NoRevision, WrongAnswer, RuntimeError, OSError, subprocess.SubprocessError) as error:
        errors.print(f"[bold red]bench:[/] {error}", markup=True)
        status = 1
    if found.compared:  # what was measured before a failure is not lost
        found.table.show(console)
        if arguments.json:
            rounds = {each.operation: [asdict(pair) for pair in each.pairs] for each in found.compared}
            figures = [figure.as_json() for figure in found.figures]
            write_run(arguments.json, command, environment, [found.table], figures=figures, rounds=rounds)
    return status


def _measure(found: Comparison, arguments: argparse.Namespace, cores: Cores, say: Say) -> None:
    chosen: Sequence[Operation] = arguments.operations or operations.ALL
    rounds = 1 if arguments.smoke else arguments.rounds or ROUNDS
    with ExitStack() as stack:
        there = stack.enter_context(checked_out(arguments.against, say))
        with pinned(cores.rest):
            say(f"starting both services: {HERE.name} and {there.name}")
            with started((HERE, there), cores) as stands:
                scale = SMOKE_SCALE if arguments.smoke else 1.0
                for compared in compare(stands, chosen, rounds=rounds, scale=scale, say=say):
                    found.compared = compared
                if not arguments.operations:
                    count = _connections(SMOKE_CONNECTIONS if arguments.smoke else CONNECTIONS)
                    say(f"{count} idle connections to each")
                    found.further.append(connections.compare(*stands, count))
        if not (arguments.operations or arguments.smoke):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rv-overload-")))
            found.further += overload.compare(HERE, there, OVERLOAD_S, directory, say)


def _connections(wanted: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, wanted + FILES_SPARE)), hard))
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_SPARE)
