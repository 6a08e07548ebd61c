"""The recorder on a real journal and a real database: exactly once, whichever process dies, and never silently."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs

from reservasi.embedded import EmbeddedPostgres
from reservasi.errors import LedgerUnreachable
from reservasi.health import Health
from reservasi.ledger import keys
from reservasi.ledger.journal.stream import Journal
from reservasi.records import Records
from reservasi.records.upgrades import upgrade
from reservasi.worker.recorder import HALTED_BACKOFF_MAX_S, Backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reservasi.events import JournalEntry
    from reservasi.model import Position
    from tests.integration.conftest import Stage


@pytest.mark.any_server
async def test_it_records_what_is_there_and_what_comes_and_says_so(stage: Stage) -> None:
    await stage.book(0, 30)
    async with stage.running(stage.recorder(events_max=7)):
        await stage.until(stage.published, "what was there")
        await stage.book(30, 40)
        await stage.until(stage.published, "what came")
        assert stage.metric("reservasi_recorder_active") == 1
    assert stage.metric("reservasi_recorder_active") == 0
    assert stage.metric("reservasi_recorded_events_total") == 81
    assert stage.metric("reservasi_recorded_entries_total") == 41
    assert stage.metric("reservasi_recorded_seq") == 81
    assert stage.metric("reservasi_recorder_lag_events") == 0
    await stage.assert_exactly_once(40)


class Died(BaseException):
    """The process is gone: nothing that the recorder could wait out."""


class DyingJournal(Journal):
    """The recorder dies between its commit and telling of it."""

    async def publish_recorded(
        self, position: Position, dead: Sequence[str] = (), *, epochs: Sequence[tuple[int, int]] = ()
    ) -> None:
        raise Died


async def test_a_death_between_commit_and_publish_neither_loses_nor_doubles(stage: Stage) -> None:
    stage.writer.confirmed("unknown")
    await stage.book(0, 5)
    with pytest.raises(Died):
        await stage.recorder(DyingJournal(stage.client, stage.program)).run(asyncio.Event())
    assert await stage.recorded()
    assert not await stage.client.exists(keys.recorded(stage.program))

    async with stage.running(stage.recorder()):
        await stage.until(stage.published, "the position that was committed before")
    assert await stage.client.smembers(keys.dead_letters(stage.program)) == {b"unknown"}
    await stage.assert_exactly_once(5)


async def test_the_standby_takes_over_when_the_active_one_is_killed(stage: Stage) -> None:
    script = """
import asyncio, sys
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.topology.clients import open_client
from reservasi.worker.recorder import Recorder
from reservasi.records import Records
async def main(program, valkey_url, database):
    records = await Records.open(database, 2)
    journal = Journal(open_client(valkey_url), program)
    recorder = Recorder(program, records, journal, booking_code=lambda id: f"CODE-{id}", events_max=3, block_ms=20)
    await recorder.run(asyncio.Event())
