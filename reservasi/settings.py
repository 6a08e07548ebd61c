"""Every setting, with its unit and limits. Flags > `RESERVASI_*` environment > `config/reservasi.toml` > defaults."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib.resources.abc import Traversable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_serializer, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from reservasi.errors import ConfigurationError
from reservasi.text_files import NotUtf8, decode_text

CONFIG_FILE = Path("config/reservasi.toml")
LIST_OF_SETTINGS = "docs/reference/settings.md"
PROCESSES_MAX = 64
MISSPELT_MIN = 0.7  # how alike two names are, from 0 to 1, of which one was probably meant as the other
Port = Annotated[int, Field(ge=0, le=65535)]
PerSecond = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Burst = Annotated[int, Field(ge=1, le=1_000_000)]
Proxies = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode]
PROGRAM_PATTERN = re.compile(r"[a-z0-9*?\[\]!-]{1,64}")  # the characters of ids and patterns
Origins = Annotated[tuple[str, ...], NoDecode, Field(max_length=100)]
# The form that browsers send (RFC 6454, section 6.1): lower case, without a path or a default port.
ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::([1-9][0-9]{0,4}))?")
USUAL_PORTS = {"http": "80", "https": "443"}
ProgramPatterns = Annotated[tuple[str, ...], NoDecode, Field(max_length=1000)]
LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def default_data_dir() -> Path:
    """The data directory if none is configured.

    As root a path that an unprivileged PostgreSQL can access, since `/root` is closed to it; else the user's own.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/reservasi")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "reservasi"


