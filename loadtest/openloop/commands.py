"""What the commands of this package share: options, a start on the right cores, the checker at the end."""

import argparse
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from loadtest.bench.client import UnreadableAnswer
from loadtest.checker.check import show as show_findings
from loadtest.openloop.scene import BATCH_ITEMS, FSYNC_MS, Scene, Slowness, claims_at_a_time
from loadtest.openloop.short_processor import NEIGHBOURS
from loadtest.stage.cores import Cores, pinned
from loadtest.stage.environment import warnings
from reservasi import logs
from reservasi.cli.serving import raise_open_files
from reservasi.errors import ReservasiError

FILES = 65_536
COLUMNS = 160


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One figure beside its bound."""

    name: str
    value: str
    bound: str
    met: bool


def parser_of(module: str, doc: str | None, seconds: float) -> argparse.ArgumentParser:
    """The options that all commands have."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    parser.add_argument("--seconds", type=float, default=seconds, help="length of each load")
    parser.add_argument("--seed", type=int, default=0, help="another seed: another timetable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    return parser


def add_slowness(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--short", choices=("ledger", "processor"), default="ledger", help="what there is too little of"
    )
    parser.add_argument(
        "--neighbours", type=int, default=NEIGHBOURS, help="that share the front's core, when its processor is short"
    )
    parser.add_argument("--behind", choices=("nginx",), help="everybody comes through nginx with the shipped file")
    parser.add_argument(
        "--claims-at-a-time",
        type=int,
        default=claims_at_a_time(),
        help="that nginx lets through; as shipped unless given",
    )
    parser.add_argument("--fsync-ms", type=int, default=FSYNC_MS, help="added to each fsync; 0: nothing is slowed")
    parser.add_argument("--batch-items", type=int, default=BATCH_ITEMS, help="claims in one ledger call, when slowed")


def slowness_of(options: argparse.Namespace) -> Slowness:
    behind_nginx = options.claims_at_a_time if options.behind == "nginx" else 0
    if options.short == "processor":
        return Slowness(fsync_ms=0, neighbours=options.neighbours, behind_nginx=behind_nginx)
    return Slowness(fsync_ms=options.fsync_ms, batch_items=options.batch_items, behind_nginx=behind_nginx)


async def violations(scene: Scene) -> int:
    """Let the checker judge, and print what it found."""
    findings = await scene.check()
    return show_findings(findings)


def show_verdicts(console: Console, title: str, verdicts: list[Verdict]) -> bool:
    """Print them; whether all bounds were kept."""
    table = Table(title=title)
    for name in ("what", "measured", "bound", ""):
        table.add_column(name)
    for verdict in verdicts:
        table.add_row(verdict.name, verdict.value, verdict.bound, "met" if verdict.met else "[red]NOT MET[/]")
    console.print(table)
    return all(verdict.met for verdict in verdicts)


def write_json(path: Path | None, facts: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts, indent=2) + "\n")


def start(
    work: Callable[[Cores, Console, argparse.Namespace], Coroutine[Any, Any, int]], options: argparse.Namespace
) -> int:
    """Run a command: 0 all kept, 1 something was not, or it could not be measured."""
    console = Console(highlight=False, soft_wrap=True, width=COLUMNS)
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
