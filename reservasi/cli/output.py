"""Shared by all commands: options, output as text or JSON, exit codes."""

import datetime as dt
import gc
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from typer.exceptions import TyperException

from reservasi.errors import ReservasiError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DRIFT = 3
# Most of what a command allocates are its modules, which stay. Fronts and workers set their own threshold afterwards.
YOUNG_OBJECTS = 50_000

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="print one JSON document")]
DataDir: TypeAlias = Annotated[
    Path | None, typer.Option("--data-dir", help="where the embedded servers keep their data", show_default=False)
]
RedisUrl: TypeAlias = Annotated[
    str | None, typer.Option("--redis-url", help="an existing Redis or Valkey instead of the embedded one")
]
PostgresDsn: TypeAlias = Annotated[
    str | None, typer.Option("--postgres-dsn", help="an existing PostgreSQL instead of the embedded one")
]

PASSWORD_IN_USERINFO = re.compile(r"(//[^/?#@:]*:)[^/?#]*@")
PASSWORD_IN_QUERY = re.compile(r"([?&]password=)[^&#]*")

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)
_lines_as_json = False


def run_app(app: typer.Typer) -> None:
    """Run a command line; a fault becomes one line and exit 1, any other exception is a bug and shows its traceback.

    With `--json` a wrong use becomes a JSON document as well, and exit 2.
    """
    gc.set_threshold(YOUNG_OBJECTS)
    as_json = "--json" in sys.argv
    try:
        sys.exit(app(standalone_mode=not as_json))
    except ReservasiError as error:
        fail(str(error), as_json=as_json)
        sys.exit(EXIT_FAILED)
    except TyperException as error:  # only raised with `--json`
        fail(error.format_message(), as_json=as_json)
        sys.exit(EXIT_USAGE)


def write_lines_as_json(*, wanted: bool) -> None:
    """Whether messages on standard error are JSON lines, like the log (`log_format`)."""
    global _lines_as_json  # noqa: PLW0603 - of the process, like standard error itself
    _lines_as_json = wanted


def fail(message: str, *, as_json: bool) -> None:
    """Print an error: as JSON on standard output if requested, else on standard error."""
    if as_json:
        print_json({"error": message})
    elif _lines_as_json:
        _write_line("error", message)
    else:
        err.print(f"[bold red]reservasi:[/] {_plain(message)}")


def warn(message: str) -> None:
    """Print a warning on standard error; the command continues."""
    if _lines_as_json:
        _write_line("warning", message)
    else:
        err.print(f"[bold yellow]reservasi:[/] {_plain(message)}")


def hint(message: str) -> None:
    """Print a remark about the output on standard error."""
    if _lines_as_json:
        _write_line("info", message)
    else:
        err.print(Text(message, style="dim"))


def print_json(value: Any) -> None:
    """One JSON document, alone on its line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def _write_line(level: str, message: str) -> None:
    line = {"event": message, "level": level, "timestamp": dt.datetime.now(dt.UTC)}
    sys.stderr.write(msgspec.json.encode(line).decode() + "\n")


def show(value: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one object: one line per field, or JSON."""
    if as_json:
        print_json(value)
        return
    width = max((len(name) for name in value), default=0)
    for name, field in value.items():
        out.print(f"[dim]{name:<{width}}[/]  {_plain(_words(field))}")


def show_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print several rows: a table, or JSON."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        out.print("[dim]none[/]")
        return
    table = [tuple(rows[0]), *(tuple(map(_words, row.values())) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    heading, *lines = (
        "  ".join(_padded(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in table
    )
    out.print(Text(heading, style="dim"))
    sys.stdout.write("".join(f"{line}\n" for line in lines))  # Rich's own tables are slow for many rows


def moment(at_ms: int) -> str | None:
    """A time of the ledger in RFC 3339; None for 0 ("none")."""
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).isoformat() if at_ms else None


def moment_ms(words: str) -> int:
    """A time given to a command, in milliseconds since the epoch.

    Raises:
        typer.BadParameter: it is neither "now" nor an RFC 3339 time with an offset.
    """
    if words == "now":
        return int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    try:
        parsed = dt.datetime.fromisoformat(words)
    except ValueError as error:
        raise typer.BadParameter(f"{words} is not a time such as 2026-12-01T14:00:00+07:00") from error
    if parsed.tzinfo is None:
        raise typer.BadParameter(f"{words} has no offset, such as +07:00")
    return int(parsed.timestamp() * 1000)


def counted(count: int, noun: str) -> str:
    """A number and its noun, such as `1 quota` and `2 quotas`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def masked(url: str) -> str:
    """A server's address without its password, for output."""
    return PASSWORD_IN_QUERY.sub(r"\1***", PASSWORD_IN_USERINFO.sub(r"\1***@", url))


def _words(field: Any) -> str:
    if field is None:
        return "-"
    if isinstance(field, bool):
        return "yes" if field else "no"
    return str(field)


def _padded(cell: str, width: int) -> str:
    """A cell padded to its column's width on a terminal."""
    return cell + " " * (width - _width(cell))


def _width(cell: str) -> int:
    return len(cell) if cell.isascii() else cell_len(cell)


def _plain(text: str) -> str:
    """Text in which Rich's markup is escaped."""
    return text.replace("[", r"\[")
