"""What a command that needs the settings begins with: the settings, logging after them, and the event loop."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import typer

from reservasi import logs, settings
from reservasi.cli import running
from reservasi.cli.output import EXIT_USAGE, fail, hint, write_lines_as_json
from reservasi.errors import ConfigurationError

T = TypeVar("T")
WHERE = ("data_dir", "redis_url", "postgres_dsn", "secrets_file")  # settings that say which service is meant
HANDED_FILE = "settings.json"  # in the data directory: the settings under which `up` runs


def configured(**flags: object) -> settings.Settings:
    """The settings of a command under these flags, with logging set up after them.

    Where neither flags, environment nor file say which service is meant, it is the one that `up` runs. Raises a usage
    error when the settings cannot be used, or several services run.
    """
    return _set_up(flags, of_service=False)


def configured_service(**flags: object) -> settings.Settings:
    """The same for a service, which never takes over the data of another one."""
    return _set_up(flags, of_service=True)


def _set_up(flags: dict[str, object], *, of_service: bool) -> settings.Settings:
    try:
        loaded = settings.load(**flags)
        write_lines_as_json(wanted=loaded.log_format == "json")
        if not of_service and not loaded.model_fields_set & set(WHERE):
            loaded = _of_running(loaded, flags)
    except ConfigurationError as error:
        fail(str(error), as_json="--json" in sys.argv)
        raise typer.Exit(EXIT_USAGE) from error
    logs.configure(loaded.log_level, loaded.log_format)
    return loaded


def _of_running(loaded: settings.Settings, flags: dict[str, object]) -> settings.Settings:
    """The settings with the stores and the key ring of the one `up` that runs; as they are where none does.

    Raises:
        ConfigurationError: several run.
    """
    services = running.found()
    if not services:
        return loaded
    if len(services) > 1:
        choices = "\n".join(f"  --data-dir {each.data_dir}  ({each.api}, process {each.pid})" for each in services)
        raise ConfigurationError(f"several services run, so name the one that is meant:\n{choices}")
    data_dir = Path(services[0].data_dir)
    try:
        handed = json.loads((data_dir / HANDED_FILE).read_text())
    except (OSError, ValueError):  # it starts, or ends
        handed = {}
    known = {name: handed[name] for name in ("redis_url", "postgres_dsn", "secrets_file") if handed.get(name)}
    if data_dir != loaded.data_dir:
        hint(f"data directory {data_dir}, of the service that runs (--data-dir names another)")
    return settings.load(**{**flags, **known, "data_dir": data_dir})


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine."""
    return asyncio.run(coroutine)
