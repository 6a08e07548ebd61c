"""What the commands of this package share: options, a start on the right cores, exit codes."""

import argparse
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from loadtest.openloop.scene import BATCH_ITEMS, FSYNC_MS, Slowness, claims_at_a_time
from loadtest.stage.cores import Cores, pinned
from loadtest.stage.environment import warnings
from loadtest.stage.http import UnreadableAnswer
from loadtest.stage.verdicts import open_console
from reservasi import logs
from reservasi.cli.front_serving import raise_open_files
from reservasi.errors import ReservasiError

FILES = 65_536


def parser_of(module: str, doc: str | None, *, seconds: float, slowed: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    parser.add_argument("--seconds", type=float, default=seconds, help="length of each load")
    parser.add_argument("--seed", type=int, default=0, help="another seed: another timetable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    if slowed:
        short, shipped = ("ledger", "processor"), claims_at_a_time()
        parser.add_argument("--short", choices=short, default="ledger", help="what there is too little of")
        parser.add_argument("--behind", choices=("nginx",), help="everybody comes through nginx with the shipped file")
        parser.add_argument("--claims-at-a-time", type=int, default=shipped, help="that nginx lets through")
        parser.add_argument("--fsync-ms", type=int, default=FSYNC_MS, help="added to each fsync; 0: nothing is slowed")
        parser.add_argument("--batch-items", type=int, default=BATCH_ITEMS, help="claims in one ledger call, if slowed")
    return parser


def slowness_of(options: argparse.Namespace) -> Slowness:
    behind_nginx = options.claims_at_a_time if options.behind == "nginx" else 0
    if options.short == "processor":
        return Slowness(fsync_ms=0, shares_core=True, behind_nginx=behind_nginx)
    return Slowness(fsync_ms=options.fsync_ms, batch_items=options.batch_items, behind_nginx=behind_nginx)


def start(
    work: Callable[[Cores, Console, argparse.Namespace], Coroutine[Any, Any, int]], parser: argparse.ArgumentParser
) -> int:
    """Run a command: 0 all kept, 1 something was not, or it could not be measured."""
    options, console = parser.parse_args(), open_console()
    logs.configure("warning", "console")
    cores = Cores.split()
    for warning in warnings(cores):
        console.print(f"[yellow]{warning}[/]")
    raise_open_files(FILES)
    try:
        with pinned(cores.rest):
            return uvloop.run(work(cores, console, options))
    except (RuntimeError, UnreadableAnswer, ReservasiError, TimeoutError) as error:
        console.print(f"[bold red]failed:[/] {type(error).__name__}: {error}")
        return 1
