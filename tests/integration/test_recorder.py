"""The recorder on a real journal and a real database: exactly once, whoever dies when, and never silently."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from prometheus_client import REGISTRY

from reservasi.errors import LedgerUnreachable
from reservasi.ledger import keys
from reservasi.ledger.connection import open_client
from reservasi.ledger.journal import Journal
from reservasi.recorder import Recorder
from reservasi.records import Records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reservasi.model import JournalEntry, Position
    from tests.integration.conftest import JournalWriter

DEADLINE_S = 30


def code(reservation_id: str) -> str:
    return f"CODE-{reservation_id}"


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline_s, f"waited too long: {what}"
        await asyncio.sleep(0.01)


def metric(name: str, program: str) -> float:
    value = REGISTRY.get_sample_value(name, {"program": program})
    return 0.0 if value is None else value


@dataclass
class Stage:
    """One program's journal and records, and recorders started on them."""

    program: str
    writer: JournalWriter
    records: Records
    client: Any  # redis-py types replies too widely to take them apart
    valkey_url: str
    database: str

    def journal(self) -> Journal:
        return Journal(self.client, self.program)

    async def append(self) -> JournalEntry:
        """Put the writer's events into the stream, as the ledger does."""
        entry = self.writer.entry()
        fields = {"first": entry.first_seq, "at": entry.at_ms, "chain": entry.chain, "events": entry.payload}
        await self.client.xadd(
            keys.journal(self.program),
            {name.encode(): value if isinstance(value, bytes) else str(value) for name, value in fields.items()},
            id=f"{entry.epoch}-{entry.position.seq}",
        )
        return entry

    async def book(self, first: int, last: int) -> None:
        """One confirmed booking an entry."""
        for number in range(first, last):
            self.writer.held(f"r{number}", "q", f"person {number}")
            self.writer.confirmed(f"r{number}")
            await self.append()

    def recorder(self, journal: Journal | None = None, *, events_max: int = 100) -> Recorder:
        return Recorder(
            self.program,
            self.records,
            journal or self.journal(),
            booking_code=code,
            events_max=events_max,
            block_ms=20,
        )

    @contextlib.asynccontextmanager
    async def running(self, recorder: Recorder) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(recorder.run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, DEADLINE_S)

    async def recorded(self) -> bool:
        return await self.records.position(self.program) == self.writer.position

    async def published(self) -> bool:
        position = self.writer.position
        assert position is not None
        said: dict[bytes, bytes] = await self.client.hgetall(keys.recorded(self.program))
        return said == {b"epoch": str(position.epoch).encode(), b"seq": str(position.seq).encode()}

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(self.database)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def assert_exactly_once(self, bookings: int) -> None:
        assert await self.rows("SELECT count(*), count(DISTINCT reservation_id) FROM bookings") == [
            (bookings, bookings)
        ]
        assert [quota.booked for quota in await self.records.quota_rows(self.program)] == [bookings]
        gaps = """
            SELECT first_seq FROM (
              SELECT first_seq, lag(last_seq, 1, 0) OVER (ORDER BY epoch, first_seq) AS before FROM journal
            ) AS entries WHERE first_seq <> before + 1
        """
        assert await self.rows(gaps) == []
        assert self.writer.position is not None
        assert await self.rows("SELECT max(last_seq) FROM journal") == [(self.writer.position.seq,)]


@pytest.fixture
async def stage(
    program: str, writer: JournalWriter, records: Records, valkey_url: str, database: str
) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        client = open_client(valkey_url)
        stack.push_async_callback(client.aclose)
        built = Stage(program, writer, records, client, valkey_url, database)
        writer.quota_set("q", 10_000)
        await built.append()
        yield built


async def test_it_records_what_is_there_and_what_comes_and_says_so(stage: Stage) -> None:
    await stage.book(0, 30)
    async with stage.running(stage.recorder(events_max=7)):
        await until(stage.published, "what was there")
        await stage.book(30, 40)
        await until(stage.published, "what came")
        assert metric("reservasi_recorder_active", stage.program) == 1
    assert metric("reservasi_recorder_active", stage.program) == 0
    assert metric("reservasi_recorded_events_total", stage.program) == 81
    assert metric("reservasi_recorded_entries_total", stage.program) == 41
    assert metric("reservasi_recorded_seq", stage.program) == 81
    assert metric("reservasi_recorder_lag_events", stage.program) == 0
    await stage.assert_exactly_once(40)


class Died(Exception):
    """Nothing that the recorder would wait out."""


class DyingJournal(Journal):
    """The recorder dies between its commit and telling of it."""

    async def publish_recorded(self, position: Position, dead: Sequence[str] = ()) -> None:
        raise Died


async def test_a_death_between_commit_and_publish_neither_loses_nor_doubles(stage: Stage) -> None:
    stage.writer.confirmed("unknown")
    await stage.book(0, 5)
    with pytest.raises(Died):
        await stage.recorder(DyingJournal(stage.client, stage.program)).run(asyncio.Event())
    assert await stage.recorded()
    assert not await stage.client.exists(keys.recorded(stage.program))

    async with stage.running(stage.recorder()):
        await until(stage.published, "the position that was committed before")
    assert await stage.client.smembers(keys.dead_letters(stage.program)) == {b"unknown"}
    await stage.assert_exactly_once(5)


