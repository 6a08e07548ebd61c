"""A progress bar for work that may take longer than a second."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from reservasi.cli.output import err


@contextmanager
def progress(what: str, total: int, *, quiet: bool) -> Iterator[Any]:
    """Show a bar on standard error; yields `advance(count, total)`."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=quiet) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count=1, total=total: bar.update(task, advance=count, total=total)
