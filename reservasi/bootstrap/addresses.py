"""The addresses of the two stores: configured, or those of the embedded servers."""

from urllib.parse import parse_qs

from reservasi.embedded.places import embedded_postgres_dsn
from reservasi.embedded.users import embedded_redis_url
from reservasi.errors import ConfigurationError
from reservasi.records.roles import RUNTIME_ROLES
from reservasi.settings import Settings

# options of addresses that name files
TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def redis_url(settings: Settings) -> str:
    """The configured Redis or Valkey, else the embedded one."""
    return settings.redis_url or embedded_redis_url(settings.data_dir)


def postgres_dsn(settings: Settings) -> str:
    """The configured PostgreSQL, else the embedded one."""
    return settings.postgres_dsn or embedded_postgres_dsn(settings.data_dir)


def with_rights_of(user: str, settings: Settings) -> Settings:
    """The settings of a process that uses the embedded servers with the rights of a user.

    Raises:
        ConfigurationError: the embedded Valkey's passwords belong to another account.
    """
    urls = {
        "redis_url": settings.redis_url or embedded_redis_url(settings.data_dir, user),
        "postgres_dsn": settings.postgres_dsn or embedded_postgres_dsn(settings.data_dir, role=RUNTIME_ROLES[user]),
    }
    return settings.model_copy(update=urls)


def refuse_missing_files(setting: str, url: str) -> None:
    """Report a file of an address's TLS options that cannot be read, since the clients do not name it.

    Raises:
        ConfigurationError: one cannot be read.
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
