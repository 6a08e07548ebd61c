"""What a run must have kept: each figure beside its bound."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.stage.tables import Table, write_run

NAMED_MAX, NAMED_CHARS = 5, 200  # of what is wrong, where a bound was not met
WIDTH = 160


@dataclass(frozen=True)
class Verdict:
    """One figure beside its bound: a row of the table."""

    name: str
    value: str
    bound: str = "(not judged)"
    met: bool = True
    wrong: Sequence[str] = ()  # each case for which the bound was not met


def open_console() -> Console:
    return Console(highlight=False, soft_wrap=True, width=WIDTH)


def report(
    console: Console,
    title: str,
    verdicts: Sequence[Verdict],
    json: Path | None,
    environment: dict[str, Any],
    **facts: Any,
) -> bool:
    """Print the verdicts, and write them with these facts as JSON where that was asked for; whether all are met."""
    rows = tuple((each.name, each.value, each.bound, "met" if each.met else "NOT MET") for each in verdicts)
    wrong = (f"{each.name}: {line[:NAMED_CHARS]}" for each in verdicts for line in each.wrong[:NAMED_MAX])
    table = Table(title=title, columns=("what", "measured", "bound", "verdict"), rows=rows, notes=tuple(wrong))
    table.show(console)
    if json is not None:
        write_run(json, command(), environment, [table], **facts)
    return all(each.met for each in verdicts)


def conclude(table: Table, wrong: Sequence[str], json: Path | None, environment: dict[str, Any], **facts: Any) -> int:
    """Print a table and everything that failed, and write them as JSON where that was asked for; the exit code."""
    print(f"\n{table.markdown()}")
    if json is not None:
        write_run(json, command(), environment, [table], **facts)
    for line in wrong:
        print(f"FAILED: {line}")
    return 1 if wrong else 0


def command() -> Sequence[str]:
    return ("python", *sys.orig_argv[1:])
