"""Which ledgers are owned and which stay fenced, compared with real records."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reservasi import health
from reservasi.errors import StaleRecorder
from reservasi.events import JournalEntry
from reservasi.ledger import keys
from reservasi.ledger.journal.recorded_position import Lineage, RecordedPositions
from reservasi.ledger.journal.stream import START, Journal
from reservasi.ledger.wire import stored_forms
from reservasi.metrics import LEDGER_OWNED
from reservasi.model import Outcome, Position
from reservasi.records import Records
from reservasi.worker import standstill
from reservasi.worker.ledger_owner import Owner, Ownership, compare_ledger, lift_bar, own_ledger
from reservasi.worker.program_stores import ProgramStores
from reservasi.worker.rebuild import Rebuilder
from tests.any_server import NewLedgerServer
from tests.ledgers import TOMBSTONE_MS, Ledger, claim, eventually, open_ledger, quota_set

pytestmark = pytest.mark.any_server


@pytest.fixture
async def records(database: str, program: str) -> AsyncIterator[Records]:
    opened = await Records.open(database, 4)
    await opened.make_room(program)
    yield opened
    await opened.close()


@pytest.fixture
async def ledger(valkey_url: str, program: str) -> AsyncIterator[Ledger]:
    """Not owned yet."""
    async with open_ledger(valkey_url, program, owned=False) as opened:
        yield opened


async def _own(ledger: Ledger, records: Records) -> Ownership:
    return await own_ledger(ledger.program, ledger.connection, ledger.journal, records)


async def _record(ledger: Ledger, records: Records, entries: list[JournalEntry]) -> Position:
    """What the recorder would do."""
    expected = await records.position(ledger.program)
    recorded = await records.record(ledger.program, expected, entries, booking_code=lambda _: "CODE")
    assert recorded.dead == ()
    return recorded.position


async def _is_fenced(ledger: Ledger) -> bool:
    return bool((await ledger.raw("find", [["nobody"]]))[0] == "fenced")


async def _forget_run(ledger: Ledger) -> None:
    """As if another run of the server had been owned last."""
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'0' * 40}")


async def _forget_all(ledger: Ledger) -> None:
    """As FLUSHALL would, but for this program only: others share the server."""
    found = [key async for key in ledger.client.scan_iter(match=f"{{{ledger.program}}}*", count=1000)]
    await ledger.client.delete(*found)


async def _sell(ledger: Ledger, claims: int) -> None:
    await ledger.one(quota_set(capacity=1000))
    for _ in range(claims):
        await ledger.one(claim())


async def test_a_ledger_ahead_of_records_that_do_not_move_is_not_well(
    ledger: Ledger, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standstill, "STALLED_S", 0.5)
    monkeypatch.setattr(health, "GRACE_S", 0.5)
    found = health.Health()
    owner = Owner(ledger.program, ledger.connection, ledger.journal, records, health=found)
    stop = asyncio.Event()
    task = asyncio.create_task(owner.run(stop))

    async def well() -> bool:
        return not found.missing()

    async def named() -> bool:
        return "recording stands still" in str(found.missing())

    try:
        await eventually(well)
        await _sell(ledger, 3)
        await eventually(named)
        assert found.missing()[ledger.program][0] == "records"
        await _record(ledger, records, await ledger.entries())
        await eventually(well)
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


async def test_a_fresh_ledger_without_records_is_owned(ledger: Ledger, records: Records) -> None:
    assert await _is_fenced(ledger)
    assert await _own(ledger, records) is Ownership.OWNED
    assert not await _is_fenced(ledger)
    assert await _own(ledger, records) is Ownership.OWNED, "again is harmless"
    assert await ledger.client.hget(keys.meta(ledger.program), "epoch") == b"1"


async def test_a_ledger_that_is_as_far_as_the_records_is_owned(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await _sell(ledger, 3)
    entries = await ledger.entries()
    await _record(ledger, records, entries)
    await _forget_run(ledger)
    assert await _is_fenced(ledger)
    assert await _own(ledger, records) is Ownership.OWNED
    assert await ledger.entries() == entries
    assert (await ledger.one(claim())).seq == 5


async def test_each_run_of_a_server_is_owned_under_an_epoch_of_its_own(ledger: Ledger, records: Records) -> None:
    assert await _own(ledger, records) is Ownership.OWNED
    await _sell(ledger, 2)
    await _record(ledger, records, await ledger.entries())
    for epoch in (2, 3):
        await _forget_run(ledger)
        assert await _own(ledger, records) is Ownership.OWNED
        answer = await ledger.one(claim())
        assert answer.epoch == epoch
    assert [(row.epoch, row.base_seq) for row in await records.epochs(ledger.program)] == [(1, 0), (2, 3), (3, 4)]


async def test_what_a_ledger_lost_is_never_called_recorded(ledger: Ledger, records: Records) -> None:
    """An unrecorded change is lost, and its seq is used again: the confirm that waits for it must not be told "done"."""
    assert await _own(ledger, records) is Ownership.OWNED
    await _sell(ledger, 1)
    before = await ledger.dump()
    await _record(ledger, records, await ledger.entries())
    lost = await ledger.one(claim())
    await _forget_all(ledger)
    for key, value in before.items():
        await ledger.client.restore(key, 0, value or b"")
    await _forget_run(ledger)
    assert await _own(ledger, records) is Ownership.OWNED
    stranger = await ledger.one(claim())
    assert (stranger.seq, stranger.epoch) == (lost.seq, lost.epoch + 1)
    recorded = await records.position(ledger.program)
    position = await _record(ledger, records, await ledger.journal.read(recorded, 100, 0))
    epochs = [(row.epoch, row.base_seq) for row in await records.epochs(ledger.program)]
    positions = RecordedPositions(ledger.client)
    positions.follow(ledger.program)
    try:
        await ledger.journal.publish_recorded(position, epochs=epochs)
        assert await positions.wait(ledger.program, stranger.epoch, stranger.seq, "stranger", 5.0)
        assert not await positions.wait(ledger.program, lost.epoch, lost.seq, "lost", 0.01)
    finally:
        await positions.close()


async def test_a_copy_of_the_ledger_takes_over_and_the_old_one_is_superseded(
    ledger: Ledger, records: Records, data_dir: Path, ledger_server: NewLedgerServer
) -> None:
    assert await _own(ledger, records) is Ownership.OWNED
    await _sell(ledger, 1)
    copy = ledger_server(data_dir, 60)
    await copy.start()
    try:
        async with open_ledger(copy.url, ledger.program, owned=False) as other:
            for key, value in (await ledger.dump()).items():
                await other.client.restore(key, 0, value or b"")
            assert await _own(other, records) is Ownership.OWNED
            assert (await other.one(claim())).epoch == 2
            assert await _own(ledger, records) is Ownership.SUPERSEDED
    finally:
        await copy.stop()


async def test_a_ledger_that_is_ahead_is_owned_and_its_journal_stays(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await _sell(ledger, 5)
    entries = await ledger.entries()
    position = await _record(ledger, records, entries[:2])
    await _forget_run(ledger)
    assert await _own(ledger, records) is Ownership.OWNED
    rest = await ledger.journal.read(position, 100, 0)
    assert rest == entries[2:]
    assert await _record(ledger, records, rest) == entries[-1].position


async def test_a_ledger_behind_the_records_stays_fenced(ledger: Ledger, records: Records) -> None:
    """A restored backup: a true history that ends too early."""
    await ledger.own()
    await _sell(ledger, 2)
    backup = {key: await ledger.client.dump(key) for key in await ledger.dump()}
    await ledger.one(claim())
    await _record(ledger, records, await ledger.entries())
    await _forget_all(ledger)
    for key, content in backup.items():
        assert content is not None
        await ledger.client.restore(key, 0, content)
    await _forget_run(ledger)
    before = await ledger.dump()
    assert await _own(ledger, records) is Ownership.BEHIND
    assert await _is_fenced(ledger)
    assert await ledger.dump() == before


async def test_an_emptied_ledger_sells_nothing(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await _sell(ledger, 2)
    await _record(ledger, records, await ledger.entries())
    await _forget_all(ledger)
    assert await _own(ledger, records) is Ownership.BEHIND
    for command in ("claim", "set_quota", "sweep", "snapshot"):
        assert (await ledger.raw(command, [[]]))[0] == "fenced"
        assert (await ledger.raw(command, [[]], epoch=0))[0] == "fenced"
    assert await ledger.dump() == {}


async def test_another_history_stays_fenced(ledger: Ledger, records: Records, program: str) -> None:
    await ledger.own()
    await _sell(ledger, 4)
    await _record(ledger, records, (await ledger.entries())[:3])
    await _forget_all(ledger)
    # The same length, and longer: other people have the places.
    assert await ledger.own() in ("owned", "exists")
    for claims in (2, 4):
        await ledger.one(quota_set(capacity=1000))
        for _ in range(claims):
            await ledger.one(claim())
        await _forget_run(ledger)
        assert await _own(ledger, records) is Ownership.DIVERGED
        assert await _is_fenced(ledger)
        assert await ledger.own() == "owned"


async def test_a_journal_that_does_not_reach_the_ledgers_place_stays_fenced(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await _sell(ledger, 5)
    await _record(ledger, records, (await ledger.entries())[:2])
    await _forget_run(ledger)
    last: list[tuple[bytes, object]] = await ledger.client.xrevrange(  # type: ignore[assignment]
        keys.journal(ledger.program), count=1
    )
    await ledger.client.xdel(keys.journal(ledger.program), last[0][0])
    assert await _own(ledger, records) is Ownership.DIVERGED
    await ledger.client.xdel(keys.journal(ledger.program), "1-4")
    assert await _own(ledger, records) is Ownership.DIVERGED
    assert await _is_fenced(ledger)


async def test_a_ledger_of_another_form_stays_fenced(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await _sell(ledger, 2)
    await _record(ledger, records, await ledger.entries())
    await ledger.client.hset(keys.meta(ledger.program), "run_id", (await ledger.connection.meta(5.0)).run_id)
    before = await ledger.dump()
    assert await _own(ledger, records) is Ownership.UNREADABLE
    assert await _is_fenced(ledger)
    assert await ledger.dump() == before


async def test_a_later_epoch_does_not_hide_a_shorter_history(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await _sell(ledger, 4)
    await _record(ledger, records, await ledger.entries())
    await _forget_all(ledger)
    assert (await ledger.raw("own", [[0, 0, "", 2]]))[4] == [["owned", 0]]
    await ledger.one(quota_set())
    await _forget_run(ledger)
    assert await _own(ledger, records) is not Ownership.OWNED
    assert (await ledger.raw("find", [["nobody"]], epoch=2))[0] == "fenced"


async def test_two_owners_at_once_agree(valkey_url: str, ledger: Ledger, records: Records, program: str) -> None:
    async with open_ledger(valkey_url, program, owned=False) as other:
        for _ in range(5):
            results = await asyncio.gather(_own(ledger, records), _own(other, records))
            assert Ownership.OWNED in results
            assert set(results) <= {Ownership.OWNED, Ownership.MOVED}
            assert await _own(ledger, records) is await _own(other, records) is Ownership.OWNED
            await ledger.run(quota_set(capacity=100), claim())
            await _forget_run(ledger)


async def test_an_epoch_that_was_claimed_and_never_taken_up_bars_nothing(ledger: Ledger, records: Records) -> None:
    """Two look at a run at once: both claim, the earlier claim owns the ledger, and it sells before anybody looks."""
    program, run_id = ledger.program, (await ledger.connection.meta(5.0)).run_id
    assert await records.claim_epoch(program, 1, 0, run_id)
    assert await records.claim_epoch(program, 2, 0, run_id)
    assert await ledger.connection.own(START, 1, 5.0) == "owned"
    assert await ledger.connection.own(START, 2, 5.0) == "moved"
    await _sell(ledger, 3)
    with pytest.raises(StaleRecorder, match="a later lineage"):
        await _record(ledger, records, await ledger.journal.read(None, 100, 0))
    assert await _own(ledger, records) is Ownership.OWNED
    await _sell(ledger, 2)
    position = await _record(ledger, records, await ledger.journal.read(None, 100, 0))
    assert (position.epoch, position.seq) == (3, 6)
    told = Lineage()
    told.advance(position.epoch, position.seq, {row.epoch: row.base_seq for row in await records.epochs(program)})
    assert all(told.contains(epoch, seq) for epoch, seq in ((1, 1), (1, 4), (3, 6)))
    # What another run was owned under is none of these.
    await _forget_run(ledger)
    assert await records.claim_epoch(program, 4, 6, "another run")
    assert await _own(ledger, records) is Ownership.OWNED
    assert [row.base_seq for row in await records.epochs(program)] == [0, 4, 4, 6, 6]


async def _sell_across_an_unused_epoch(ledger: Ledger, records: Records, *, claimed_for: str) -> None:
    """As older versions left it: epoch 2 was claimed at seq 0 and never taken up, and the run went on under 1, then 3."""
    program, run_id = ledger.program, (await ledger.connection.meta(5.0)).run_id
    assert await records.claim_epoch(program, 1, 0, run_id)
    assert await records.claim_epoch(program, 2, 0, claimed_for or run_id)
    assert await ledger.connection.own(START, 1, 5.0) == "owned"
    await _sell(ledger, 3)
    assert await records.claim_epoch(program, 3, 4, run_id)
    assert await ledger.connection.own((await ledger.connection.meta(5.0)).position, 3, 5.0) == "owned"
    await _sell(ledger, 2)
    assert await _own(ledger, records) is Ownership.OWNED
    with pytest.raises(StaleRecorder, match="a later lineage"):
        await _record(ledger, records, await ledger.entries())


async def test_a_ledger_that_an_unused_epoch_bars_heals_by_itself(
    ledger: Ledger, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _sell_across_an_unused_epoch(ledger, records, claimed_for="")
    monkeypatch.setattr("reservasi.worker.ledger_owner.FOLLOW_LOOKS", 2)

    async def is_lifted() -> bool:
        return [row.base_seq for row in await records.epochs(ledger.program)] == [0, 4, 4]

    async with _owner(ledger, records):
        await eventually(is_lifted)
    position = await _record(ledger, records, await ledger.entries())
    assert (position.epoch, position.seq) == (3, 6)
    found = await compare_ledger(ledger.program, ledger.connection, ledger.journal, records)
    assert await lift_bar(ledger.program, found, ledger.journal, records) == 0, "again is harmless"
    assert await is_lifted()


async def test_an_epoch_that_another_run_may_have_taken_up_goes_on_barring(ledger: Ledger, records: Records) -> None:
    """Places may have been sold under it: who decides against them says so."""
    await _sell_across_an_unused_epoch(ledger, records, claimed_for="another run")
    found = await compare_ledger(ledger.program, ledger.connection, ledger.journal, records)
    assert found.verdict is Ownership.OWNED
    assert await lift_bar(ledger.program, found, ledger.journal, records) == 0
    assert [row.base_seq for row in await records.epochs(ledger.program)] == [0, 0, 4]
    rebuilder = Rebuilder(
        ProgramStores(
            program=ledger.program,
            connection=ledger.connection,
            journal=ledger.journal,
            records=records,
            booking_code=str.upper,
            tombstone_ms=TOMBSTONE_MS,
        )
    )
    with pytest.raises(StaleRecorder):
        await rebuilder.run(force=True)
    report = await rebuilder.run(force=True, discard=True)
    assert (report.rebuilt, report.epoch, report.lost) == (True, 4, 6)


async def _alter_chain(ledger: Ledger) -> None:
    """Of the place that the ledger says it is at."""
    await ledger.client.hset(keys.meta(ledger.program), "chain", "0" * 40)


async def _alter_entry(ledger: Ledger) -> None:
    """One in the middle of what is not recorded yet: it says another moment, in its old place."""
    stream = keys.journal(ledger.program)
    entries: Any = await ledger.client.xrange(stream)
    await ledger.client.delete(stream)
    for number, (entry_id, fields) in enumerate(entries):
        altered: Any = {b"at": b"1"} if number == len(entries) - 2 else {}
        await ledger.client.xadd(stream, {**fields, **altered}, id=entry_id)


async def _sell_and_record_a_part(ledger: Ledger, records: Records) -> None:
    assert await _own(ledger, records) is Ownership.OWNED
    await _sell(ledger, 5)
    await _record(ledger, records, (await ledger.entries())[:2])


@pytest.mark.parametrize("alter", [_alter_chain, _alter_entry])
async def test_an_owned_ledger_whose_chain_was_altered_is_fenced_until_it_is_whole_again(
    ledger: Ledger, records: Records, alter: Callable[[Ledger], Awaitable[None]]
) -> None:
    await _sell_and_record_a_part(ledger, records)
    whole = await ledger.dump()
    await alter(ledger)
    verdict = Ownership.DAMAGED if alter is _alter_chain else Ownership.DIVERGED  # of the first, the journal knows more
    assert await _own(ledger, records) is verdict
    sees_it_itself = alter is _alter_chain
    assert await _is_fenced(ledger) is sees_it_itself, "who compares changes nothing"
    async with _owner(ledger, records):
        await eventually(lambda: _is_fenced(ledger))
    assert await _own(ledger, records) is verdict
    await _forget_all(ledger)
    for key, content in whole.items():
        await ledger.client.restore(key, 0, content or b"")
    await _forget_run(ledger)
    assert await _own(ledger, records) is Ownership.OWNED


async def test_an_owned_ledger_that_forgot_what_is_recorded_is_behind(ledger: Ledger, records: Records) -> None:
    await _sell_and_record_a_part(ledger, records)
    await ledger.client.hset(keys.meta(ledger.program), mapping={"seq": "1", "at": "1-1-"})
    assert await _own(ledger, records) is Ownership.BEHIND


async def test_an_altered_chain_is_found_with_everything_recorded(ledger: Ledger, records: Records) -> None:
    await _sell_and_record_a_part(ledger, records)
    await _record(ledger, records, await ledger.journal.read(await records.position(ledger.program), 100, 0))
    await _alter_chain(ledger)
    found = await compare_ledger(ledger.program, ledger.connection, ledger.journal, records, follow_max=0)
    assert (found.verdict, found.altered) == (Ownership.DAMAGED, True)


async def test_a_busy_ledger_is_never_taken_for_an_altered_one(
    valkey_url: str, ledger: Ledger, records: Records, program: str
) -> None:
    """Changes, their recording and the trimming of what is recorded go on while it is compared."""
    assert await _own(ledger, records) is Ownership.OWNED
    await ledger.one(quota_set(capacity=100_000))
    stop = asyncio.Event()

    async def crowd() -> None:
        while not stop.is_set():
            await ledger.run(*(claim() for _ in range(20)))

    async def record() -> None:
        while not stop.is_set():
            position = await records.position(program)
            if entries := await ledger.journal.read(position, 200, 5):
                await _record(ledger, records, entries)
                await ledger.journal.trim(entries[-1].position, margin=0)

    async with open_ledger(valkey_url, program, owned=False) as other:
        tasks = [asyncio.create_task(crowd()), asyncio.create_task(record())]
        try:
            for _ in range(50):
                found = await compare_ledger(program, other.connection, other.journal, records)
                assert found.verdict is Ownership.OWNED
            assert found.recorded.seq > 20
        finally:
            stop.set()
            await asyncio.gather(*tasks)


@asynccontextmanager
async def _owner(ledger: Ledger, records: Records) -> AsyncIterator[None]:
    owner = Owner(ledger.program, ledger.connection, Journal(ledger.client, ledger.program), records)
    stop = asyncio.Event()
    task = asyncio.create_task(owner.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


async def test_a_restarted_server_is_owned_after_it_was_compared(
    data_dir: Path, program: str, records: Records, ledger_server: NewLedgerServer
) -> None:
    server = ledger_server(data_dir, 60)
    await server.start()
    try:
        async with open_ledger(server.url, program, owned=False) as ledger:
            owned = LEDGER_OWNED.labels(program)._value

            async def is_owned() -> bool:
                return bool(owned.get() == 1)

            async with _owner(ledger, records):
                await eventually(is_owned)
            await _sell(ledger, 3)
            entries = await ledger.entries()
            await _record(ledger, records, entries[:2])
            await ledger.connection.drop()
            await server.stop()
            await server.start()
            assert await _is_fenced(ledger)
            owned.set(0)
            async with _owner(ledger, records):
                await eventually(is_owned)
            assert await ledger.entries() == entries
            assert (await ledger.one(claim())).outcome is Outcome.HELD
            # Everything is lost while it runs: nobody owns it, and it stays so.
            await _record(ledger, records, (await ledger.entries())[2:])
            await ledger.client.flushall()

            async def is_not_owned() -> bool:
                return bool(owned.get() == 0)

            async with _owner(ledger, records):
                await eventually(is_not_owned)
                assert (await ledger.raw("claim", [[]]))[0] == "fenced"
    finally:
        await server.stop()
