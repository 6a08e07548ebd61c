"""Every setting, with its unit and limits. Flags > `RESERVASI_*` environment > `config/reservasi.toml` > defaults."""

import os
import re
import tomllib
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
PROCESSES_MAX = 64
Port = Annotated[int, Field(ge=0, le=65535)]
PerSecond = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Burst = Annotated[int, Field(ge=1, le=1_000_000)]
Proxies = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode]
PROGRAM_PATTERN = re.compile(r"[a-z0-9*?\[\]!-]{1,64}")  # what ids are made of, and the signs of a pattern
Origins = Annotated[tuple[str, ...], NoDecode, Field(max_length=100)]
# As browsers write it (RFC 6454, section 6.1): in small letters, without a path, and no port that goes without saying.
ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::([1-9][0-9]{0,4}))?")
USUAL_PORTS = {"http": "80", "https": "443"}
ProgramPatterns = Annotated[tuple[str, ...], NoDecode, Field(max_length=1000)]
LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def default_data_dir() -> Path:
    """Where data lies when nobody says otherwise.

    As root a place that an unprivileged PostgreSQL can reach, since `/root` is closed to it; else the user's own.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/reservasi")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "reservasi"


class _TomlFile(TomlConfigSettingsSource):
    """The file, also when it was saved on Windows."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        return tomllib.loads(decode_text(file_path.read_bytes()))