asyncio.run(main(*sys.argv[1:]))
"""
    arguments = (stage.program, stage.valkey_url, stage.tables.dsn)
    first = await asyncio.create_subprocess_exec(sys.executable, "-c", script, *arguments)
    try:
        await stage.until(stage.published, "the first recorder")
        async with stage.running(stage.recorder()):
            await stage.book(0, 20)
            await stage.until(stage.published, "the first recorder, with a standby")
            assert stage.metric("reservasi_recorded_events_total") == 0  # the standby did nothing
            writing = asyncio.create_task(stage.book(20, 120))
            await stage.until(lambda: _is_recorded(stage, 60), "the middle of the run")
            os.kill(first.pid, signal.SIGKILL)
            await writing
            await stage.until(stage.published, "the standby")
            assert stage.metric("reservasi_recorder_active") == 1
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
            killer = await asyncpg.connect(stage.tables.dsn)
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            await killer.close()
            await writing
            await stage.until(stage.published, "everything after the connections were cut")
    await stage.assert_exactly_once(50)


async def test_a_database_that_crashes_is_waited_for(stage: Stage, data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, 60)
    await server.start()
    try:
        await upgrade(server.dsn)
        own = dataclasses.replace(
            stage, records=await Records.open(server.dsn, 2), tables=type(stage.tables)(server.dsn)
        )
        await own.records.make_room(own.program)
        async with own.running(own.recorder(events_max=4)):
            for round_ in range(2):
                await own.book(round_ * 20, round_ * 20 + 10)
                await own.until(own.published, "what came before the crash")
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                await server.wait()
                await own.book(round_ * 20 + 10, round_ * 20 + 20)
                await server.start()
                await own.until(own.published, "what came after the crash")
        await own.assert_exactly_once(40)
        await own.records.close()
    finally:
        await server.stop()


async def test_a_missing_table_is_an_alarm_and_not_the_end(stage: Stage) -> None:
    await stage.tables.rows("ALTER TABLE bookings RENAME TO mislaid")
    await stage.book(0, 3)
    async with stage.running(stage.recorder()):
        await stage.until(stage.halted, "the alarm")
        await stage.tables.rows("ALTER TABLE mislaid RENAME TO bookings")
        await stage.until(stage.published, "the table's return")
        await stage.until(stage.going_on, "the end of the alarm")
    assert stage.metric("reservasi_recorder_faults_total", fault="SchemaMissing") >= 1
    await stage.assert_exactly_once(3)


async def test_a_missing_schema_is_asked_for_less_and_less_often(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    limits_s: list[float] = []

    def next_s(_backoff: Backoff, max_s: float) -> float:
        limits_s.append(max_s)
        return 0.01

    monkeypatch.setattr(Backoff, "next_s", next_s)
    await stage.tables.rows("ALTER TABLE positions RENAME TO mislaid")
    async with stage.running(stage.recorder()):
        await stage.until(stage.halted, "the alarm")
        await stage.tables.rows("ALTER TABLE mislaid RENAME TO positions")
        await stage.until(stage.published, "the table's return")
    assert set(limits_s) == {HALTED_BACKOFF_MAX_S}


class BrokenJournal(Journal):
    """Fails in a way that nobody has thought of, until it is mended."""

    broken = True

    async def read(self, after: Position | None, events_max: int, block_ms: int) -> list[JournalEntry]:
        if self.broken:
            raise RuntimeError("unheard of")
        return await super().read(after, events_max, block_ms)


async def test_what_nobody_foresaw_is_an_alarm_and_not_the_end(stage: Stage) -> None:
    await stage.book(0, 3)
    journal = BrokenJournal(stage.client, stage.program)
    async with stage.running(stage.recorder(journal)):
        await stage.until(stage.halted, "the alarm")
        journal.broken = False
        await stage.until(stage.published, "what the fault kept back")
        await stage.until(stage.going_on, "the end of the alarm")
    assert stage.metric("reservasi_recorder_faults_total", fault="RuntimeError") >= 1
    await stage.assert_exactly_once(3)


class NotingJournal(Journal):
    """Remembers what the fronts were told."""

    publications: list[tuple[int, int, list[tuple[int, int]]]]

    async def publish_recorded(
        self, position: Position, dead: Sequence[str] = (), *, epochs: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.publications.append((position.epoch, position.seq, list(epochs)))
        await super().publish_recorded(position, dead, epochs=epochs)


async def test_the_recorded_position_is_told_with_its_epochs(stage: Stage) -> None:
    journal = NotingJournal(stage.client, stage.program)
    journal.publications = []
    async with stage.running(stage.recorder(journal)):
        await stage.until(stage.published, "the first epoch, of which the records know nothing")
        await stage.records.claim_epoch(stage.program, 2, 1, "run 2")
        stage.writer.epoch = 2
        await stage.book(0, 1)
        await stage.until(stage.published, "the second epoch")
        await stage.records.claim_epoch(stage.program, 4, 5, "run 4")
        await stage.book(1, 2)
        await stage.until(stage.published, "the second epoch, while the next is being claimed")
        stage.writer.epoch = 4
        await stage.book(2, 3)
        await stage.until(stage.published, "the last epoch")
    expected = [(1, 1, []), (2, 3, [(2, 1)]), (2, 5, [(2, 1)]), (4, 7, [(2, 1), (4, 5)])]
    assert journal.publications == expected

    journal.publications = []
    async with stage.running(stage.recorder(journal)):

        async def is_published() -> bool:
            return bool(journal.publications)

        await stage.until(is_published, "what was recorded before")
    assert journal.publications == expected[-1:]


class LostJournal(Journal):
    """A ledger that is away for the first calls of each kind."""

    failures = 3

    async def read(self, after: Position | None, events_max: int, block_ms: int) -> list[JournalEntry]:
        self._maybe_fail()
        return await super().read(after, events_max, block_ms)

    async def publish_recorded(
        self, position: Position, dead: Sequence[str] = (), *, epochs: Sequence[tuple[int, int]] = ()
    ) -> None:
        self._maybe_fail()
        await super().publish_recorded(position, dead, epochs=epochs)

    def _maybe_fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise LedgerUnreachable("away")


@pytest.mark.any_server
async def test_a_lost_ledger_is_waited_for(stage: Stage) -> None:
    await stage.book(0, 10)
    async with stage.running(stage.recorder(LostJournal(stage.client, stage.program))):
        await stage.until(stage.published, "the ledger's return")
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
        await stage.until(stage.published, "both")
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
        await stage.until(stage.halted, "the alarm")
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
        await stage.until(stage.published, "the mended journal")
        await stage.until(stage.going_on, "the end of the alarm")
    await stage.assert_exactly_once(6)


async def test_a_fault_that_lasts_is_one_line_and_named_by_the_health(stage: Stage) -> None:
    await stage.book(0, 3)
    entries = await stage.client.xrange(keys.journal(stage.program))
    await stage.client.xdel(keys.journal(stage.program), entries[1][0])

    async def tried_often() -> bool:
        return stage.metric("reservasi_recorder_faults_total", fault="JournalGap") >= 5

    health = Health(clock=iter(range(0, 10_000, 10)).__next__)
    health.expect(stage.program)
    recorder = stage.recorder()
    recorder._health = health
    with capture_logs() as logs:
        async with stage.running(recorder):
            await stage.until(tried_often, "several tries")
            (fault,) = health.missing().values()
    assert "its recorder: JournalGap: expected seq 2" in fault[1]
    events = [line["event"] for line in logs]
    assert (events.count("recording_halted"), events.count("recording")) == (1, 1)


async def test_a_dead_letter_is_counted_and_told(stage: Stage) -> None:
    stage.writer.held("r1", "nowhere", "ani")
    stage.writer.confirmed("r1")
    await stage.append()
    await stage.book(2, 4)
    async with stage.running(stage.recorder()):
        await stage.until(stage.published, "everything")
        assert stage.metric("reservasi_dead_letters_total") == 2

        async def counted() -> bool:
            return stage.metric("reservasi_unapplied_events") == 2

        await stage.until(counted, "the gauge")
    assert await stage.client.smembers(keys.dead_letters(stage.program)) == {b"r1"}
    await stage.assert_exactly_once(2)


@pytest.mark.any_server
async def test_recorded_entries_are_trimmed_but_for_a_margin(stage: Stage) -> None:
    for number in range(70):
        for person in range(100):
            stage.writer.held(f"r{number}-{person}", "q", f"person {number}-{person}")
        await stage.append()
    async with stage.running(stage.recorder(events_max=1000)):
        await stage.until(stage.published, "everything")
    length = await stage.client.xlen(keys.journal(stage.program))
    assert 40 <= length < 71  # whole nodes of the stream go at once
    assert await stage.records.count_holds(stage.program) == 7000


async def test_a_program_that_was_removed_by_hand_and_begun_again_is_recorded(stage: Stage) -> None:
    """Its journal begins anew, before the position that the recorder remembers."""
    async with stage.running(stage.recorder()):
        await stage.book(0, 20)
        await stage.until(stage.published, "the first life")
        await stage.client.delete(keys.journal(stage.program), keys.recorded(stage.program))
        await stage.tables.empty()
        stage.writer.position = None
        stage.writer.quota_set("q", 10_000)
        await stage.append()
        await stage.book(100, 105)
        await stage.until(stage.published, "the second life")
    await stage.assert_exactly_once(5)
