"""Which ledgers are owned and which stay fenced, compared with real records."""

import asyncio
from pathlib import Path

import pytest

from reservasi import health
from reservasi.errors import StaleRecorder
from reservasi.ledger import keys
from reservasi.ledger.journal.recorded_position import Lineage, RecordedPositions
from reservasi.ledger.journal.stream import START
from reservasi.metrics import LEDGER_OWNED
from reservasi.model import Outcome
from reservasi.records import Records
from reservasi.worker import standstill
from reservasi.worker.ledger_owner import Owner, Ownership, compare_ledger, lift_bar
from reservasi.worker.program_stores import ProgramStores
from reservasi.worker.rebuild import Rebuilder
from tests.any_server import NewLedgerServer
from tests.integration import owning
from tests.integration.owning import forget_all, forget_run, is_fenced, own, record, running_owner, sell
from tests.ledgers import TOMBSTONE_MS, Ledger, claim, eventually, open_ledger, quota_set

pytestmark = pytest.mark.any_server
records, ledger = owning.records, owning.ledger


async def test_a_ledger_ahead_of_records_that_do_not_move_is_not_well(
    ledger: Ledger, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standstill, "STALLED_S", 0.5)
    monkeypatch.setattr(health, "GRACE_S", 0.5)
    service_health = health.Health()
    owner = Owner(ledger.program, ledger.connection, ledger.journal, records, health=service_health)
    stop = asyncio.Event()
    task = asyncio.create_task(owner.run(stop))

    async def well() -> bool:
        return not service_health.missing()

    async def named() -> bool:
        return "recording stands still" in str(service_health.missing())

    try:
        await eventually(well)
        await sell(ledger, 3)
        await eventually(named)
        assert service_health.missing()[ledger.program][0] == "records"
        await record(ledger, records, await ledger.entries())
        await eventually(well)
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


async def test_a_fresh_ledger_without_records_is_owned(ledger: Ledger, records: Records) -> None:
    assert await is_fenced(ledger)
    assert await own(ledger, records) is Ownership.OWNED
    assert not await is_fenced(ledger)
    assert await own(ledger, records) is Ownership.OWNED, "again is harmless"
    assert await ledger.client.hget(keys.meta(ledger.program), "epoch") == b"1"


