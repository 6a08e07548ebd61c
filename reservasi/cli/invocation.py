"""What a command that needs the settings begins with: the settings, logging after them, and the event loop."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

from reservasi import logs, settings
from reservasi.cli.output import EXIT_USAGE, fail
from reservasi.errors import ConfigurationError

T = TypeVar("T")


def configured(**flags: object) -> settings.Settings:
    """The settings under these flags, with logging set up after them; a usage error when they cannot be used."""
    try:
        loaded = settings.load(**flags)
    except ConfigurationError as error:
        fail(str(error), as_json="--json" in sys.argv)
        raise typer.Exit(EXIT_USAGE) from error
    logs.configure(loaded.log_level, loaded.log_format)
    return loaded


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine."""
    return asyncio.run(coroutine)
