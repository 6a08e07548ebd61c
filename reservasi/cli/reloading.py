"""Settings that are read again while the service runs: at SIGHUP the file is read, flags and environment stay.

Settings on which a process is built need a restart (`NEEDS_RESTART`): addresses and ports, the backlog of the listening
socket, stores, key ring, directory and account, and the start time limit of embedded servers. All others apply to the
fronts that a reload starts, and to the worker that `up` restarts; the supervising process may keep its log level and
format.

Before anything is replaced, stores and key ring are opened as a new process would do it (`reload_check.py`): if it
could not start, the whole reload is refused. Settings that need a restart are not checked; the log says so.

`up` reads for all of its processes and passes the result on in a file of the data directory, so that worker and fronts
have the same settings, and a configuration file that has become invalid does not prevent the restart of a crashed
process.
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

HANDED_VARIABLE = "RESERVASI_HANDED_SETTINGS"  # the file with the settings that `up` has read
NOT_CHECKED = "unchanged until a restart, and not checked now: run `reservasi doctor` with them first"
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
Check = Callable[[Settings], None]  # raises ConfigurationError if a process could not start with the settings


class _Handed(Settings):
    """Settings that `up` has already read; environment and file are not used."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The settings file of `up`, and nothing else."""
        return (init_settings,)


def begin(**flags: object) -> tuple[Settings, Read]:
    """The settings of this process, with logging configured, and a function to read them again.

    Raises:
        ConfigurationError: the settings file of `up` cannot be used.
    """
    if handed := os.environ.get(HANDED_VARIABLE):
        read = partial(_read_handed, Path(handed))
        settings = read()
        write_lines_as_json(wanted=settings.log_format == "json")
        logs.configure(settings.log_level, settings.log_format)
        return settings, read
    return configured_service(**flags), partial(load, **flags)


def look_again(read: Read) -> Settings:
    """The current settings; raises ConfigurationError if they cannot be used."""
    try:
        return read()
    except OSError as error:
        raise ConfigurationError(f"{CONFIG_FILE} cannot be read: {error.strerror}") from error


def read_again(running: Settings, read: Read, check: Check | None = None) -> Settings:
    """The settings that apply from now on; those that need a restart are unchanged, which is logged.

    Raises:
        ConfigurationError: they cannot be used, or fail the check; the current ones stay.
    """
    current = look_again(read)
    names = [name for name in Settings.model_fields if getattr(current, name) != getattr(running, name)]
    waiting = [name for name in names if name in NEEDS_RESTART]
    settings = current.model_copy(update={name: getattr(running, name) for name in waiting})
    if check is not None:
        check(settings)
    logs.configure(settings.log_level, settings.log_format)
    log = get_logger()  # with the current level and format
    if waiting:
        log.warning("settings_need_restart", settings=waiting, advice=NOT_CHECKED)
    log.info("settings_read_again", changed=[name for name in names if name not in waiting])
    return settings


def unexpected(error: Exception) -> ConfigurationError:
    """The refusal of a reload for an unexpected error, in one line."""
    text = " ".join(str(error).split())
    return ConfigurationError(f"a new process could not start: {type(error).__name__}{f': {text}' if text else ''}")


def refused(error: ConfigurationError) -> None:
    """Log that the settings cannot be used, and that the current ones stay."""
    get_logger().error("settings_refused", reason=str(error))


def handed_path(settings: Settings) -> Path:
    """The settings file that `up` writes."""
    return Places.of(settings.data_dir).data_dir / HANDED_FILE


def hand_out(settings: Settings) -> None:
    """Write the settings for our processes, atomically, readable by our account only.

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
        raise ConfigurationError(f"{path}, written by up, cannot be used: {error}") from error
