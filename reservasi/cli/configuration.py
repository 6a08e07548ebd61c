"""The settings of a command: from its flags, the environment and the file, or from the running `up`."""

import json
import os
import sys
from pathlib import Path

import typer

from reservasi import settings
from reservasi.cli import running
from reservasi.cli.output import EXIT_USAGE, fail, hint, write_lines_as_json
from reservasi.errors import ConfigurationError

WHERE = ("data_dir", "redis_url", "postgres_dsn", "secrets_file")  # settings that identify a service
HANDED_FILE = "settings.json"  # in the data directory: the settings of a running `up`


def read_settings(flags: dict[str, object], *, of_service: bool = False) -> settings.Settings:
    """The settings of a command with these flags.

    If neither flags, environment nor file identify a service, the running `up` is used; not with `of_service`, since a
    service never uses the data of another one. Raises a usage error if the settings cannot be used, or several services
    run.
    """
    try:
        loaded = settings.load(**flags)
        write_lines_as_json(wanted=loaded.log_format == "json")
        for variable, meant in settings.misspelt(os.environ).items():
            hint(f"the environment variable {variable} is no setting and is ignored; did you mean {meant}?")
        if not of_service and not loaded.model_fields_set & set(WHERE):
            loaded = _of_running(loaded, flags)
    except ConfigurationError as error:
        fail(str(error), as_json="--json" in sys.argv)
        raise typer.Exit(EXIT_USAGE) from error
    return loaded


def _of_running(loaded: settings.Settings, flags: dict[str, object]) -> settings.Settings:
    """The settings with the stores and the key ring of the one running `up`; unchanged if none runs.

    Raises:
        ConfigurationError: several run.
    """
    services = running.services()
    if not services:
        return loaded
    if len(services) > 1:
        choices = "\n".join(f"  --data-dir {each.data_dir}  ({each.api}, process {each.pid})" for each in services)
        raise ConfigurationError(f"several services run; choose one:\n{choices}")
    data_dir = Path(services[0].data_dir)
    try:
        handed = json.loads((data_dir / HANDED_FILE).read_text())
    except (OSError, ValueError):  # it is starting or ending
        handed = {}
    stores = {name: handed[name] for name in ("redis_url", "postgres_dsn", "secrets_file") if handed.get(name)}
    if data_dir != loaded.data_dir:
        hint(f"data directory {data_dir}, of the running service (choose another with --data-dir)")
    return settings.load(**{**flags, **stores, "data_dir": data_dir})
