"""`python -m loadtest.bench`: starts everything, measures, verifies, prints a table, stops everything."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from loadtest.bench.client import UnreadableAnswer
from loadtest.bench.cores import Cores, pinned
from loadtest.bench.environment import describe, warnings
from loadtest.bench.report import as_json, show
from loadtest.bench.rounds import Bench, Plan, Round, WrongResult
from loadtest.bench.stores import prepared
from reservasi import logs
from reservasi.errors import ReservasiError

TABLE_COLUMNS = 132
SMOKE = Plan(rounds=1, connections=8, seconds=0.0, claims=200, warm_up_claims=50, repeats_max=0)


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds that must count (default 5)")
    parser.add_argument("--connections", type=_positive, default=64, help="requests in flight (default 64)")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    amount.add_argument("--claims", type=_positive, default=0, help="claims in one measurement, instead")
    parser.add_argument("--smoke", action="store_true", help="a few claims of each: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole run there as JSON")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def plan_of(arguments: argparse.Namespace) -> Plan:
    if arguments.smoke:
        return SMOKE
    return Plan(
        rounds=arguments.rounds,
        connections=arguments.connections,
        seconds=arguments.seconds,
        claims=arguments.claims,
        warm_up_claims=2000,
        repeats_max=2,
    )


async def run(plan: Plan, cores: Cores, console: Console) -> tuple[list[Round], dict[str, Any], int]:
    with console.status("starting Valkey, PostgreSQL and the fronts") as status:
        async with prepared(cores) as ground:
            environment = await describe(ground)
            bench = Bench(ground, plan)

            def say(text: str) -> None:
                status.update(text)
                console.print(f"[dim]{text}[/]")

            rounds = await bench.run(say)
    return rounds, environment, bench.answer_bytes


def main(argv: list[str] | None = None) -> int:
    arguments = read_arguments(argv)
    console = Console(highlight=False, soft_wrap=True, width=TABLE_COLUMNS)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    logs.configure("warning", "console")
    cores = Cores.split()
    for warning in warnings(cores):
        errors.print(f"[yellow]{warning}[/]")
    try:
        with pinned(cores.rest):
            rounds, environment, answer_bytes = uvloop.run(run(plan_of(arguments), cores, errors))
    except (WrongResult, UnreadableAnswer, ReservasiError, TimeoutError) as error:
        errors.print(f"[bold red]bench:[/] {type(error).__name__}: {error}", markup=True)
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(rounds, environment, answer_bytes), indent=2) + "\n")
    show(console, rounds, environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
