"""The tables of a run: printed on the console, pasted as Markdown, and written as JSON with where they come from."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as ConsoleTable


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    columns: tuple[str, ...]  # the first one has the names of the rows
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()  # sentences that a reader needs in order to understand the figures

    def show(self, console: Console) -> None:
        table = ConsoleTable(title=self.title, title_justify="left")
        for at, column in enumerate(self.columns):
            table.add_column(column, justify="right" if at and self._is_short(at) else "left", no_wrap=not at)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", markup=False)

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", _row(self.columns), "|---" * len(self.columns) + "|"]
        lines += [_row(row) for row in self.rows]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"

    def _is_short(self, column: int) -> bool:
        """Figures are aligned on the right, sentences on the left."""
        return all(" " not in row[column].strip() or row[column][:1].isdigit() for row in self.rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def write_run(
    path: Path, command: Sequence[str], environment: dict[str, Any], tables: Sequence[Table], **further: Any
) -> None:
    """Write a run as JSON: its command, where and when it was measured, its tables, and anything else it found out.

    `environment` is what `environment.describe` returned when the run began.
    """
    run = {
        "command": shlex.join(command),
        "environment": environment,
        "tables": [asdict(table) for table in tables],
        **further,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=2) + "\n")
