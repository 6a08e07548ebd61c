"""The settings of a command: by its flags, the environment and the file, and by the `up` that runs."""

import json
import sys
from pathlib import Path

import typer

from reservasi import settings
from reservasi.cli import running
from reservasi.cli.output import EXIT_USAGE, fail, hint, write_lines_as_json
from reservasi.errors import ConfigurationError

WHERE = ("data_dir", "redis_url", "postgres_dsn", "secrets_file")  # settings that say which service is meant
HANDED_FILE = "settings.json"  # in the data directory: the settings under which `up` runs


def read_settings(flags: dict[str, object], *, of_service: bool = False) -> settings.Settings:
    """The settings of a command under these flags.

    Where neither flags, environment nor file say which service is meant, it is the one that `up` runs; `of_service`
    says that a service asks, which never takes over the data of another one. Raises a usage error when the settings
    cannot be used, or several services run.
    """
    try:
        loaded = settings.load(**flags)
        write_lines_as_json(wanted=loaded.log_format == "json")
        if not of_service and not loaded.model_fields_set & set(WHERE):
            loaded = _of_running(loaded, flags)
    except ConfigurationError as error:
        fail(str(error), as_json="--json" in sys.argv)
        raise typer.Exit(EXIT_USAGE) from error
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
