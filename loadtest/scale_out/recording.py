"""What recording costs: the worker, PostgreSQL and the ledger's primary, for holds and confirmations of a cluster."""

import asyncio
import datetime as dt
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import asyncpg
import msgspec

from loadtest.bench.experiments.recorder import WatchedJournal
from loadtest.scale_out.cluster import LocalCluster
from loadtest.scale_out.measuring import Asked, Case, Sizes, carry_out, clear, opened
from loadtest.scale_out.offices import WrongResult, new_names
from loadtest.scale_out.processor import family_cpu_s
from loadtest.stage.program import program_file
from reservasi.embedded import EmbeddedPostgres, Places
from reservasi.ledger.topology.servers import Servers
from reservasi.programs import Program
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.records.upgrades import upgrade
from reservasi.settings import load
from reservasi.worker.recorder import Recorder

NAME = "recording"
TITLE = "Recording six programs of one primary: processor time and bytes a hold, a confirmation, a booking"
START_TIMEOUT_S = 60.0
CASE = Case(name="recorded")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
HOLD, LATER, AT_ONCE = "a hold", "its confirmation, later", "a hold and its confirmation, together"
WRITTEN = """
SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8 AS log, sum(pg_total_relation_size(oid))::float8 AS rows
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What one measurement showed, for each of what was recorded."""

    done: int
    recorder_us: float
    postgres_us: float  # all its processes
    valkey_us: float  # of the primary, for being read
    log_bytes: float  # of write-ahead log
    row_bytes: float  # by which tables and indexes grew


@dataclass(frozen=True, kw_only=True)
class RecordingResult:
    """What the rounds showed, by what was recorded."""

    rounds: tuple[dict[str, Recorded], ...]

    def median(self, way: str, figure: str) -> float:
        """The middle one of a figure's values."""
        return float(statistics.median(getattr(found[way], figure) for found in self.rounds))


class Database:
    """A PostgreSQL of its own with the records in it."""

    def __init__(self, server: EmbeddedPostgres, records: Records, asking: Connection, model: Program) -> None:
        self._server = server
        self._asking = asking
        self._model = model
        self.records = records

    def cpu_s(self) -> float:
        """Processor time of all its processes."""
        assert self._server.pid is not None
        return family_cpu_s(self._server.pid)

    async def take_in(self, program: str) -> None:
        """Let a program be recorded."""
        await self.records.save_program(msgspec.structs.replace(self._model, id=program))

    async def holds(self, program: str) -> int:
        """How many holds of a program are recorded."""
        found: int = await self._asking.fetchval("SELECT count(*) FROM holds WHERE program = $1", program)
        return found

    async def written(self) -> tuple[float, float]:
        """Bytes of write-ahead log, and of tables with their indexes, so far."""
        row = await self._asking.fetchrow(WRITTEN)
        assert row is not None
        return row["log"], row["rows"]


@asynccontextmanager
async def database() -> AsyncIterator[Database]:
    """One that runs until the block ends."""
    directory = _new_directory()
    server = EmbeddedPostgres(directory, START_TIMEOUT_S)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.callback(shutil.rmtree, Places.of(directory).run, ignore_errors=True)
        stack.push_async_callback(server.stop)
        await server.start()
        await upgrade(server.dsn)
        records = await Records.open(server.dsn, 4)
        stack.push_async_callback(records.close)
        asking = await asyncpg.connect(server.dsn)
        stack.push_async_callback(asking.close)
        yield Database(server, records, asking, _model(directory))


def _new_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="rv-scale-"))
    directory.chmod(0o711)  # the server's account must pass
    return directory


def _model(directory: Path) -> Program:
    """A program that all others are like."""
    file = directory / "program.toml"
    file.write_text(program_file(quotas=1, places=1, day=dt.date(2026, 12, 1), hold_s=7200))
    return read_program(file)


