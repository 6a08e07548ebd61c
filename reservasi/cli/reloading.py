"""Settings that are read again while the service runs: at SIGHUP the file counts anew, flags and environment stay.

What a process is built around cannot change under it and waits for a restart (`NEEDS_RESTART`): addresses and ports,
the length of the listening socket's queue, stores, key ring, directory and account, and the time that embedded servers
get to start. Everything else holds for the fronts that a reload starts, and for the worker that `up` starts again; what
watches over them may go on to log at the level and in the format that it began with.

Before anything is replaced, stores and key ring are opened as a new process would do it (`reload_check.py`): where it
could not start, the whole reload is refused, and nothing restarts. What waits for a restart is not looked at: the
log says so.

`up` reads for all of its processes and hands them what it found, in a file of the data directory, so that worker and
fronts run under the same settings, and so that a configuration file that was broken meanwhile does not keep away a
process that is started again after a crash.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from reservasi import logs
from reservasi.cli.configuration import HANDED_FILE
from reservasi.cli.invocation import configured_service
from reservasi.cli.output import write_lines_as_json
from reservasi.embedded import Places
from reservasi.errors import ConfigurationError
from reservasi.logs import get_logger
from reservasi.settings import CONFIG_FILE, Settings, load

HANDED_VARIABLE = "RESERVASI_HANDED_SETTINGS"  # the file in which `up` hands out what it read
NOT_CHECKED = "unchanged until the restart, and not checked now: run `reservasi doctor` under them before it"
NEEDS_RESTART = (
    "data_dir",
    "host",
    "port",
    "admin_host",
    "admin_port",
    "worker_admin_port",
    "backlog",
    "redis_url",
    "replicas_min_ack",
    "replicas_ack_timeout_ms",
    "aof_ack",
    "postgres_dsn",
    "run_as",
    "secrets_file",
    "start_timeout_s",
)
Read = Callable[[], Settings]
Check = Callable[[Settings], None]  # raises ConfigurationError where a process could not start under the settings


class _Handed(Settings):
    """Settings that `up` has read already; neither environment nor file is asked again."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was handed out, and nothing else."""
        return (init_settings,)


def begin(**flags: object) -> tuple[Settings, Read]:
    """The settings of this process, with logging set up after them, and how to read them again.

    Raises:
        ConfigurationError: what `up` handed out cannot be used.
    """
    if handed := os.environ.get(HANDED_VARIABLE):
        read = partial(_read_handed, Path(handed))
        settings = read()
        write_lines_as_json(wanted=settings.log_format == "json")
        logs.configure(settings.log_level, settings.log_format)
        return settings, read
    return configured_service(**flags), partial(load, **flags)


def look_again(read: Read) -> Settings:
    """The settings as they stand now; raises ConfigurationError where they cannot be used."""
    try:
        return read()
    except OSError as error:
        raise ConfigurationError(f"{CONFIG_FILE} cannot be read: {error.strerror}") from error


def read_again(running: Settings, read: Read, check: Check | None = None) -> Settings:
    """The settings as they are to hold from now on, with what needs a restart left as it is, and said.

    Raises:
        ConfigurationError: they cannot be used, or fail the check; the running ones go on.
    """
    found = look_again(read)
    names = [name for name in Settings.model_fields if getattr(found, name) != getattr(running, name)]
    waiting = [name for name in names if name in NEEDS_RESTART]
    settings = found.model_copy(update={name: getattr(running, name) for name in waiting})
    if check is not None:
        check(settings)
    logs.configure(settings.log_level, settings.log_format)
    log = get_logger()  # one that knows the level and the format of a moment ago
    if waiting:
        log.warning("settings_need_restart", settings=waiting, advice=NOT_CHECKED)
    log.info("settings_read_again", changed=[name for name in names if name not in waiting])
    return settings


def unexpected(error: Exception) -> ConfigurationError:
    """The refusal, in one line, that an error becomes which nobody expects at a reload."""
    text = " ".join(str(error).split())
    return ConfigurationError(f"a new process could not start: {type(error).__name__}{f': {text}' if text else ''}")


def refused(error: ConfigurationError) -> None:
    """Say that the settings cannot be used, and that the service goes on under those that it has."""
    get_logger().error("settings_refused", reason=str(error))


def handed_path(settings: Settings) -> Path:
    """Where `up` hands out settings."""
    return Places.of(settings.data_dir).data_dir / HANDED_FILE


def hand_out(settings: Settings) -> None:
    """Write the settings for our processes to read; whole or not at all, and for our account only.

    Raises:
        ConfigurationError: the data directory cannot be written.
    """
    values = settings.model_dump(mode="json")
    values["data_dir"] = str(Places.of(settings.data_dir).data_dir)
    values["secrets_file"] = str(settings.secrets_path.absolute())
    path = handed_path(settings)
    new = path.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(json.dumps(values, indent=1))
        new.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def _read_handed(path: Path) -> Settings:
    try:
        return _Handed(**json.loads(path.read_text()))
    except (OSError, ValidationError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}, handed out by up, cannot be used: {error}") from error
