"""`python -m loadtest.scale_out`: what primaries, batches, replicas and followers cost in work a claim."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

import uvloop
from rich.console import Console

from loadtest.bench.measuring import WrongResult
from loadtest.scale_out.cases import BASE, CASES, GROUPS, IDLE, IDLE_WAYS, Case
from loadtest.scale_out.cluster import LocalCluster, local_cluster
from loadtest.scale_out.measuring import Sizes, measure, measure_idle
from loadtest.scale_out.report import Found, tables
from loadtest.stage.cores import Cores, pinned
from loadtest.stage.environment import describe
from loadtest.stage.tables import write_run
from reservasi import logs
from reservasi.errors import ReservasiError

MODULE = "loadtest.scale_out"
TABLE_COLUMNS = 160


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds that are measured (default 5)")
    parser.add_argument("--claims", type=_positive, default=24_000, help="claims in one measurement (default 24,000)")
    parser.add_argument(
        "--only", type=_groups, default=frozenset(GROUPS), metavar="NAME,...", help=f"of {', '.join(GROUPS)}"
    )
    parser.add_argument("--smoke", action="store_true", help="a little of each: shows that it works, not what it costs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole run there as JSON")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _groups(text: str) -> frozenset[str]:
    names = frozenset(text.split(","))
    if unknown := names.difference(GROUPS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: is none of {', '.join(GROUPS)}")
    return names


def sizes_of(arguments: argparse.Namespace, cores: Cores) -> Sizes:
    if arguments.smoke:
        return Sizes(rounds=1, warm_up=False, claims=300, calls_max=50, quotas=10, idle_s=0.5, front_on=cores.front)
    rounds, claims = arguments.rounds, arguments.claims
    return Sizes(rounds=rounds, warm_up=True, claims=claims, calls_max=3000, quotas=50, idle_s=4, front_on=cores.front)


class Clusters:
    """A cluster of each shape that was asked for, until all of them end together."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._by_shape: dict[tuple[int, int], LocalCluster] = {}

    async def of(self, case: Case) -> LocalCluster:
        """The ledger of a case, created at its first use; its files are rewritten only between two measurements."""
        shape = (case.primaries, case.replicas)
        if shape not in self._by_shape:
            cluster = await self._stack.enter_async_context(local_cluster(case.primaries, replicas=case.replicas))
            for node in cluster.nodes:
                await node.ask("CONFIG", "SET", "auto-aof-rewrite-percentage", 0)
            self._by_shape[shape] = cluster
        return self._by_shape[shape]


async def measure_all(found: Found, groups: frozenset[str], sizes: Sizes, say: Callable[[str], None]) -> None:
    """Every case once a round, in the reverse order each time, so that a drift weighs on all."""
    cases = [case for case in CASES if case.group in groups or (case is BASE and groups != {IDLE})]
    async with AsyncExitStack() as stack:
        clusters = Clusters(stack)
        for number in range(not sizes.warm_up, sizes.rounds + 1):
            say(f"round {number} of {sizes.rounds}" if number else "warming up")
            works = {
                case.name: await measure(await clusters.of(case), case, sizes)
                for case in (cases if number % 2 else cases[::-1])
            }
            if number and works:
                found.works.append(works)
            if number and IDLE in groups:
                cluster = await clusters.of(BASE)
                found.idle.append(
                    {way: await measure_idle(cluster, sizes, wanted) for way, wanted in IDLE_WAYS.items()}
                )


def main(argv: list[str] | None = None) -> int:
    arguments = read_arguments(argv)
    console = Console(highlight=False, soft_wrap=True, width=TABLE_COLUMNS)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    logs.configure("warning", "console")
    cores = Cores.split()
    sizes, found = sizes_of(arguments, cores), Found()
    with tempfile.TemporaryDirectory() as directory:
        environment = describe(Path(directory))
    try:
        with pinned(cores.rest):
            uvloop.run(measure_all(found, arguments.only, sizes, lambda text: errors.print(f"[dim]{text}[/]")))
    except (WrongResult, ReservasiError, TimeoutError, RuntimeError) as error:
        errors.print(f"[bold red]scale-out:[/] {type(error).__name__}: {error}", markup=True)
        return 1
    made = tables(found)
    for table in made:
        if arguments.markdown:
            sys.stdout.write(table.markdown() + "\n")
        else:
            table.show(console)
    if arguments.json:
        works = [{name: asdict(work) for name, work in works.items()} for works in found.works]
        idle = [{way: asdict(one) for way, one in ways.items()} for ways in found.idle]
        command = ("python", "-m", MODULE, *(sys.argv[1:] if argv is None else argv))
        write_run(arguments.json, command, environment, made, rounds=works, idle_rounds=idle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