class _TomlFile(TomlConfigSettingsSource):
    """The file, also with the byte order mark of Windows editors."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        return tomllib.loads(decode_text(file_path.read_bytes()))


class Settings(BaseSettings):
    """The service's settings; tests compare the documents with this class."""

    model_config = SettingsConfigDict(env_prefix="RESERVASI_", extra="forbid", frozen=True)

    data_dir: Path = Field(default_factory=default_data_dir, description="where the embedded servers keep their data")
    host: str = Field("127.0.0.1", description="address the front listens on")
    port: Port = Field(8080, description="port of the public API")
    admin_host: str = Field("127.0.0.1", description="address of the admin port")
    admin_port: Port = Field(9090, description="port of `/livez`, `/readyz` and `/metrics` of the fronts")
    worker_admin_port: Port = Field(
        9091,
        description="port of the same for the worker; `up` takes another one if this is in use and was not configured",
    )
    processes: int = Field(0, ge=0, le=PROCESSES_MAX, description="front processes; 0: one for each core it may use")

    programs: ProgramPatterns = Field(
        default_factory=tuple,
        description="programs that a worker serves: ids or patterns, separated by commas, such as "
        "`surabaya,batam-*`; empty: all",
    )

    redis_url: str = Field(
        "",
        description="an existing Redis or Valkey; its sentinels: `sentinel://host:26379,host:26379/<name of the "
        "primary>`; servers of a cluster: `cluster://host:6379,host:6379`; empty: the embedded one under `data_dir`",
    )
    replicas_min_ack: int = Field(
        0, ge=0, le=20, description="replicas that must acknowledge an accepted change before it is promised; 0: none"
    )
    replicas_ack_timeout_ms: int = Field(
        500, ge=100, le=10_000, description="how long replicas or append-only files may take to acknowledge"
    )
    aof_ack: Literal["off", "local", "replicas"] = Field(
        "off",
        description="whose append-only file must have an accepted change synced before it is promised: nobody's, the "
        "primary's, or those of `replicas_min_ack` replicas as well (`WAITAOF`, Redis 7.2 or any Valkey)",
    )
    postgres_dsn: str = Field("", description="an existing PostgreSQL; empty: the embedded one under `data_dir`")
    postgres_pool_max: int = Field(4, ge=1, le=100, description="maximum connections of a process to PostgreSQL")
    run_as: str = Field(
        "", description="account of the embedded servers when started as root; empty: postgres, else nobody"
    )
    secrets_file: Path | None = Field(
        None, description="key ring file; empty: `data_dir/secrets.json`, created at first use"
    )

    batch_items_max: int = Field(256, ge=1, le=1000, description="maximum commands in one ledger call")
    queue_items_max: int = Field(
        5000,
        ge=1,
        le=100_000,
        description="maximum queued claims and joins per program and front; other commands have a second queue of "
        "the same size",
    )
    queue_delay_target_ms: int = Field(
        100, ge=1, le=5000, description="delay of claims before their batch above which fewer are accepted at once"
    )
    command_timeout_ms: int = Field(3000, ge=50, le=60_000, description="deadline of a ledger command")
    confirm_wait_ms: int = Field(
        2000, ge=0, le=60_000, description="how long a confirmation waits to be recorded before the answer 202"
    )
    sweep_interval_ms: int = Field(250, ge=10, le=60_000, description="pause between two sweeps of a program")
    sweep_items_max: int = Field(
        500, ge=1, le=5000, description="maximum holds expired and places returned in one sweep"
    )
    retire_quotas_after_h: int = Field(
        24,
        ge=0,
        le=8760,
        description="time after the end of its window at which a quota leaves ledger and views; the records keep it",
    )
    retire_openings_after_days: int = Field(
        400,
        ge=1,
        le=3650,
        description="time after its end at which an opening and its queue leave ledger and views; the records keep it",
    )
    rebuild_automatically: bool = Field(
        True,
        description="whether the worker rebuilds a ledger that is behind the records, or differs from them when it "
        "is owned again; no: run `reservasi rebuild`",
    )
    reconcile_interval_s: int = Field(
        300,
        ge=0,
        le=86_400,
        description="interval at which the worker compares ledger and records; it also compares after each new "
        "ownership; 0: only then",
    )
    tombstone_ms: int = Field(
        86_400_000, ge=1000, description="how long an ended reservation is kept for repeated requests"
    )
    record_events_max: int = Field(
        4000, ge=1, le=50_000, description="maximum events written in one PostgreSQL transaction"
    )
    follow_block_ms: int = Field(
        50, ge=1, le=5000, description="how long one read of the recorder waits for a journal entry"
    )
    view_stale_ms: int = Field(
        75,
        ge=1,
        le=10_000,
        description="maximum age of a view that answers `sold-out`; answers about a freed place are delayed by this "
        "time, so that every front's view contains it",
    )
    catalogue_refresh_ms: int = Field(2000, ge=100, le=600_000, description="interval at which the programs are read")

    body_bytes_max: int = Field(16_384, ge=1024, le=1_048_576, description="maximum size of a request body")
    body_timeout_ms: int = Field(5000, ge=100, le=60_000, description="how long a request body may take to arrive")
    head_timeout_ms: int = Field(5000, ge=100, le=60_000, description="how long a request's head may take to arrive")
    connections_max: int = Field(20_000, ge=16, le=500_000, description="maximum open connections of one front")
    keepalive_s: int = Field(15, ge=1, le=300, description="how long an idle connection is kept open")
    backlog: int = Field(4096, ge=128, le=65_535, description="maximum connections waiting to be accepted")
    shutdown_timeout_s: int = Field(
        20, ge=1, le=300, description="how long requests in progress may take to finish after SIGTERM"
    )
    start_timeout_s: int = Field(60, ge=1, le=600, description="how long an embedded server may take to start")

    rate_person_per_s: PerSecond = Field(1.0, description="sustained claims of one person per second; 0: no limit")
    rate_person_burst: Burst = Field(60, description="burst of claims of one person")
    rate_api_key_per_s: PerSecond = Field(
        200.0, description="sustained calls with one staff API key per second; 0: no limit"
    )
    rate_api_key_burst: Burst = Field(1000, description="burst of calls with one staff API key")
    rate_network_per_s: PerSecond = Field(
        500.0,
        description="sustained requests of one network per second; 0: no limit. High, since carriers put thousands "
        "of people behind one address",
    )
    rate_network_burst: Burst = Field(2000, description="burst of requests of one network")
    rate_keys_max: int = Field(
        100_000,
        ge=100,
        le=10_000_000,
        description="maximum people, API keys and networks (each) whose limits are remembered",
    )
    network_prefix_v4: int = Field(24, ge=8, le=32, description="prefix length of a network in IPv4")
    network_prefix_v6: int = Field(56, ge=16, le=128, description="prefix length of a network in IPv6")
    trusted_proxies: Proxies = Field(
        default_factory=lambda: LOOPBACK,
        description="networks of proxies whose `X-Forwarded-For` is trusted, separated by commas",
    )
    cors_origins: Origins = Field(
        (),
        description="origins of booking frontends whose pages may call the API, separated by commas, such as "
        "`https://antrean.example.id`; empty: only pages of the same origin may",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: Literal["console", "json"] = Field("console", description="for people, or one JSON object per line")

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        return [ip_network(part.strip()) if isinstance(part, str) else part for part in parts if str(part).strip()]

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        origins = tuple(part.strip() if isinstance(part, str) else part for part in parts if str(part).strip())
        for origin in origins:
            match = ORIGIN.fullmatch(origin) if isinstance(origin, str) else None
            if match is None or match[1] == USUAL_PORTS[origin.partition(":")[0]]:
                raise ValueError(
                    f"{origin!r} is not an origin in the form that browsers send, such as https://antrean.example.id"
                )
        return origins

    @field_validator("programs", mode="before")
    @classmethod
    def _patterns(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        patterns = [part.strip() if isinstance(part, str) else part for part in parts if str(part).strip()]
        for pattern in patterns:  # a pattern that matches no program would silently leave programs unserved
            if not isinstance(pattern, str) or not PROGRAM_PATTERN.fullmatch(pattern):
                raise ValueError(f"{pattern!r} is neither a program's id nor a pattern of ids")
        return patterns

    @model_validator(mode="after")
    def _acks_fit(self) -> "Settings":
        if self.aof_ack == "replicas" and not self.replicas_min_ack:
            raise ValueError("aof_ack = replicas needs replicas_min_ack: how many of them")
        if (self.replicas_min_ack or self.aof_ack != "off") and self.replicas_ack_timeout_ms >= self.command_timeout_ms:
            raise ValueError("replicas_ack_timeout_ms must be below command_timeout_ms, or answers come too late")
        return self

    @model_validator(mode="after")
    def _settles_in_time(self) -> "Settings":
        if self.view_stale_ms >= self.command_timeout_ms:
            raise ValueError(
                "view_stale_ms must be below command_timeout_ms, or answers about freed places come too late"
            )
        return self

    @field_serializer("trusted_proxies", when_used="json")
    def _join(self, value: tuple[IPv4Network | IPv6Network, ...]) -> str:  # as the environment variable has it
        return ",".join(map(str, value))

    @field_serializer("cors_origins", when_used="json")
    def _join_origins(self, value: tuple[str, ...]) -> str:
        return ",".join(value)

    @field_serializer("programs", when_used="json")
    def _join_patterns(self, value: tuple[str, ...]) -> str:
        return ",".join(value)

    def serves(self, program: str) -> bool:
        """Whether a worker with these settings serves the program."""
        return not self.programs or any(fnmatchcase(program, pattern) for pattern in self.programs)

    @property
    def front_processes(self) -> int:
        """How many fronts to start: as configured, else one for each usable core, at most 64."""
        return self.processes or min(PROCESSES_MAX, len(os.sched_getaffinity(0)))

    @property
    def secrets_path(self) -> Path:
        return self.secrets_file or self.data_dir / "secrets.json"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file."""
        return init_settings, env_settings, _TomlFile(settings_cls, CONFIG_FILE)


def load(**flags: object) -> Settings:
    """The settings, with command-line flags on top; a flag that is None was not given.

    Raises:
        ConfigurationError: a value is unknown or out of its limits; each is named with what is allowed.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            _said(e["type"], ".".join(map(str, e["loc"])), e["msg"], given) for e in error.errors(include_url=False)
        ]
        raise ConfigurationError(
            "\n".join(["the settings cannot be used:", *(f"  {line}" for line in lines)])
        ) from error
    except NotUtf8 as error:
        raise ConfigurationError(f"{CONFIG_FILE} {error}") from error
    except ValueError as error:  # the TOML file itself cannot be parsed
        raise ConfigurationError(f"{CONFIG_FILE} cannot be read: {error}") from error


def misspelt(variables: Iterable[str]) -> dict[str, str]:
    """Environment variables that are ignored but nearly a setting's, each with the one that was probably meant."""
    prefix = str(Settings.model_config["env_prefix"])
    found = {}
    for variable in sorted(variables):
        name = variable.upper().removeprefix(prefix).lower()
        if variable.upper().startswith(prefix) and name not in Settings.model_fields:
            nearest = get_close_matches(name, Settings.model_fields, n=1, cutoff=MISSPELT_MIN)
            if nearest:
                found[variable] = f"{prefix}{nearest[0].upper()}"
    return found


def _said(kind: str, name: str, message: str, flags: Mapping[str, object]) -> str:
    """One finding about a setting; one that does not exist can only stand in the file, or be a flag's."""
    if kind != "extra_forbidden":
        return f"{name}: {message}"
    place = "" if name in flags else f"{CONFIG_FILE}: "
    nearest = get_close_matches(name, Settings.model_fields, n=1)
    meant = f", did you mean {nearest[0]}?" if nearest else ";"
    return f"{place}there is no setting {name}{meant} {LIST_OF_SETTINGS} lists all settings"
