"""Several workers: each program is recorded by one of them; with shares, each records its own."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from loadtest.stage.processes import Process, running, until
from loadtest.stage.program import program_file
from reservasi.bootstrap.commands import Operations, open_operations, open_program
from reservasi.cli.importing import import_program
from reservasi.ledger.group_commit import GroupCommit
from reservasi.model import Confirm, Outcome
from reservasi.programs.files import read_program
from reservasi.settings import Settings
from tests.ledgers import claim

DAY = dt.date(2099, 6, 1)
PLACES = 1000
BUYERS = 8
SOLD_BEFORE = 40  # before somebody is killed
SOLD_IN_ALL = 160
RECORDED_TIMEOUT_S = 60.0
ACTIVE = "reservasi_recorder_active"
SERVES = "reservasi_worker_serves"


class Tables(Protocol):
    """What the database holds, past the code under test."""

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        """Run a statement."""


class Office:
    """A program, and people who book in it past every front."""

    def __init__(self, program: str, operations: Operations, group: GroupCommit) -> None:
        self.program = program
        self.booked = 0
        self._operations = operations
        self._group = group
        self._ledger = operations.ledgers.connection(program)

    async def sell(self, upto: int) -> None:
        """Hold and confirm places until so many are booked."""

        async def buy() -> None:
            while self.booked < upto:
                self.booked += 1
                wanted = claim(quota=f"{self.program}.kantor-001.baru.{DAY:%Y%m%d}.0800.online")
                confirm = Confirm(reservation_id=wanted.reservation_id)
                assert [(await self._group.submit(each)).outcome for each in (wanted, confirm)] == [
                    Outcome.HELD,
                    Outcome.CONFIRMED,
                ]

        await asyncio.gather(*(buy() for _ in range(BUYERS)))

    async def until_recorded(self) -> None:
        """Wait until the records are where the ledger is."""

        async def is_recorded() -> bool:
            meta = await self._ledger.meta(RECORDED_TIMEOUT_S)
            return await self.recorded_seq() == meta.position.seq

        await until(is_recorded, f"the records of {self.program}", RECORDED_TIMEOUT_S)

    async def recorded_seq(self) -> int:
        position = await self._operations.records.position(self.program)
        return position.seq if position else 0

    async def assert_recorded_once(self, tables: Tables) -> None:
        """Each booking has its row, and the journal goes on without a gap under one epoch."""
        where = f"WHERE program = '{self.program}'"
        rows = f"SELECT count(*), count(DISTINCT reservation_id) FROM bookings {where}"
        assert await tables.rows(rows) == [(self.booked, self.booked)]
        entries = f"SELECT epoch, first_seq, last_seq FROM journal {where} ORDER BY first_seq"
        at = 0
        for epoch, first_seq, last_seq in await tables.rows(entries):
            assert (epoch, first_seq) == (1, at + 1)
            assert isinstance(last_seq, int)
            at = last_seq
        assert at == await self.recorded_seq()
        assert await self._operations.records.dead_letter_count(self.program) == 0

    async def close(self) -> None:
        await self._ledger.drop()


@pytest.fixture
async def settings(valkey_url: str, database: str, data_dir: Path) -> Settings:
    return Settings(redis_url=valkey_url, postgres_dsn=database, data_dir=data_dir)


@pytest.fixture
async def offices(settings: Settings, program: str) -> AsyncIterator[tuple[Office, Office]]:
    """Two programs, imported and open."""
    async with AsyncExitStack() as stack:
        operations = await stack.enter_async_context(open_operations(settings))
        first, second = [await stack.enter_async_context(_office(operations, f"{program}-{at}")) for at in "ab"]
        yield first, second


@asynccontextmanager
async def _office(operations: Operations, name: str) -> AsyncIterator[Office]:
    file = operations.settings.data_dir / f"{name}.toml"
    file.write_text(program_file(1, PLACES, DAY, 7200, name))
    await import_program(operations, read_program(file), DAY, DAY, open_now=True, quiet=True)
    async with open_program(operations, name) as group:
        office = Office(name, operations, group)
        yield office
        await office.close()


async def _recording(workers: list[Process], office: Office) -> Process:
    """The one worker that records the office's program."""
    recorders: list[Process] = []

    async def is_one() -> bool:
        recorders[:] = [worker for worker in workers if await worker.metric(ACTIVE, office.program)]
        return len(recorders) == 1

    await until(is_one, f"one recorder of {office.program}", RECORDED_TIMEOUT_S)
    return recorders[0]


async def test_of_two_workers_over_all_programs_one_records_each_and_takes_over_when_the_other_is_killed(
    settings: Settings, offices: tuple[Office, Office], tables: Tables
) -> None:
    async with running("worker", settings) as one, running("worker", settings) as other:
        for office in offices:
            await office.sell(SOLD_BEFORE)
            await _recording([one, other], office)
        killed = await _recording([one, other], offices[0])
        survivor = other if killed is one else one
        selling = [asyncio.create_task(office.sell(SOLD_IN_ALL)) for office in offices]
        await killed.kill()
        await asyncio.gather(*selling)
        for office in offices:
            await office.until_recorded()
            assert await _recording([survivor], office) is survivor
            await office.assert_recorded_once(tables)


async def test_workers_with_shares_record_their_own_and_leave_what_nobody_serves(
    settings: Settings, offices: tuple[Office, Office], tables: Tables
) -> None:
    first, second = offices
    async with (
        running("worker", settings, programs=first.program) as one,
        running("worker", settings, programs=f"{second.program[:-1]}[b-z]") as other,
    ):
        for worker, own, left in ((one, first, second), (other, second, first)):
            status = await worker.ready()
            assert (status["programs"], status["left_to_others"]) == ([own.program], [left.program])
            assert [await worker.metric(SERVES, each.program) for each in (own, left)] == [1, 0]
            await own.sell(SOLD_BEFORE)
            await own.until_recorded()
            assert await _recording([one, other], own) is worker

        await one.kill()
        left_at = await first.recorded_seq()
        for office in offices:
            await office.sell(SOLD_IN_ALL)
        await second.until_recorded()
        assert await first.recorded_seq() == left_at
        assert not await other.metric(ACTIVE, first.program)

        async with running("worker", settings, programs=first.program):
            await first.until_recorded()
    for office in offices:
        await office.assert_recorded_once(tables)
