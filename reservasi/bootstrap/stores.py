"""Where the two stores are, and opening them with the deployment's key ring; what cannot be used is said clearly."""

import asyncio
from urllib.parse import parse_qs

import structlog

from reservasi.embedded import embedded_postgres_dsn, embedded_redis_url
from reservasi.errors import ConfigurationError, LedgerUnreachable, RecordsUnavailable
from reservasi.ledger.connection import LOST
from reservasi.ledger.server import name_without_waitaof
from reservasi.ledger.servers import Servers
from reservasi.records import Records
from reservasi.records.roles import RUNTIME_ROLES
from reservasi.sealing import Sealing, load_key_ring
from reservasi.settings import Settings

log = structlog.get_logger()

IDENTITY = "key-ring"  # under which the records keep the mark of the deployment's key ring
VERSION_TIMEOUT_S = 5.0  # for all servers of the ledger together
TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")  # options of addresses
RECORDS_RETRY_S = 0.25  # between two tries to reach PostgreSQL at start


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


def open_servers(settings: Settings) -> Servers:
    """The ledger's servers, not asked yet.

    Raises:
        ConfigurationError: their address cannot be used.
    """
    _refuse_missing_files("redis_url", redis_url(settings))
    try:
        return Servers(redis_url(settings), replicas_min_ack=settings.replicas_min_ack)
    except ValueError as error:
        raise ConfigurationError(f"redis_url cannot be used: {error}") from error


async def refuse_unacknowledged(settings: Settings, servers: Servers) -> None:
    """Refuse to serve where `aof_ack` asks for what a server can never answer: each claim would wait for its record.

    A server that does not answer now may still be the right one.

    Raises:
        ConfigurationError: it does not know WAITAOF.
    """
    if settings.aof_ack == "off":
        return
    try:
        async with asyncio.timeout(VERSION_TIMEOUT_S):
            names = [await name_without_waitaof(each.client) for each in await servers.primaries()]
    except (LedgerUnreachable, *LOST):
        return
    if old := sorted({name for name in names if name}):
        raise ConfigurationError(
            f"aof_ack = {settings.aof_ack} needs WAITAOF, which {' and '.join(old)} does not have: run Redis 7.2 or "
            "newer, or any Valkey, or set aof_ack = off"
        )


async def open_records(settings: Settings, wait_s: float) -> Records:
    """Records, waiting for a PostgreSQL that is still starting."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    told = False
    _refuse_missing_files("postgres_dsn", postgres_dsn(settings))
    while True:
        try:
            return await Records.open(postgres_dsn(settings), settings.postgres_pool_max)
        except ValueError as error:  # asyncpg's word for a DSN that it cannot read
            raise ConfigurationError(f"postgres_dsn cannot be used: {error}") from error
        except RecordsUnavailable as error:
            if loop.time() >= deadline:
                raise _nobody_home(settings, error) from error
            if not told:
                log.warning("waiting_for_records", reason=str(error), at_most_s=wait_s)
                told = True
        await asyncio.sleep(RECORDS_RETRY_S)


def _refuse_missing_files(setting: str, url: str) -> None:
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


def _nobody_home(settings: Settings, error: RecordsUnavailable) -> RecordsUnavailable:
    """Say what to do, where it is the embedded server that is not there."""
    embedded = {embedded_postgres_dsn(settings.data_dir, role=role) for role in RUNTIME_ROLES.values()}
    if settings.postgres_dsn and settings.postgres_dsn not in embedded:
        return error
    where = f"no service runs in {settings.data_dir}: start `reservasi up`, or name another --data-dir"
    return RecordsUnavailable(f"{where} ({error})")


async def open_sealing(settings: Settings, records: Records) -> Sealing:
    """The deployment's key ring: made where there is none yet, and never another one afterwards.

    Raises:
        ConfigurationError: this host has no key ring, or another one than the records are bound to.
    """
    path = settings.secrets_path
    bound = await records.bound(IDENTITY)
    if bound is not None and not path.exists():
        raise ConfigurationError(
            f"the key ring {path} is missing, and people are recognised by it: restore it, copy it from the host that "
            "has it, or name its place with secrets_file"
        )
    sealing = Sealing(load_key_ring(path, create=bound is None and settings.secrets_file is None))
    if await records.bind(IDENTITY, sealing.identity_mark) != sealing.identity_mark:
        raise ConfigurationError(
            f"the key ring {path} is not the one that this deployment began with: under it a person could claim twice"
        )
    sealing.follow(path)
    return sealing