class Settings(BaseSettings):
    """The service's settings; `make docs` writes docs/reference/settings.md from this class."""

    model_config = SettingsConfigDict(env_prefix="RESERVASI_", extra="forbid", frozen=True)

    data_dir: Path = Field(default_factory=default_data_dir, description="where the embedded servers keep their data")
    host: str = Field("127.0.0.1", description="address the front listens on")
    port: Port = Field(8080, description="port of the public API")
    admin_host: str = Field("127.0.0.1", description="address of the admin port")
    admin_port: Port = Field(9090, description="port of `/livez`, `/readyz` and `/metrics` of the fronts")
    worker_admin_port: Port = Field(
        9091, description="the same for the recorder; `up` takes another where nobody chose one and this is taken"
    )
    processes: int = Field(0, ge=0, le=PROCESSES_MAX, description="front processes; 0: one for each core it may use")

    programs: ProgramPatterns = Field(
        default_factory=tuple,
        description="programs that a worker serves, by id or pattern, with commas between, such as "
        "`surabaya,batam-*`; empty: all",
    )

    redis_url: str = Field(
        "",
        description="an existing Redis or Valkey; its sentinels: `sentinel://host:26379,host:26379/<name of the "
        "primary>`; servers of a cluster: `cluster://host:6379,host:6379`; empty: the embedded one under `data_dir`",
    )
    replicas_min_ack: int = Field(
        0, ge=0, le=20, description="replicas that must have an accepted change before it is promised; 0: none"
    )
    replicas_ack_timeout_ms: int = Field(
        500, ge=100, le=10_000, description="how long replicas or append-only files may take for that"
    )
    aof_ack: Literal["off", "local", "replicas"] = Field(
        "off",
        description="whose append-only file must have an accepted change synced before it is promised: nobody's, the "
        "primary's, or those of `replicas_min_ack` replicas as well (`WAITAOF`, Redis 7.2 or any Valkey)",
    )
    postgres_dsn: str = Field("", description="an existing PostgreSQL; empty: the embedded one under `data_dir`")
    postgres_pool_max: int = Field(4, ge=1, le=100, description="connections to PostgreSQL a process opens at most")
    run_as: str = Field("", description="account for PostgreSQL when started as root; empty: postgres, else nobody")
    secrets_file: Path | None = Field(None, description="key ring; empty: `data_dir/secrets.json`, made at first use")

    batch_items_max: int = Field(256, ge=1, le=1000, description="commands in one ledger call")
    queue_items_max: int = Field(
        5000,
        ge=1,
        le=100_000,
        description="claims and joins waiting in one front for one program; and as many of all else, which never finds "
        "its room taken by them",
    )
    queue_delay_target_ms: int = Field(
        100, ge=1, le=5000, description="wait of claims for their batch past which fewer are taken at once"
    )
    command_timeout_ms: int = Field(3000, ge=50, le=60_000, description="a ledger command's deadline")
    confirm_wait_ms: int = Field(
        2000, ge=0, le=60_000, description="how long a confirm waits for its record before 202"
    )
    sweep_interval_ms: int = Field(250, ge=10, le=60_000, description="pause between two sweeps of a program")
    sweep_items_max: int = Field(500, ge=1, le=5000, description="holds expired and places returned in one sweep")
    retire_quotas_after_h: int = Field(
        24,
        ge=0,
        le=8760,
        description="hours after the end of its window at which a quota leaves ledger and views; the records keep it",
    )
    retire_openings_after_days: int = Field(
        400,
        ge=1,
        le=3650,
        description="days after its end at which an opening leaves ledger and views, with its queue; "
        "the records keep it",
    )
    rebuild_automatically: bool = Field(
        True,
        description="whether the worker rebuilds a ledger that lags behind the records, or is found to differ from "
        "them when it is owned anew; no: `reservasi rebuild`",
    )
    reconcile_interval_s: int = Field(
        300,
        ge=0,
        le=86_400,
        description="pause between two comparisons of ledger and records by the worker, which compares after each new "
        "ownership as well; 0: only then",
    )
    tombstone_ms: int = Field(86_400_000, ge=1000, description="how long an ended reservation is remembered")
    record_events_max: int = Field(4000, ge=1, le=50_000, description="events written in one PostgreSQL transaction")
    follow_block_ms: int = Field(50, ge=1, le=5000, description="how long the recorder waits for a journal entry")
    view_stale_ms: int = Field(
        75,
        ge=1,
        le=10_000,
        description="age past which memory no longer answers `sold-out`; "
        "who gets or gives back a last place hears of it so much later",
    )
    catalogue_refresh_ms: int = Field(2000, ge=100, le=600_000, description="pause between two looks at the programs")

    body_bytes_max: int = Field(16_384, ge=1024, le=1_048_576, description="size of a request body")
    body_timeout_ms: int = Field(5000, ge=100, le=60_000, description="how long a request body may take to arrive")
    head_timeout_ms: int = Field(5000, ge=100, le=60_000, description="how long a request's head may take to arrive")
    connections_max: int = Field(20_000, ge=16, le=500_000, description="connections open in one front at most")
    keepalive_s: int = Field(15, ge=1, le=300, description="how long an idle connection stays open")
    backlog: int = Field(4096, ge=128, le=65_535, description="connections waiting to be accepted")
    shutdown_timeout_s: int = Field(20, ge=1, le=300, description="how long requests in flight may finish at SIGTERM")
    start_timeout_s: int = Field(60, ge=1, le=600, description="how long an embedded server may take to come up")

    rate_person_per_s: PerSecond = Field(1.0, description="claims of one person a second in the long run; 0: no limit")
    rate_person_burst: Burst = Field(60, description="claims of one person at once")
    rate_api_key_per_s: PerSecond = Field(200.0, description="calls with one staff API key a second; 0: no limit")
    rate_api_key_burst: Burst = Field(1000, description="calls with one staff API key at once")
    rate_network_per_s: PerSecond = Field(
        500.0,
        description="requests of one network a second; 0: no limit. High: carriers put thousands behind one address",
    )
    rate_network_burst: Burst = Field(2000, description="requests of one network at once")
    rate_keys_max: int = Field(
        100_000, ge=100, le=10_000_000, description="people, API keys and networks each, remembered for their limits"
    )
    network_prefix_v4: int = Field(24, ge=8, le=32, description="bits of an IPv4 address that make a network")
    network_prefix_v6: int = Field(56, ge=16, le=128, description="the same of an IPv6 address")
    trusted_proxies: Proxies = Field(
        default_factory=lambda: LOOPBACK,
        description="networks of proxies, with commas between, whose `X-Forwarded-For` is believed",
    )
    cors_origins: Origins = Field(
        (),
        description="origins of booking frontends, with commas between, whose pages may call the API, such as "
        "`https://antrean.example.id`; empty: only pages of the same origin may",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["console", "json"] = Field("console", description="for people, or one JSON object a line")

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
            found = ORIGIN.fullmatch(origin) if isinstance(origin, str) else None
            if found is None or found[1] == USUAL_PORTS[origin.partition(":")[0]]:
                raise ValueError(f"{origin!r} is no origin as browsers write it, such as https://antrean.example.id")
        return origins

    @field_validator("programs", mode="before")
    @classmethod
    def _patterns(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        patterns = [part.strip() if isinstance(part, str) else part for part in parts if str(part).strip()]
        for pattern in patterns:  # one that fits no program would leave its programs to nobody, in silence
            if not isinstance(pattern, str) or not PROGRAM_PATTERN.fullmatch(pattern):
                raise ValueError(f"{pattern!r} can be no program's id, nor a pattern of ids")
        return patterns

    @model_validator(mode="after")
    def _acks_fit(self) -> "Settings":
        if self.aof_ack == "replicas" and not self.replicas_min_ack:
            raise ValueError("aof_ack = replicas needs replicas_min_ack: how many of them")
        if (self.replicas_min_ack or self.aof_ack != "off") and self.replicas_ack_timeout_ms >= self.command_timeout_ms:
            raise ValueError("replicas_ack_timeout_ms must be below command_timeout_ms, or no answer comes in time")
        return self

    @model_validator(mode="after")
    def _settles_in_time(self) -> "Settings":
        if self.view_stale_ms >= self.command_timeout_ms:
            raise ValueError("view_stale_ms must be below command_timeout_ms, or who gets a place hears of it too late")
        return self

    @field_serializer("trusted_proxies", when_used="json")
    def _join(self, value: tuple[IPv4Network | IPv6Network, ...]) -> str:  # as the environment takes it
        return ",".join(map(str, value))

    @field_serializer("cors_origins", when_used="json")
    def _join_origins(self, value: tuple[str, ...]) -> str:
        return ",".join(value)

    @field_serializer("programs", when_used="json")
    def _join_patterns(self, value: tuple[str, ...]) -> str:
        return ",".join(value)

    def serves(self, program: str) -> bool:
        """Whether a worker under these settings serves the program."""
        return not self.programs or any(fnmatchcase(program, pattern) for pattern in self.programs)

    @property
    def front_processes(self) -> int:
        """How many fronts to start: as many as asked for, else one for each core this process may use, at most 64."""
        return self.processes or min(PROCESSES_MAX, len(os.sched_getaffinity(0)))

    @property
    def secrets_path(self) -> Path:
        """The key ring's file."""
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
        ConfigurationError: a value is unknown or out of its limits, each named with what is allowed.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ConfigurationError(
            "\n".join(["the settings cannot be used:", *(f"  {line}" for line in lines)])
        ) from error
    except NotUtf8 as error:
        raise ConfigurationError(f"{CONFIG_FILE} {error}") from error
    except ValueError as error:  # the TOML file itself cannot be parsed
        raise ConfigurationError(f"{CONFIG_FILE} cannot be read: {error}") from error
