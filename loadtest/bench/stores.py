"""Prepares what all variants stand on: a Valkey and a PostgreSQL of the benchmark's own, and a program to claim in."""

import datetime as dt
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio as redis_asyncio

from loadtest.bench.ground import CAPACITY, PROGRAM_FILE, SMALL_OFFICE, Ground
from loadtest.stage import environment
from loadtest.stage.cores import Cores
from loadtest.stage.ports import free_port
from reservasi.bootstrap.commands import open_operations
from reservasi.cli.importing import import_program
from reservasi.embedded import EmbeddedPostgres, EmbeddedValkey, Places
from reservasi.errors import ConfigurationError
from reservasi.ledger.topology.server_facts import read_facts
from reservasi.programs import Program
from reservasi.programs.expansion import expand
from reservasi.programs.files import read_program
from reservasi.records.upgrades import upgrade
from reservasi.settings import Settings, load

DAYS_AHEAD = 30  # the slots lie so far ahead that no rule ends their quotas during a run
DAYS_LOOKED_AT = 14


@asynccontextmanager
async def prepared(cores: Cores) -> AsyncIterator[Ground]:
    """The ground under a run, gone with all its data when the block ends."""
    data_dir = _new_data_dir()
    async with AsyncExitStack() as stack:
        stack.callback(_remove, data_dir)
        settings = load(
            data_dir=data_dir,
            port=free_port(),
            admin_port=free_port(),
            worker_admin_port=free_port(),
            processes=1,
            redis_url="",
            postgres_dsn="",
            log_level="warning",
        )
        valkey = EmbeddedValkey(data_dir, settings.start_timeout_s, run_as=settings.run_as)
        postgres = EmbeddedPostgres(data_dir, settings.start_timeout_s, settings.run_as)
        for store in (valkey, postgres):
            stack.push_async_callback(store.stop)
            await store.start()
        await upgrade(postgres.dsn)
        quotas = await _quotas(settings)
        yield Ground(
            settings=settings,
            redis_url=valkey.url,
            postgres_dsn=postgres.dsn,
            cores=cores,
            quotas=tuple(quota for quota in quotas if not _is_small(quota)),
            small_quotas=tuple(filter(_is_small, quotas)),
            capacity=CAPACITY,
            log_dir=data_dir,
            store_pids=_running({"valkey": valkey.pid, "postgres": postgres.pid}),
            answer_bytes=0,
        )


async def describe(ground: Ground) -> dict[str, Any]:
    """What a reader needs to compare two runs, with what the ledger's server says of itself."""
    async with redis_asyncio.Redis.from_url(ground.redis_url) as client:
        store = await read_facts(client)
    return {
        **environment.describe(ground.log_dir),
        "store": store.version,
        "synced_always": store.fsync == "always",
        "front_on": sorted(ground.cores.front),
        "rest_on": sorted(ground.cores.rest),
    }


async def _quotas(settings: Settings) -> tuple[str, ...]:
    """Import the program and name its quotas, all of one working day."""
    file = settings.data_dir / "bench.toml"
    file.write_text(PROGRAM_FILE)
    program = read_program(file)
    day = _working_day(program)
    async with open_operations(settings) as operations:
        await import_program(operations, program, day, day, open_now=True, quiet=True)
    return tuple(command.quota for command in expand(program, day, day, open_now=True))


def _is_small(quota: str) -> bool:
    return SMALL_OFFICE in quota.split(".")


def _working_day(program: Program) -> dt.date:
    first = dt.datetime.now(program.zone).date() + dt.timedelta(days=DAYS_AHEAD)
    for day in (first + dt.timedelta(days=number) for number in range(DAYS_LOOKED_AT)):
        if expand(program, day, day, open_now=True):
            return day
    raise ConfigurationError(f"no working day within {DAYS_LOOKED_AT} days of {first}")


def _running(pids: Mapping[str, int | None]) -> dict[str, int]:
    return {name: pid for name, pid in pids.items() if pid is not None}


def _new_data_dir() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="rv-bench-"))
    directory.chmod(0o711)  # the servers' account must pass
    return directory


def _remove(data_dir: Path) -> None:
    for directory in {data_dir, Places.of(data_dir).run}:
        shutil.rmtree(directory, ignore_errors=True)