async def test_a_ledger_that_is_as_far_as_the_records_is_owned(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await sell(ledger, 3)
    entries = await ledger.entries()
    await record(ledger, records, entries)
    await forget_run(ledger)
    assert await is_fenced(ledger)
    assert await own(ledger, records) is Ownership.OWNED
    assert await ledger.entries() == entries
    assert (await ledger.one(claim())).seq == 5


async def test_each_run_of_a_server_is_owned_under_an_epoch_of_its_own(ledger: Ledger, records: Records) -> None:
    assert await own(ledger, records) is Ownership.OWNED
    await sell(ledger, 2)
    await record(ledger, records, await ledger.entries())
    for epoch in (2, 3):
        await forget_run(ledger)
        assert await own(ledger, records) is Ownership.OWNED
        answer = await ledger.one(claim())
        assert answer.epoch == epoch
    assert [(row.epoch, row.base_seq) for row in await records.epochs(ledger.program)] == [(1, 0), (2, 3), (3, 4)]


async def test_what_a_ledger_lost_is_never_called_recorded(ledger: Ledger, records: Records) -> None:
    """An unrecorded change is lost, and its seq is used again: the confirm that waits for it must not be told "done"."""
    assert await own(ledger, records) is Ownership.OWNED
    await sell(ledger, 1)
    before = await ledger.dump()
    await record(ledger, records, await ledger.entries())
    lost = await ledger.one(claim())
    await forget_all(ledger)
    for key, value in before.items():
        await ledger.client.restore(key, 0, value or b"")
    await forget_run(ledger)
    assert await own(ledger, records) is Ownership.OWNED
    stranger = await ledger.one(claim())
    assert (stranger.seq, stranger.epoch) == (lost.seq, lost.epoch + 1)
    recorded = await records.position(ledger.program)
    position = await record(ledger, records, await ledger.journal.read(recorded, 100, 0))
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
    assert await own(ledger, records) is Ownership.OWNED
    await sell(ledger, 1)
    copy = ledger_server(data_dir, 60)
    await copy.start()
    try:
        async with open_ledger(copy.url, ledger.program, owned=False) as other:
            for key, value in (await ledger.dump()).items():
                await other.client.restore(key, 0, value or b"")
            assert await own(other, records) is Ownership.OWNED
            assert (await other.one(claim())).epoch == 2
            assert await own(ledger, records) is Ownership.SUPERSEDED
    finally:
        await copy.stop()


async def test_a_ledger_that_is_ahead_is_owned_and_its_journal_stays(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await sell(ledger, 5)
    entries = await ledger.entries()
    position = await record(ledger, records, entries[:2])
    await forget_run(ledger)
    assert await own(ledger, records) is Ownership.OWNED
    rest = await ledger.journal.read(position, 100, 0)
    assert rest == entries[2:]
    assert await record(ledger, records, rest) == entries[-1].position


async def test_a_ledger_behind_the_records_stays_fenced(ledger: Ledger, records: Records) -> None:
    """A restored backup: a true history that ends too early."""
    await ledger.own()
    await sell(ledger, 2)
    backup = {key: await ledger.client.dump(key) for key in await ledger.dump()}
    await ledger.one(claim())
    await record(ledger, records, await ledger.entries())
    await forget_all(ledger)
    for key, content in backup.items():
        assert content is not None
        await ledger.client.restore(key, 0, content)
    await forget_run(ledger)
    before = await ledger.dump()
    assert await own(ledger, records) is Ownership.BEHIND
    assert await is_fenced(ledger)
    assert await ledger.dump() == before


async def test_an_emptied_ledger_sells_nothing(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await sell(ledger, 2)
    await record(ledger, records, await ledger.entries())
    await forget_all(ledger)
    assert await own(ledger, records) is Ownership.BEHIND
    for command in ("claim", "set_quota", "sweep", "snapshot"):
        assert (await ledger.raw(command, [[]]))[0] == "fenced"
        assert (await ledger.raw(command, [[]], epoch=0))[0] == "fenced"
    assert await ledger.dump() == {}


async def test_another_history_stays_fenced(ledger: Ledger, records: Records, program: str) -> None:
    await ledger.own()
    await sell(ledger, 4)
    await record(ledger, records, (await ledger.entries())[:3])
    await forget_all(ledger)
    # The same length, and longer: other people have the places.
    assert await ledger.own() in ("owned", "exists")
    for claims in (2, 4):
        await ledger.one(quota_set(capacity=1000))
        for _ in range(claims):
            await ledger.one(claim())
        await forget_run(ledger)
        assert await own(ledger, records) is Ownership.DIVERGED
        assert await is_fenced(ledger)
        assert await ledger.own() == "owned"


async def test_a_journal_that_does_not_reach_the_ledgers_place_stays_fenced(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await sell(ledger, 5)
    await record(ledger, records, (await ledger.entries())[:2])
    await forget_run(ledger)
    last: list[tuple[bytes, object]] = await ledger.client.xrevrange(  # type: ignore[assignment]
        keys.journal(ledger.program), count=1
    )
    await ledger.client.xdel(keys.journal(ledger.program), last[0][0])
    assert await own(ledger, records) is Ownership.DIVERGED
    await ledger.client.xdel(keys.journal(ledger.program), "1-4")
    assert await own(ledger, records) is Ownership.DIVERGED
    assert await is_fenced(ledger)


async def test_a_ledger_of_another_form_stays_fenced(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await sell(ledger, 2)
    await record(ledger, records, await ledger.entries())
    await ledger.client.hset(keys.meta(ledger.program), "run_id", (await ledger.connection.meta(5.0)).run_id)
    before = await ledger.dump()
    assert await own(ledger, records) is Ownership.UNREADABLE
    assert await is_fenced(ledger)
    assert await ledger.dump() == before


async def test_a_later_epoch_does_not_hide_a_shorter_history(ledger: Ledger, records: Records) -> None:
    await ledger.own()
    await sell(ledger, 4)
    await record(ledger, records, await ledger.entries())
    await forget_all(ledger)
    assert (await ledger.raw("own", [[0, 0, "", 2]]))[4] == [["owned", 0]]
    await ledger.one(quota_set())
    await forget_run(ledger)
    assert await own(ledger, records) is not Ownership.OWNED
    assert (await ledger.raw("find", [["nobody"]], epoch=2))[0] == "fenced"


async def test_two_owners_at_once_agree(valkey_url: str, ledger: Ledger, records: Records, program: str) -> None:
    async with open_ledger(valkey_url, program, owned=False) as other:
        for _ in range(5):
            results = await asyncio.gather(own(ledger, records), own(other, records))
            assert Ownership.OWNED in results
            assert set(results) <= {Ownership.OWNED, Ownership.MOVED}
            assert await own(ledger, records) is await own(other, records) is Ownership.OWNED
            await ledger.run(quota_set(capacity=100), claim())
            await forget_run(ledger)


async def test_an_epoch_that_was_claimed_and_never_taken_up_bars_nothing(ledger: Ledger, records: Records) -> None:
    """Two look at a run at once: both claim, the earlier claim owns the ledger, and it sells before anybody looks."""
    program, run_id = ledger.program, (await ledger.connection.meta(5.0)).run_id
    assert await records.claim_epoch(program, 1, 0, run_id)
    assert await records.claim_epoch(program, 2, 0, run_id)
    assert await ledger.connection.own(START, 1, 5.0) == "owned"
    assert await ledger.connection.own(START, 2, 5.0) == "moved"
    await sell(ledger, 3)
    with pytest.raises(StaleRecorder, match="a later lineage"):
        await record(ledger, records, await ledger.journal.read(None, 100, 0))
    assert await own(ledger, records) is Ownership.OWNED
    await sell(ledger, 2)
    position = await record(ledger, records, await ledger.journal.read(None, 100, 0))
    assert (position.epoch, position.seq) == (3, 6)
    lineage = Lineage()
    lineage.advance(position.epoch, position.seq, {row.epoch: row.base_seq for row in await records.epochs(program)})
    assert all(lineage.contains(epoch, seq) for epoch, seq in ((1, 1), (1, 4), (3, 6)))
    # What another run was owned under is none of these.
    await forget_run(ledger)
    assert await records.claim_epoch(program, 4, 6, "another run")
    assert await own(ledger, records) is Ownership.OWNED
    assert [row.base_seq for row in await records.epochs(program)] == [0, 4, 4, 6, 6]


async def _sell_across_an_unused_epoch(ledger: Ledger, records: Records, *, claimed_for: str) -> None:
    """As older versions left it: epoch 2 was claimed at seq 0 and never taken up, and the run went on under 1, then 3."""
    program, run_id = ledger.program, (await ledger.connection.meta(5.0)).run_id
    assert await records.claim_epoch(program, 1, 0, run_id)
    assert await records.claim_epoch(program, 2, 0, claimed_for or run_id)
    assert await ledger.connection.own(START, 1, 5.0) == "owned"
    await sell(ledger, 3)
    assert await records.claim_epoch(program, 3, 4, run_id)
    assert await ledger.connection.own((await ledger.connection.meta(5.0)).position, 3, 5.0) == "owned"
    await sell(ledger, 2)
    assert await own(ledger, records) is Ownership.OWNED
    with pytest.raises(StaleRecorder, match="a later lineage"):
        await record(ledger, records, await ledger.entries())


async def test_a_ledger_that_an_unused_epoch_bars_heals_by_itself(
    ledger: Ledger, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _sell_across_an_unused_epoch(ledger, records, claimed_for="")
    monkeypatch.setattr("reservasi.worker.ledger_owner.FOLLOW_LOOKS", 2)

    async def is_lifted() -> bool:
        return [row.base_seq for row in await records.epochs(ledger.program)] == [0, 4, 4]

    async with running_owner(ledger, records):
        await eventually(is_lifted)
    position = await record(ledger, records, await ledger.entries())
    assert (position.epoch, position.seq) == (3, 6)
    comparison = await compare_ledger(ledger.program, ledger.connection, ledger.journal, records)
    assert await lift_bar(ledger.program, comparison, ledger.journal, records) == 0, "again is harmless"
    assert await is_lifted()


async def test_an_epoch_that_another_run_may_have_taken_up_goes_on_barring(ledger: Ledger, records: Records) -> None:
    """Places may have been sold under it: who decides against them says so."""
    await _sell_across_an_unused_epoch(ledger, records, claimed_for="another run")
    comparison = await compare_ledger(ledger.program, ledger.connection, ledger.journal, records)
    assert comparison.verdict is Ownership.OWNED
    assert await lift_bar(ledger.program, comparison, ledger.journal, records) == 0
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

            async with running_owner(ledger, records):
                await eventually(is_owned)
            await sell(ledger, 3)
            entries = await ledger.entries()
            await record(ledger, records, entries[:2])
            await ledger.connection.drop()
            await server.stop()
            await server.start()
            assert await is_fenced(ledger)
            owned.set(0)
            async with running_owner(ledger, records):
                await eventually(is_owned)
            assert await ledger.entries() == entries
            assert (await ledger.one(claim())).outcome is Outcome.HELD
            # Everything is lost while it runs: nobody owns it, and it stays so.
            await record(ledger, records, (await ledger.entries())[2:])
            await ledger.client.flushall()

            async def is_not_owned() -> bool:
                return bool(owned.get() == 0)

            async with running_owner(ledger, records):
                await eventually(is_not_owned)
                assert (await ledger.raw("claim", [[]]))[0] == "fenced"
    finally:
        await server.stop()
