"""Where the two stores are: as configured, else the embedded servers."""

from urllib.parse import parse_qs

from reservasi.embedded.places import embedded_postgres_dsn
from reservasi.embedded.users import embedded_redis_url
from reservasi.errors import ConfigurationError
from reservasi.records.roles import RUNTIME_ROLES
from reservasi.settings import Settings

TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")  # options of addresses


def redis_url(settings: Settings) -> str:
    """The configured Redis or Valkey, else the embedded one."""
    return settings.redis_url or embedded_redis_url(settings.data_dir)


def postgres_dsn(settings: Settings) -> str:
    """The configured PostgreSQL, else the embedded one."""
    return settings.postgres_dsn or embedded_postgres_dsn(settings.data_dir)


def with_rights_of(user: str, settings: Settings) -> Settings:
    """The settings of a process that may do in the embedded servers what that user may, and no more.

    Raises:
        ConfigurationError: the embedded Valkey's passwords belong to another account.
    """
    urls = {
        "redis_url": settings.redis_url or embedded_redis_url(settings.data_dir, user),
        "postgres_dsn": settings.postgres_dsn or embedded_postgres_dsn(settings.data_dir, role=RUNTIME_ROLES[user]),
    }
    return settings.model_copy(update=urls)


def refuse_missing_files(setting: str, url: str) -> None:
    """Name a file of an address's TLS options that cannot be read: the clients say only that there is none.

    Raises:
        ConfigurationError: one cannot be.
    """
    options = parse_qs(url.partition("?")[2])
    for name in TLS_FILES:
        for path in options.get(name, []):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                message = f"{setting} cannot be used: its {name} {path} cannot be read: {error.strerror}"
                raise ConfigurationError(message) from error
