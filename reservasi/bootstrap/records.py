"""Opens the records with the deployment's key ring, with clear messages for what cannot be used."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from reservasi.bootstrap.addresses import postgres_dsn, refuse_missing_files
from reservasi.embedded.places import embedded_postgres_dsn
from reservasi.errors import ConfigurationError, RecordsUnavailable
from reservasi.logs import get_logger
from reservasi.programs import Program
from reservasi.records import Records
from reservasi.records.roles import RUNTIME_ROLES
from reservasi.sealing import Sealing, load_key_ring
from reservasi.settings import Settings

log = get_logger()

IDENTITY = "key-ring"  # the name under which the records store the mark of the deployment's key ring
RECORDS_RETRY_S = 0.25  # between two attempts to reach PostgreSQL at the start


class RecordsOperations(msgspec.Struct, frozen=True, kw_only=True):
    """The objects of a command that needs the records only."""

    settings: Settings
    records: Records
    sealing: Sealing

    async def program(self, program: str) -> Program:
        """An imported program.

        Raises:
            ConfigurationError: there is no such program.
        """
        match = next((each for each in await self.records.programs() if each.id == program), None)
        if match is None:
            raise ConfigurationError(
                f"there is no program {program!r}: import one first (reservasi program import FILE)"
            )
        return match


@asynccontextmanager
async def open_records_operations(settings: Settings) -> AsyncIterator[RecordsOperations]:
    """Open the records, for commands that do not need the ledger.

    Raises:
        RecordsUnavailable: PostgreSQL does not answer.
    """
    records = await open_records(settings, 0)
    try:
        yield RecordsOperations(settings=settings, records=records, sealing=await open_sealing(settings, records))
    finally:
        await records.close()


async def open_records(settings: Settings, wait_s: float) -> Records:
    """Open the records, waiting up to `wait_s` for a PostgreSQL that is starting."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    is_logged = False
    refuse_missing_files("postgres_dsn", postgres_dsn(settings))
    while True:
        try:
            return await Records.open(postgres_dsn(settings), settings.postgres_pool_max)
        except ValueError as error:  # raised by asyncpg for a DSN that it cannot parse
            raise ConfigurationError(f"postgres_dsn cannot be used: {error}") from error
        except RecordsUnavailable as error:
            if loop.time() >= deadline:
                raise _nobody_home(settings, error) from error
            if not is_logged:
                log.warning("waiting_for_records", reason=str(error), at_most_s=wait_s)
                is_logged = True
        await asyncio.sleep(RECORDS_RETRY_S)


def _nobody_home(settings: Settings, error: RecordsUnavailable) -> RecordsUnavailable:
    """Add what to do, if the embedded server is not running."""
    embedded = {embedded_postgres_dsn(settings.data_dir, role=role) for role in RUNTIME_ROLES.values()}
    if settings.postgres_dsn and settings.postgres_dsn not in embedded:
        return error
    if isinstance(error.__cause__, TimeoutError):  # something listens there
        return error
    where = f"no service runs in {settings.data_dir}: start `reservasi up`, or choose another --data-dir"
    return RecordsUnavailable(f"{where} ({error})")


async def open_sealing(settings: Settings, records: Records) -> Sealing:
    """The deployment's key ring: created if the deployment is new, and the same one afterwards.

    Raises:
        ConfigurationError: this host has no key ring, or another one than the records are bound to.
    """
    path = settings.secrets_path
    bound = await records.bound(IDENTITY)
    if bound is not None and not path.exists():
        raise ConfigurationError(
            f"the key ring {path} is missing, and people are recognised by it: restore it, copy it from the host that "
            "has it, or set secrets_file to its path"
        )
    sealing = Sealing(load_key_ring(path, create=bound is None and settings.secrets_file is None))
    if await records.bind(IDENTITY, sealing.identity_mark) != sealing.identity_mark:
        raise ConfigurationError(
            f"the key ring {path} is not the one of this deployment: with it, a person could claim twice"
        )
    sealing.follow(path)
    return sealing