async def test_the_standby_takes_over_when_the_active_one_is_killed(stage: Stage) -> None:
    script = """
import asyncio, sys
from reservasi.ledger.connection import open_client
from reservasi.ledger.journal import Journal
from reservasi.recorder import Recorder
from reservasi.records import Records
async def main(program, valkey_url, database):
    records = await Records.open(database, 2)
    journal = Journal(open_client(valkey_url), program)
    recorder = Recorder(program, records, journal, booking_code=lambda id: f"CODE-{id}", events_max=3, block_ms=20)
    await recorder.run(asyncio.Event())
asyncio.run(main(*sys.argv[1:]))
"""
    arguments = (stage.program, stage.valkey_url, stage.database)
    first = await asyncio.create_subprocess_exec(sys.executable, "-c", script, *arguments)
    try:
        await until(stage.published, "the first recorder")
        async with stage.running(stage.recorder()):
            await stage.book(0, 20)
            await until(stage.published, "the first recorder, with a standby")
            assert metric("reservasi_recorded_events_total", stage.program) == 0  # the standby did nothing
            writing = asyncio.create_task(stage.book(20, 120))
            await until(lambda: _is_recorded(stage, 60), "the middle of the run")
            os.kill(first.pid, signal.SIGKILL)
            await writing
            await until(stage.published, "the standby")
            assert metric("reservasi_recorder_active", stage.program) == 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            first.kill()
        await first.wait()
    await stage.assert_exactly_once(120)


async def _is_recorded(stage: Stage, seq: int) -> bool:
    position = await stage.records.position(stage.program)
    return position is not None and position.seq >= seq


async def test_a_lost_database_is_waited_for(stage: Stage) -> None:
    async with stage.running(stage.recorder(events_max=4)):
        for round_ in range(5):
            writing = asyncio.create_task(stage.book(round_ * 10, round_ * 10 + 10))
            killer = await asyncpg.connect(stage.database)
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await killer.close()
            await writing
            await until(stage.published, "everything after the connections were cut")
    await stage.assert_exactly_once(50)


class LostJournal(Journal):
    """A ledger that is away for the first calls of each kind."""

    failures = 3

    async def read(self, after: Position | None, events_max: int, block_ms: int) -> list[JournalEntry]:
        self._maybe_fail()
        return await super().read(after, events_max, block_ms)

    async def publish_recorded(self, position: Position, dead: Sequence[str] = ()) -> None:
        self._maybe_fail()
        await super().publish_recorded(position, dead)

    def _maybe_fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise LedgerUnreachable("away")


async def test_a_lost_ledger_is_waited_for(stage: Stage) -> None:
    await stage.book(0, 10)
    async with stage.running(stage.recorder(LostJournal(stage.client, stage.program))):
        await until(stage.published, "the ledger's return")
    await stage.assert_exactly_once(10)


async def test_two_recorders_that_both_believe_to_lead_record_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(_lead: object) -> bool:
        return True

    monkeypatch.setattr("reservasi.records.pool.Lead.take", always)
    await stage.book(0, 20)
    async with stage.running(stage.recorder(events_max=2)), stage.running(stage.recorder(events_max=2)):
        await stage.book(20, 60)
        await until(stage.published, "both")
    await stage.assert_exactly_once(60)


async def test_a_gap_halts_with_an_alarm_and_goes_on_once_it_is_mended(stage: Stage) -> None:
    await stage.book(0, 3)
    stage.writer.held("r3", "q", "person 3")
    stage.writer.confirmed("r3")
    missing = await stage.append()
    missing_id = f"{missing.epoch}-{missing.position.seq}"
    ((_, fields),) = await stage.client.xrange(keys.journal(stage.program), missing_id, missing_id)
    await stage.book(4, 6)
    later = await stage.client.xrange(keys.journal(stage.program), f"({missing_id}", "+")
    await stage.client.xdel(keys.journal(stage.program), missing_id)

    async with stage.running(stage.recorder(events_max=2)):

        async def halted() -> bool:
            return metric("reservasi_recorder_halted", stage.program) == 1

        await until(halted, "the alarm")
        position = await stage.records.position(stage.program)
        assert position is not None
        assert position.seq == missing.first_seq - 1

        # A stream takes no entry before its last one: put the whole tail back in order.
        async with stage.client.pipeline(transaction=True) as pipeline:
            remaining = await stage.client.xrange(keys.journal(stage.program), "-", f"({missing_id}")
            pipeline.delete(keys.journal(stage.program))
            for entry_id, content in [*remaining, (missing_id, fields), *later]:
                pipeline.xadd(keys.journal(stage.program), content, id=entry_id)
            await pipeline.execute()
        await until(stage.published, "the mended journal")
        assert metric("reservasi_recorder_halted", stage.program) == 0
    await stage.assert_exactly_once(6)


async def test_a_dead_letter_is_counted_and_told(stage: Stage) -> None:
    stage.writer.held("r1", "nowhere", "ani")
    stage.writer.confirmed("r1")
    await stage.append()
    await stage.book(2, 4)
    async with stage.running(stage.recorder()):
        await until(stage.published, "everything")
    assert metric("reservasi_dead_letters_total", stage.program) == 2
    assert await stage.client.smembers(keys.dead_letters(stage.program)) == {b"r1"}
    await stage.assert_exactly_once(2)


async def test_recorded_entries_are_trimmed_but_for_a_margin(stage: Stage) -> None:
    for number in range(70):
        for person in range(100):
            stage.writer.held(f"r{number}-{person}", "q", f"person {number}-{person}")
        await stage.append()
    async with stage.running(stage.recorder(events_max=1000)):
        await until(stage.published, "everything")
    length = await stage.client.xlen(keys.journal(stage.program))
    assert 40 <= length < 71  # whole nodes of the stream go at once
    assert await stage.records.count_holds(stage.program) == 7000