async def run(cluster: LocalCluster, sizes: Sizes, say: Callable[[str], None]) -> RecordingResult:
    """Measure it, once to warm up and then round by round.

    Raises:
        WrongResult: PostgreSQL lacks something.
    """
    async with database() as kept:
        rounds = []
        for number in range(not sizes.warm_up, sizes.rounds + 1):
            say(f"{NAME}: " + (f"round {number} of {sizes.rounds}" if number else "warming up"))
            rounds.append(await _round(cluster, kept, sizes))
        return RecordingResult(rounds=tuple(rounds[sizes.warm_up :]))


async def _round(cluster: LocalCluster, kept: Database, sizes: Sizes) -> dict[str, Recorded]:
    found = {}
    async with _people(cluster, kept, sizes) as asked:
        await carry_out(asked, CASE, confirm=False)
        found[HOLD] = await _recorded(cluster, kept, asked)
        await carry_out(asked, CASE, confirm=True)
        found[LATER] = await _recorded(cluster, kept, asked)
    async with _people(cluster, kept, sizes) as asked:
        await carry_out(asked, CASE, confirm=False)
        await carry_out(asked, CASE, confirm=True)
        found[AT_ONCE] = await _recorded(cluster, kept, asked)
    return found


@asynccontextmanager
async def _people(cluster: LocalCluster, kept: Database, sizes: Sizes) -> AsyncIterator[Asked]:
    """Programs of their own, and claims for all of their places; each booking is there at the end."""
    names = list(islice(new_names(len(cluster.primaries)), len(CASE.shares)))
    count = max(1, sizes.claims // len(names) // sizes.quotas) * sizes.quotas
    for name in names:
        await kept.take_in(name)
    try:
        async with opened(cluster, CASE, sizes, names, [count] * len(names)) as offices:
            yield [(office, office.claims(count)) for office in offices]
    finally:
        await clear(cluster)


async def _recorded(cluster: LocalCluster, kept: Database, asked: Asked) -> Recorded:
    """Record all that the ledgers accepted and nobody recorded."""
    settings = load()
    servers = Servers(cluster.url)
    journals = [WatchedJournal(servers.client_of(office.name), office.name) for office, _ in asked]
    stop = asyncio.Event()
    wanted = [await office.seq() for office, _ in asked]
    log, rows = await kept.written()
    valkey_s, postgres_s = sum(node.cpu_s() for node in cluster.primaries), kept.cpu_s()
    recorder_s = time.process_time()
    tasks = [
        asyncio.create_task(
            Recorder(
                office.name,
                kept.records,
                journal,
                booking_code=lambda reservation_id: reservation_id[-14:],
                events_max=settings.record_events_max,
                block_ms=settings.follow_block_ms,
            ).run(stop)
        )
        for (office, _), journal in zip(asked, journals, strict=True)
    ]
    await asyncio.gather(*(journal.recorded(seq) for journal, seq in zip(journals, wanted, strict=True)))
    recorder_s = time.process_time() - recorder_s
    valkey_s, postgres_s = sum(node.cpu_s() for node in cluster.primaries) - valkey_s, kept.cpu_s() - postgres_s
    stop.set()
    await asyncio.gather(*tasks)
    await servers.close()
    done = sum(len(claims) for _, claims in asked)
    await _check(kept, asked)
    log_now, rows_now = await kept.written()
    return Recorded(
        done=done,
        recorder_us=recorder_s / done * 1e6,
        postgres_us=postgres_s / done * 1e6,
        valkey_us=valkey_s / done * 1e6,
        log_bytes=(log_now - log) / done,
        row_bytes=(rows_now - rows) / done,
    )


async def _check(kept: Database, asked: Asked) -> None:
    """Each place that is held or confirmed has its row.

    Raises:
        WrongResult: it does not.
    """
    for office, claims in asked:
        confirmed = await office.confirmed()
        counts = (await kept.records.count_bookings(office.name), await kept.holds(office.name))
        if counts != (confirmed, len(claims) - confirmed):
            raise WrongResult(f"{office.name}: {counts} bookings and holds are recorded of {len(claims)}")
