"""Shared by the benchmark's commands: arguments, output on the console and as JSON."""

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from loadtest.bench.figures import Say, WrongResult
from loadtest.stage.cores import Cores
from loadtest.stage.environment import describe, warnings
from loadtest.stage.http import UnreadableAnswer
from loadtest.stage.tables import Table, write_run
from loadtest.stage.verdicts import command, open_console
from reservasi import logs
from reservasi.errors import ReservasiError

FAILURES = (WrongResult, UnreadableAnswer, ReservasiError, RuntimeError, OSError, subprocess.SubprocessError)


class Found(Protocol):
    """The results of a run. They are added one by one, so that a failure loses none of the earlier ones."""

    environment: dict[str, Any]

    def tables(self) -> Sequence[Table]: ...

    def as_json(self) -> dict[str, Any]: ...


def parser_of(module: str, about: str | None, parts: Sequence[str], rounds: str) -> argparse.ArgumentParser:
    """The arguments of every command. `parts` are the choices of `--only`; `rounds` says their default."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--rounds", type=positive, help=f"rounds that are measured (default {rounds})")
    parser.add_argument(
        "--only", type=names_of(parts), default=frozenset(parts), metavar="NAME,...", help=f"of {', '.join(parts)}"
    )
    parser.add_argument("--smoke", action="store_true", help="a little of each: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole run there as JSON")
    return parser


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def names_of(choices: Iterable[str]) -> Callable[[str], frozenset[str]]:
    def read(text: str) -> frozenset[str]:
        names = frozenset(name.strip() for name in text.split(","))
        if unknown := names.difference(choices):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: is none of {', '.join(choices)}")
        return names

    return read


def carry_out(results: Found, measure: Callable[[Cores, Say], None], json: Path | None) -> int:
    """Measure, print, and write the JSON; the exit code. A missed target is a result, not a failure."""
    console, errors = open_console(), Console(stderr=True, highlight=False, soft_wrap=True)
    logs.configure("warning", "console")
    cores, status = Cores.split(), 0
    for warning in warnings(cores):
        errors.print(f"[yellow]{warning}[/]")
    with tempfile.TemporaryDirectory() as directory:
        results.environment = describe(Path(directory))
    try:
        measure(cores, lambda text: errors.print(f"[dim]{text}[/]"))
    except FAILURES as error:
        errors.print(f"[bold red]bench:[/] {type(error).__name__}: {error}", markup=True)
        status = 1
    finally:
        tables = results.tables()
        for table in tables:
            table.show(console)
        if json and tables:
            write_run(json, command(), results.environment, tables, **results.as_json())
    return status
