"""Answers that wait for replicas: replays, the records as a substitute, and no waiting when it is off."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from loadtest.ha.servers import Servers, running_servers
from loadtest.stage.program import program_file
from reservasi.bootstrap.commands import open_operations, open_program
from reservasi.cli.findings import replicas
from reservasi.errors import NotReplicated
from reservasi.ledger.acknowledging import RESTS, Acks, Asker, acks_wanted
from reservasi.ledger.await_records import RecordsInstead
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.clients import open_client
from reservasi.ledger.topology.sentinel import parse_sentinel_url
from reservasi.model import Cancel, Command, Confirm, Find, Outcome, SetQuota, State
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.settings import Settings
from reservasi.worker.recorder import Recorder
from tests.ledgers import QUOTA, TOMBSTONE_MS, Ledger, claim, eventually, open_ledger, opening_set, quota_set

ASKED = Acks(replicas=2, timeout_ms=200)


@asynccontextmanager
async def _front(servers: Servers, program: str, *, records: bool = False) -> AsyncIterator[GroupCommit]:
    """A front that has just started."""
    async with AsyncExitStack() as stack:
        instead = None
        if records:
            client = open_client(servers.direct_url)
            stack.push_async_callback(client.aclose)
            positions = RecordedPositions(client)
            stack.push_async_callback(positions.close)
            positions.follow(program)
            instead = RecordsInstead(program, positions, held_max=100)
        group = GroupCommit(
            LedgerConnection(servers.direct_url, program, read_library(), ASKED),
            batch_items_max=256,
            queue_items_max=5000,
            command_timeout_ms=3000,
            tombstone_ms=TOMBSTONE_MS,
            queue_delay_target_ms=1000,
            instead=instead,
        )
        group.start()
        stack.push_async_callback(group.close)
        yield group


async def _ask(servers: Servers, program: str, command: Command) -> Outcome:
    async with _front(servers, program) as front:
        return (await front.submit(command)).outcome


@asynccontextmanager
async def _records(database: str, program: str, directory: Path) -> AsyncIterator[Records]:
    file = directory / "program.toml"
    file.write_text(program_file(1, 10, dt.date(2026, 12, 1), 7200, program))
    records = await Records.open(database, 4)
    try:
        await records.save_program(read_program(file))
        yield records
    finally:
        await records.close()


@asynccontextmanager
async def _recording(ledger: Ledger, records: Records) -> AsyncIterator[None]:
    recorder = Recorder(ledger.program, records, ledger.journal, booking_code=str.upper, events_max=200, block_ms=5)
    stop = asyncio.Event()
    task = asyncio.create_task(recorder.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def test_a_replay_is_no_more_definite_than_its_first_answer(program: str) -> None:
    async with running_servers(hasty=True) as servers, open_ledger(servers.direct_url, program) as ledger:
        await ledger.one(quota_set())
        first = claim()
        assert await _ask(servers, program, first) is Outcome.HELD
        servers.pause(servers.replicas)
        unheard = claim()
        for _ in range(2):  # the second on a connection that wrote nothing: WAIT alone would call it safe
            with pytest.raises(NotReplicated):
                await _ask(servers, program, unheard)
        confirmed = await _ask(servers, program, Confirm(reservation_id=first.reservation_id))
        assert confirmed is Outcome.CONFIRMED, "the records decide whether it is said to be"
        servers.resume(servers.replicas)
        assert await _ask(servers, program, unheard) is Outcome.EXISTS


async def test_while_a_replica_is_away_the_records_count_and_nothing_else(
    program: str, database: str, tmp_path: Path
) -> None:
    async with (
        running_servers(hasty=True) as servers,
        open_ledger(servers.direct_url, program) as ledger,
        _records(database, program, tmp_path) as records,
        _front(servers, program, records=True) as front,
    ):
        await ledger.one(quota_set())
        servers.pause(servers.replicas[:1])
        unrecorded = claim()
        with pytest.raises(NotReplicated):
            await front.submit(unrecorded)
        async with _recording(ledger, records):
            assert (await front.submit(unrecorded)).outcome is Outcome.EXISTS
            calls = (await _calls(ledger))["wait"]
            later = await asyncio.gather(*(front.submit(claim()) for _ in range(5)))
            assert {answer.outcome for answer in later} == {Outcome.HELD}
            assert (await _calls(ledger))["wait"] - calls <= 1, "it rests, so that nobody waits for who is away"
            position = await records.position(program)
            assert position is not None
            assert position.seq >= max(answer.seq for answer in later)


async def test_staffs_changes_wait_for_the_records_too(program: str, database: str, data_dir: Path) -> None:
    async with (
        running_servers(hasty=True) as servers,
        open_ledger(servers.direct_url, program) as ledger,
        _records(database, program, data_dir) as records,
    ):
        settings = Settings(
            redis_url=servers.url,
            postgres_dsn=database,
            data_dir=data_dir,
            replicas_min_ack=2,
            replicas_ack_timeout_ms=200,
        )
        confirmed = claim()
        await ledger.run(quota_set(), confirmed, Confirm(reservation_id=confirmed.reservation_id))
        servers.pause(servers.replicas[:1])
        change = SetQuota(quota=QUOTA, capacity=20)
        async with open_operations(settings) as operations, open_program(operations, program) as group:
            with pytest.raises(NotReplicated):  # nobody records it
                await group.submit(change)
            async with _recording(ledger, records):
                changed = await group.submit(SetQuota(quota=QUOTA, capacity=21))
                created = await group.submit(opening_set())
                ended = await group.submit(Cancel(reservation_id=confirmed.reservation_id, by_staff=True))
                assert (await group.submit(Find(reservation_id=confirmed.reservation_id))).state is State.CANCELLED
            (row,) = await records.quota_rows(program)
        outcomes = (changed.outcome, created.outcome, ended.outcome)
        assert outcomes == (Outcome.QUOTA_SET, Outcome.OPENING_SET, Outcome.CANCELLED)
        assert row.terms.capacity == 21
        async with open_operations(settings) as operations:
            (finding,) = await replicas(operations)
        assert finding.ok or "answers wait for the records" in finding.said


async def test_a_failover_that_may_forget_is_named(database: str, data_dir: Path) -> None:
    async with running_servers(hasty=True) as servers:
        settings: dict[str, Any] = {"redis_url": servers.url, "postgres_dsn": database, "data_dir": data_dir}
        with capture_logs() as logged:
            async with open_operations(Settings(**settings, replicas_min_ack=1)) as operations:
                (unsafe,) = await replicas(operations)
                await eventually(lambda: _warns(logged))
        async with open_operations(Settings(**settings, replicas_min_ack=2)) as operations:
            (safe,) = await replicas(operations)
    assert (unsafe.ok, safe.ok) == (False, True)
    assert "set it to 2" in unsafe.said


async def _warns(logged: list[Any]) -> bool:
    return [each["replicas"] for each in logged if each["event"] == "ledger_failover_may_forget"] == [2]


def test_who_rests_calls_nothing_safe_and_asks_again() -> None:
    now_s = 0.0
    asker = Asker(ASKED, clock=lambda: now_s)
    assert asker.questions() == (("WAIT", 2, 200),)
    assert asker.suffice(b"", [2])
    assert asker.questions()
    assert not asker.suffice(b"", [1])
    assert asker.questions() == ()
    now_s = RESTS * 0.2
    assert asker.questions()
    assert not asker.suffice(Exception(), [2]), "a touch that failed covers nothing"


async def test_nothing_is_asked_when_off(valkey_url: str, program: str) -> None:
    assert acks_wanted(replicas=0, timeout_ms=500, aof="off") is None
    async with open_ledger(valkey_url, program) as ledger:
        await ledger.run(quota_set())
        before = await _calls(ledger)
        await ledger.run(claim(), claim(quota="p.nothing"))
        after = await _calls(ledger)
        assert after.pop("fcall") - before.pop("fcall") == 1
        assert after == before
        assert ledger.connection.safe


async def _calls(ledger: Ledger) -> dict[str, int]:
    stats = await ledger.client.info("commandstats")
    names = ("fcall", "wait", "waitaof", "publish")
    return {name: int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in names}


def test_a_sentinel_address_is_taken_apart() -> None:
    address = parse_sentinel_url("sentinel://u:p%40@h1,[::1]:7/ledger?sentinel_password=s")
    assert address.sentinels == (("h1", 26379), ("::1", 7))
    assert (address.name, address.username, address.password, address.sentinel_password) == ("ledger", "u", "p@", "s")


@pytest.mark.parametrize("url", ["sentinel://h1", "sentinel:///x", "sentinel://h/a/b", "sentinel://h/x?tls=1"])
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sentinel"):
        parse_sentinel_url(url)
