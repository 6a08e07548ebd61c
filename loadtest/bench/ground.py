"""What all variants stand on: a Valkey, a PostgreSQL and a program of the benchmark's own, and whose core is whose."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import redis.asyncio as redis_asyncio

from loadtest.stage import environment
from loadtest.stage.cores import Cores
from loadtest.stage.program import WINDOWS_AN_OFFICE, program_file
from loadtest.stage.shims import Shim, built
from loadtest.stage.stores import data_directory
from reservasi.bootstrap.commands import Operations, open_operations
from reservasi.cli.importing import import_program
from reservasi.embedded import EmbeddedPostgres, EmbeddedValkey, process
from reservasi.ledger.topology.server_facts import read_facts
from reservasi.programs.expansion import expand
from reservasi.programs.files import read_program
from reservasi.records.upgrades import upgrade
from reservasi.settings import Settings, load

PROGRAM = "bench"
QUOTAS = 50  # in which all variants claim
READ_QUOTAS = WINDOWS_AN_OFFICE  # of one more office, which is only read
CAPACITY = 50_000  # places in each quota: more than any run can claim
HOLD_S = 7200
DAYS_AHEAD = 30  # the slots lie so far ahead that no rule ends their quotas during a run


@dataclass(frozen=True)
class Ground:
    settings: Settings  # of our own service; has the addresses of the stores
    redis_url: str
    postgres_dsn: str
    cores: Cores
    quotas: tuple[str, ...]  # ids that the claims name
    read_quotas: tuple[str, ...]  # ids of those that are only read, all of one office
    store_pids: dict[str, int]  # the stores by what they are
    answer_bytes: int = 0  # size of our own answer to a claim; 0 while our own variant starts

    @property
    def read_office(self) -> str:
        return self.read_quotas[0].split(".")[1]


@asynccontextmanager
async def prepared(cores: Cores, *, processes: int = 1, fsync_ms: int = 0) -> AsyncIterator[Ground]:
    """The ground under a run, gone with all its data when the block ends; each fsync takes so much longer."""
    async with AsyncExitStack() as stack:
        data_dir = stack.enter_context(data_directory())
        settings = load(data_dir=data_dir, processes=processes, redis_url="", postgres_dsn="", log_level="warning")
        valkey = EmbeddedValkey(data_dir, settings.start_timeout_s, run_as=settings.run_as)
        postgres = EmbeddedPostgres(data_dir, settings.start_timeout_s, settings.run_as)
        shims = stack.enter_context(built((Shim.SLOW_DISK,) if fsync_ms else (), fsync_ms=fsync_ms))
        with patch.dict(process.ENVIRONMENT, shims.environment):
            for store in (valkey, postgres):
                stack.push_async_callback(store.stop)
                await store.start()
        await upgrade(postgres.dsn)
        async with open_operations(settings) as operations:
            quotas = await import_quotas(operations, data_dir, PROGRAM, QUOTAS + READ_QUOTAS, CAPACITY)
        pids = {name: store.pid for name, store in (("valkey", valkey), ("postgres", postgres)) if store.pid}
        for pid in pids.values():
            shims.check_under(pid)
        stack.enter_context(shims.disk_slow())
        everywhere = cores.front | cores.rest  # several fronts on one core would only take turns
        yield Ground(
            settings=settings,
            redis_url=valkey.url,
            postgres_dsn=postgres.dsn,
            cores=cores if processes == 1 else Cores(everywhere, everywhere),
            quotas=quotas[:QUOTAS],
            read_quotas=quotas[QUOTAS:],
            store_pids=pids,
        )


async def import_quotas(
    operations: Operations, directory: Path, program: str, quotas: int, capacity: int
) -> tuple[str, ...]:
    """Import a program with this many quotas; their ids, office by office."""
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=DAYS_AHEAD)
    file = directory / f"{program}.toml"
    file.write_text(program_file(quotas, capacity, day, HOLD_S, program))
    terms = read_program(file)
    await import_program(operations, terms, day, day, open_now=True, quiet=True)
    return tuple(sorted(command.quota for command in expand(terms, day, day, open_now=True)))


async def describe(ground: Ground) -> dict[str, Any]:
    """What a reader needs to compare two runs, with what the ledger's server says of itself."""
    async with redis_asyncio.Redis.from_url(ground.redis_url) as client:
        store = await read_facts(client)
    return {
        **environment.describe(ground.settings.data_dir),
        "store": store.version,
        "synced_always": store.fsync == "always",
        "front_on": sorted(ground.cores.front),
        "rest_on": sorted(ground.cores.rest),
    }
