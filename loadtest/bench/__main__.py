"""`python -m loadtest.bench`: starts everything, measures, verifies, prints a table, stops everything."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop
from rich.console import Console

from loadtest.bench import experiments
from loadtest.bench.against import operations
from loadtest.bench.against.command import against_revision
from loadtest.bench.against.operations import Operation
from loadtest.bench.client import UnreadableAnswer
from loadtest.bench.joins import Joiners, measure_joins
from loadtest.bench.measuring import Meter, Plan, Say, WrongResult
from loadtest.bench.reads import measure_reads
from loadtest.bench.report import Run, Suite, as_json, show
from loadtest.bench.rounds import Bench, variants_named
from loadtest.bench.stores import describe, prepared
from loadtest.bench.variants import COMPARED
from loadtest.bench.variants.evalsha import CONNECTIONS_MAX
from loadtest.stage.cores import Cores, pinned
from loadtest.stage.environment import warnings
from reservasi import logs
from reservasi.errors import ReservasiError

TABLE_COLUMNS = 160
SMOKE = Plan(rounds=1, connections=8, seconds=0.0, claims=200, warm_up_claims=50, repeats_max=0)
SMOKE_CONNECTIONS = (8,)
ROUNDS = 4
CONNECTIONS = (64, 256)  # what is usual in such comparisons, and the first second of an opening


CLAIMS = "claims"
READS = "reads"
JOINS = "joins"
EXPERIMENTS = "experiments"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `--only` leaves; everything when it names nothing."""

    names: frozenset[str]

    @property
    def variants(self) -> list[str]:
        """The variants that were named."""
        return [kind.name for kind in COMPARED if kind.name in self.names]

    @property
    def claims(self) -> bool:
        """Whether claims are measured."""
        return not self.names or CLAIMS in self.names or bool(self.variants)

    @property
    def reads(self) -> bool:
        """Whether reads are measured."""
        return not self.names or READS in self.names

    @property
    def joins(self) -> bool:
        """Whether joins are measured."""
        return not self.names or JOINS in self.names

    def experiment(self, name: str) -> bool:
        """Whether an experiment is made."""
        return not self.names or EXPERIMENTS in self.names or name in self.names


def names_allowed() -> list[str]:
    """What `--only` may name."""
    variants, single = [kind.name for kind in COMPARED], [module.NAME for module in experiments.ALL]
    return [CLAIMS, READS, JOINS, EXPERIMENTS, *variants, *single]


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument("--rounds", type=_positive, help="rounds that are measured (default 4; against a revision 5)")
    parser.add_argument(
        "--connections",
        type=_connections,
        default=CONNECTIONS,
        metavar="N,...",
        help=f"requests in flight; all is measured with each (default {','.join(map(str, CONNECTIONS))})",
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    amount.add_argument("--claims", type=_positive, default=0, help="requests in one measurement, instead")
    parser.add_argument(
        "--only", type=_choice, default=_choice(""), metavar="NAME,...", help=f"of {', '.join(names_allowed())}"
    )
    parser.add_argument(
        "--against",
        metavar="REV",
        help="compare this tree with that revision instead: checked out beside it, installed, measured interleaved",
    )
    parser.add_argument(
        "--operations", type=_operations, metavar="NAME,...", help="with --against: only these operations"
    )
    parser.add_argument("--smoke", action="store_true", help="a little of each: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole run there as JSON")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _connections(text: str) -> tuple[int, ...]:
    found = tuple(_positive(part) for part in text.split(","))
    if max(found) > CONNECTIONS_MAX or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"must be different numbers, none above {CONNECTIONS_MAX}")
    return found


def _operations(text: str) -> tuple[Operation, ...]:
    try:
        return operations.named(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _choice(text: str) -> Choice:
    names = frozenset(filter(None, text.split(",")))
    if unknown := names.difference(names_allowed()):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: is none of {', '.join(names_allowed())}")
    return Choice(names=names)


def plans_of(arguments: argparse.Namespace) -> list[Plan]:
    """One for each number of connections."""
    if arguments.smoke:
        return [replace(SMOKE, connections=connections) for connections in SMOKE_CONNECTIONS]
    return [
        Plan(
            rounds=arguments.rounds or ROUNDS,
            connections=connections,
            seconds=arguments.seconds,
            claims=arguments.claims,
            warm_up_claims=2000,
            repeats_max=2,
        )
        for connections in arguments.connections
    ]


async def run(found: Run, arguments: argparse.Namespace, cores: Cores, console: Console) -> None:
    """Fill `found` as the run goes on, so that what was measured before a failure is not lost."""
    with console.status("starting Valkey, PostgreSQL and the fronts") as status:

        def say(text: str) -> None:
            status.update(text)
            console.print(f"[dim]{text}[/]")

        await _measure(found, plans_of(arguments), arguments.only, cores, say)
        for module in experiments.ALL:
            if arguments.only.experiment(module.NAME):
                say(f"experiment: {module.NAME}")
                found.experiments[module.TITLE] = await module.run(cores, arguments.smoke, say)


async def _measure(found: Run, plans: Sequence[Plan], choice: Choice, cores: Cores, say: Say) -> None:
    async with prepared(cores) as ground, AsyncExitStack() as stack:
        found.environment = await describe(ground)
        if not (choice.claims or choice.reads or choice.joins):
            return
        bench, joiners = Bench(ground, plans[0], stack), Joiners()
        await bench.start()
        found.answer_bytes = bench.answer_bytes
        found.suites = [Suite(connections=plan.connections) for plan in plans]
        measured = list(zip(found.suites, map(Meter, plans), strict=True))
        if choice.claims:
            named = () if CLAIMS in choice.names else choice.variants
            async with bench.compared(variants_named(named)) as (bare, subjects):
                for suite, meter in measured:
                    say(f"claims, {suite.connections} connections")
                    suite.claims = await meter.rounds(bare, subjects, say)
        for suite, meter in measured:
            bench.meter = meter
            say(f"answers from memory, {suite.connections} connections")
            if choice.reads:
                suite.reads = await measure_reads(bench, say)
            if choice.joins:
                suite.reads |= await measure_joins(bench, joiners, say)


def main(argv: list[str] | None = None) -> int:
    arguments = read_arguments(argv)
    console = Console(highlight=False, soft_wrap=True, width=TABLE_COLUMNS)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    logs.configure("warning", "console")
    cores = Cores.split()
    for warning in warnings(cores):
        errors.print(f"[yellow]{warning}[/]")
    if arguments.against is not None:
        return against_revision(arguments, cores, console, errors)
    found = Run()
    try:
        with pinned(cores.rest):
            uvloop.run(run(found, arguments, cores, errors))
    except (WrongResult, UnreadableAnswer, ReservasiError, TimeoutError) as error:
        errors.print(f"[bold red]bench:[/] {type(error).__name__}: {error}", markup=True)
        return 1
    finally:
        if found.environment:
            _report(found, arguments.json, console)
    return 0


def _report(found: Run, written: Path | None, console: Console) -> None:
    if written:
        written.write_text(json.dumps(as_json(found), indent=2) + "\n")
    show(console, found)


if __name__ == "__main__":
    sys.exit(main())
