"""A lost, old or half-loaded ledger is rebuilt from real records, and sells no place twice."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.checker.evidence import LedgerEvidence, read_database, read_ledger
from loadtest.checker.replay import journal_violations
from loadtest.checker.rules import database_violations
from reservasi.errors import LedgerMoved, RebuildRefused
from reservasi.ledger import keys
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.ledger.loading import Loader
from reservasi.ledger.wire import stored_forms
from reservasi.model import (
    Admit,
    Answer,
    Cancel,
    Claim,
    Command,
    Confirm,
    Find,
    Join,
    MoveOpening,
    Outcome,
    Position,
    Release,
    SetOpening,
    SetQuota,
    Sweep,
)
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.worker.at_stake import count_at_stake
from reservasi.worker.ledger_owner import Owner, Ownership, compare_ledger, own_ledger
from reservasi.worker.program_stores import ProgramStores
from reservasi.worker.rebuild import Rebuilder, RebuildReport
from tests.any_server import NewLedgerServer
from tests.ledgers import (
    HOUR_MS,
    OTHER_QUOTA,
    QUOTA,
    TOMBSTONE_MS,
    Ledger,
    claim,
    eventually,
    open_ledger,
    opening_set,
    quota_set,
)

pytestmark = pytest.mark.any_server

SURABAYA = Path(__file__).parents[2] / "config" / "programs" / "surabaya.toml"


@pytest.fixture
async def ledger(valkey_url: str, program: str) -> AsyncIterator[Ledger]:
    """Not owned yet."""
    async with open_ledger(valkey_url, program, owned=False) as opened:
        yield opened


async def own(ledger: Ledger, records: Records) -> Ownership:
    return await own_ledger(ledger.program, ledger.connection, ledger.journal, records)


async def record(ledger: Ledger, records: Records) -> Position:
    """What the recorder would do with all that is there."""
    while entries := await ledger.journal.read(await records.position(ledger.program), 100_000, 0):
        expected = await records.position(ledger.program)
        done = await records.record(ledger.program, expected, entries, booking_code=str.upper)
        assert done.dead == ()
    position = await records.position(ledger.program)
    assert position is not None
    return position


def stores(ledger: Ledger, records: Records) -> ProgramStores:
    return ProgramStores(
        program=ledger.program,
        connection=ledger.connection,
        journal=ledger.journal,
        records=records,
        booking_code=str.upper,
        tombstone_ms=TOMBSTONE_MS,
    )


def rebuilder(ledger: Ledger, records: Records) -> Rebuilder:
    return Rebuilder(stores(ledger, records))


async def rebuild(ledger: Ledger, records: Records, **options: Any) -> RebuildReport:
    return await rebuilder(ledger, records).run(**options)


async def forget_all(ledger: Ledger) -> None:
    """As FLUSHALL would, but for this program only: others share the server."""
    names = [key async for key in ledger.client.scan_iter(match=f"{{{ledger.program}}}*", count=1000)]
    await ledger.client.delete(*names)


async def restore(ledger: Ledger, copy: dict[bytes, bytes | None]) -> None:
    """A copy of the ledger put back, under another run of the server."""
    await forget_all(ledger)
    for key, value in copy.items():
        await ledger.client.restore(key, 0, value or b"")
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'0' * 40}")


async def evidence(ledger: Ledger) -> LedgerEvidence:
    state = await read_ledger(ledger.url, ledger.program)
    assert state is not None, "it is fenced"
    return state


def regardless_of_epoch(state: LedgerEvidence) -> LedgerEvidence:
    """And of the journal, which begins anew."""
    return msgspec.structs.replace(state, position=msgspec.structs.replace(state.position, epoch=0), journal=[])


class Sold(msgspec.Struct):
    """What `sell` left behind, by state."""

    held: Claim
    group: Claim  # three persons, confirmed with a payment reference
    released: Claim
    expired: Claim
    cancelled: Claim

    @property
    def all(self) -> list[Claim]:
        return [self.held, self.group, self.released, self.expired, self.cancelled]


async def sell(ledger: Ledger) -> Sold:
    """Something of everything that a ledger can hold."""
    of = Sold(held=claim(2), group=claim(3), released=claim(), expired=claim(quota=OTHER_QUOTA), cancelled=claim())
    slow = {"return_min_ms": HOUR_MS, "return_max_ms": 2 * HOUR_MS}
    answers = await ledger.run(
        quota_set(QUOTA, 20, **slow), quota_set(OTHER_QUOTA, 3, hold_ms=1), opening_set("p-1", joins_from_ms=0), *of.all
    )
    assert all(answer.outcome is Outcome.HELD for answer in answers[3:])
    await ledger.until(answers[6].deadline_ms)
    commands: Sequence[Command] = [
        SetQuota(quota=QUOTA, capacity=30),
        Confirm(reservation_id=of.group.reservation_id, payment_reference="PAY-1"),
        Confirm(reservation_id=of.cancelled.reservation_id),
        Cancel(reservation_id=of.cancelled.reservation_id),
        Release(reservation_id=of.released.reservation_id),
        Sweep(items_max=100),
        *(Join(opening="p-1", ticket_id=f"t{number}") for number in range(5)),
        Admit(opening="p-1", controller="c", lease_ms=1000),
        MoveOpening(opening="p-1", opens_at_ms=4_000_000_000_005, reason="listrik padam", reason_en="a power cut"),
        SetOpening(opening="p-1", paused=True),
        opening_set("p-2", opens_at_ms=3_900_000_000_000),
        MoveOpening(opening="p-2", cancelled=True, reason="banjir"),
    ]
    await ledger.run(*commands)
    return of


async def test_an_emptied_ledger_is_rebuilt_as_it_was(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    sold = await sell(ledger)
    recorded = await record(ledger, records)
    before = await evidence(ledger)
    await forget_all(ledger)
    assert await own(ledger, records) is Ownership.BEHIND
    report = await rebuild(ledger, records, seen=msgspec.structs.replace(recorded, seq=recorded.seq + 2))
    assert report.found is Ownership.BEHIND
    assert (report.rebuilt, report.epoch, report.seq) == (True, 2, recorded.seq)
    assert (report.quotas, report.openings, report.reservations, report.ended, report.returning) == (2, 2, 2, 3, 2)
    assert (report.lost, report.recorded_first) == (2, 0)
    after = await evidence(ledger)
    assert after.position == Position(epoch=2, seq=recorded.seq, chain=recorded.chain)
    assert regardless_of_epoch(after) == regardless_of_epoch(before)
    assert await own(ledger, records) is Ownership.OWNED
    assert sold.held.reservation_id in after.reservations


def _lasting(answer: Answer) -> Answer:
    """Without what is only known since the ledger was loaded."""
    return msgspec.structs.replace(answer, epoch=0, now_ms=0, freed_at_ms=0)


async def test_answers_after_a_rebuild_are_the_same(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    sold = await sell(ledger)
    await record(ledger, records)
    commands: list[Command] = [
        *sold.all,
        *(msgspec.structs.replace(each, fingerprint="other") for each in sold.all),
        *(Find(reservation_id=each.reservation_id) for each in sold.all),
        Confirm(reservation_id=sold.group.reservation_id, payment_reference="PAY-1"),
        Confirm(reservation_id=sold.group.reservation_id, payment_reference="PAY-2"),
        Confirm(reservation_id=sold.expired.reservation_id),
        Cancel(reservation_id=sold.cancelled.reservation_id),
        Release(reservation_id=sold.released.reservation_id),
        claim(list(sold.group.persons[:1]), reservation_id="another"),
    ]
    before = [_lasting(answer) for answer in await ledger.run(*commands)]
    await forget_all(ledger)
    await rebuild(ledger, records)
    after = await ledger.run(*commands)
    assert [_lasting(answer) for answer in after] == before
    positions = RecordedPositions(ledger.client)
    positions.follow(ledger.program)
    try:  # a confirm that is repeated is told "confirmed" at once: the change is recorded
        confirmed = after[15]
        assert confirmed.outcome is Outcome.EXISTS
        args = (ledger.program, confirmed.epoch, confirmed.seq, sold.group.reservation_id)
        assert await positions.wait(*args, 10.0)
    finally:
        await positions.close()


async def test_what_is_sold_after_a_rebuild_is_recorded_and_the_whole_history_holds(
    ledger: Ledger, records: Records, database: str
) -> None:
    await own(ledger, records)
    sold = await sell(ledger)
    await record(ledger, records)
    for _ in range(2):
        await forget_all(ledger)
        await rebuild(ledger, records)
        answers = await ledger.run(*(claim() for _ in range(30)))
        assert {answer.outcome for answer in answers} <= {Outcome.HELD, Outcome.SOLD_OUT}
        await ledger.one(Confirm(reservation_id=sold.held.reservation_id))
        await record(ledger, records)
    state = await evidence(ledger)
    quota = state.quotas[QUOTA]
    assert quota.remaining == 0
    recorded = await read_database(database, ledger.program, state.position)
    assert not [*database_violations(state, recorded), *journal_violations(state, recorded)]


async def fill(ledger: Ledger, records: Records, reservations: int) -> None:
    """Many reservations, every second one confirmed, recorded."""
    await ledger.run(*(quota_set(f"p.kanim.baru.20261201.{hour}00.online", 100_000) for hour in range(10, 20)))
    for first in range(0, reservations, 1000):
        claims = [claim(quota=f"p.kanim.baru.20261201.{10 + number % 10}00.online") for number in range(1000)]
        await ledger.run(*claims[: reservations - first])
        await ledger.run(*(Confirm(reservation_id=each.reservation_id) for each in claims[: reservations - first : 2]))
        await record(ledger, records)


async def test_an_old_copy_is_rebuilt_and_what_only_it_lacks_is_there(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    await sell(ledger)
    await record(ledger, records)
    copy = await ledger.dump()
    later = await ledger.one(claim(reservation_id="later", quota=OTHER_QUOTA))
    await record(ledger, records)
    before = await evidence(ledger)
    await restore(ledger, copy)
    assert await own(ledger, records) is Ownership.BEHIND
    report = await rebuild(ledger, records)
    assert (report.found, report.seq) == (Ownership.BEHIND, later.seq)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
    assert (await ledger.one(Find(reservation_id="later"))).outcome is Outcome.FOUND


async def test_a_replica_that_took_over_with_less_is_rebuilt_and_the_old_primary_stays_behind(
    ledger: Ledger, records: Records, data_dir: Path, ledger_server: NewLedgerServer
) -> None:
    await own(ledger, records)
    await sell(ledger)
    await record(ledger, records)
    replica = ledger_server(data_dir, 60)
    await replica.start()
    try:
        async with open_ledger(replica.url, ledger.program, owned=False) as other:
            for key, value in (await ledger.dump()).items():
                await other.client.restore(key, 0, value or b"")
            await ledger.one(claim(quota=OTHER_QUOTA))  # not replicated, but recorded
            await record(ledger, records)
            lost = await ledger.one(claim(quota=QUOTA, reservation_id="lost"))  # neither
            report = await rebuild(other, records, seen=Position(epoch=1, seq=lost.seq))
            assert (report.found, report.epoch, report.lost) == (Ownership.BEHIND, 2, 1)
            assert (await other.one(Find(reservation_id="lost"))).outcome is Outcome.NOT_FOUND
            assert await own(ledger, records) is Ownership.SUPERSEDED
            position = await records.position(ledger.program)
            assert await record(ledger, records) == position, "its change can be recorded no more"
            with pytest.raises(RebuildRefused):
                await rebuild(ledger, records)
    finally:
        await replica.stop()


async def test_what_only_a_healthy_ledger_knows_is_recorded_first(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    await sell(ledger)
    before = await evidence(ledger)
    assert not (await rebuild(ledger, records)).rebuilt, "it is in step"
    report = await rebuild(ledger, records, force=True)
    assert (report.found, report.recorded_first, report.lost) == (Ownership.OWNED, before.position.seq, 0)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)


async def test_another_history_is_rebuilt_only_when_told_so(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    await sell(ledger)
    await record(ledger, records)
    before = await evidence(ledger)
    await forget_all(ledger)
    assert await ledger.own() in ("owned", "exists")
    await ledger.one(quota_set(capacity=1000))
    for _ in range(before.position.seq):
        await ledger.one(claim())
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'0' * 40}")
    stray = await ledger.dump()
    with pytest.raises(RebuildRefused):
        await rebuild(ledger, records)
    assert await ledger.dump() == stray
    report = await rebuild(ledger, records, discard=True)
    assert report.found is Ownership.DIVERGED
    assert report.lost == 1
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)


async def test_another_history_of_the_same_length_is_counted_before_it_is_forgotten(
    ledger: Ledger, records: Records
) -> None:
    """What is recorded up to the same seq is another history all the same: nothing of the ledger's own is saved."""
    await own(ledger, records)
    await sell(ledger)
    await record(ledger, records)
    before = await evidence(ledger)
    await forget_all(ledger)
    assert await ledger.own() in ("owned", "exists")
    booked = claim()
    await ledger.run(quota_set(capacity=1000), booked, Confirm(reservation_id=booked.reservation_id))
    for _ in range(before.position.seq - 3):
        await ledger.one(claim())
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'0' * 40}")
    assert (await ledger.connection.meta(5.0)).position.seq == before.position.seq
    with pytest.raises(RebuildRefused, match=r"1 confirmed bookings .*--discard-confirmed"):
        await rebuild(ledger, records, discard=True)
    report = await rebuild(ledger, records, discard=True, discard_confirmed=True)
    assert (report.found, report.lost_counted, report.lost_confirmed) == (Ownership.DIVERGED, True, 1)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_a_ledger_that_lost_its_place_and_a_part_of_its_journal_waits_for_a_person(
    ledger: Ledger, records: Records, is_recorded: bool
) -> None:
    await own(ledger, records)
    booked = claim()
    await ledger.run(quota_set(capacity=1000))
    if is_recorded:
        await record(ledger, records)
    first, *_ = [await ledger.one(claim()) for _ in range(2)]
    await ledger.run(booked, Confirm(reservation_id=booked.reservation_id))
    client: Any = ledger.client
    await client.xdel(keys.journal(ledger.program), f"1-{first.seq}")
    await client.delete(keys.meta(ledger.program))
    epochs = await records.epochs(ledger.program)
    for _ in range(2):
        assert await own(ledger, records) is Ownership.DIVERGED
    assert await records.epochs(ledger.program) == epochs
    with pytest.raises(RebuildRefused, match="1 confirmed bookings"):
        await rebuild(ledger, records, discard=True)
    assert await own(ledger, records) is Ownership.DIVERGED, "also once it was fenced"


async def test_old_records_do_not_win_because_the_ledger_lost_its_place(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    await sell(ledger)
    await record(ledger, records)
    client: Any = ledger.client
    word = {"epoch": 1, "seq": 1_000_000, "epochs": [[1, 0]]}
    await client.hset(keys.recorded(ledger.program), keys.RECORDED_FIELD, json.dumps(word))
    await client.delete(keys.meta(ledger.program), keys.journal(ledger.program))
    comparison = await compare_ledger(ledger.program, ledger.connection, ledger.journal, records)
    assert comparison.verdict is Ownership.DIVERGED
    assert "older copy" in comparison.cause


async def test_damaged_values_count_as_bookings_that_could_be_lost(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    await sell(ledger)
    await record(ledger, records)
    client: Any = ledger.client
    await client.hset(keys.reservations(ledger.program), "x" * 26, b"\xc1")
    stake = await count_at_stake(ledger.program, ledger.journal, records)
    assert stake.unreadable == 1
    assert "1 damaged values" in str(stake)
    await client.hset(keys.meta(ledger.program), "chain", "0" * 40)
    await client.hdel(keys.meta(ledger.program), "at")
    await client.xadd(keys.journal(ledger.program), {"first": "0"}, id="99-1")
    with pytest.raises(RebuildRefused, match="--discard-confirmed"):
        await rebuild(ledger, records, discard=True)


async def test_a_load_that_stopped_halfway_sells_nothing_and_is_begun_anew(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    await sell(ledger)
    await record(ledger, records)
    before = await evidence(ledger)
    loader = Loader(ledger.connection)
    await loader.begin(await loader.fence())
    await loader.quotas([(row.id, row.version, row.terms) for row in await records.quota_rows(ledger.program)])
    assert await own(ledger, records) is Ownership.LOADING
    assert await ledger.own() == "moved"
    assert (await ledger.raw("claim", [[]]))[0] == "fenced"
    report = await rebuild(ledger, records)
    assert report.found is Ownership.LOADING
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
    with pytest.raises(LedgerMoved):  # the first one wakes up
        await loader.own(9, before.position)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)


async def test_two_rebuilds_at_once_do_it_once(valkey_url: str, ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    await sell(ledger)
    await record(ledger, records)
    before = await evidence(ledger)
    await forget_all(ledger)
    async with open_ledger(valkey_url, ledger.program, owned=False) as other:
        reports = await asyncio.gather(rebuild(ledger, records), rebuild(other, records))
    assert sorted(report.rebuilt for report in reports) == [False, True]
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)


async def test_the_worker_rebuilds_by_itself(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    await sell(ledger)
    await record(ledger, records)
    before = await evidence(ledger)
    working = rebuilder(ledger, records)

    async def again(position: Position) -> None:
        await working.run(seen=position, lock_wait_s=0)

    owner = Owner(ledger.program, ledger.connection, ledger.journal, records, rebuild=again)
    stop = asyncio.Event()
    task = asyncio.create_task(owner.run(stop))
    try:
        await forget_all(ledger)
        await eventually(lambda: is_at(ledger, 2))
    finally:
        stop.set()
        await task
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)


async def is_at(ledger: Ledger, epoch: int) -> bool:
    return await ledger.client.hget(keys.meta(ledger.program), "epoch") == str(epoch).encode()


async def test_a_command_that_is_killed_halfway_is_run_again(
    ledger: Ledger, records: Records, database: str, data_dir: Path
) -> None:
    await own(ledger, records)
    await fill(ledger, records, 6000)
    program = msgspec.structs.replace(read_program(SURABAYA), id=ledger.program)
    await records.save_program(program)
    before = await evidence(ledger)
    command = [sys.executable, "-m", "reservasi.cli", "rebuild", "--force", "--json", "--program", ledger.program]
    environment = {
        **os.environ,
        "RESERVASI_REDIS_URL": ledger.url,
        "RESERVASI_POSTGRES_DSN": database,
        "RESERVASI_DATA_DIR": str(data_dir),
    }
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)

    async def is_halfway() -> bool:
        loaded = await ledger.client.hlen(keys.reservations(ledger.program))
        return bool(await ledger.client.hexists(keys.meta(ledger.program), "loading")) and 0 < loaded < 6000

    await eventually(is_halfway, 30.0)
    process.kill()
    await process.wait()
    assert await own(ledger, records) is Ownership.LOADING
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    (report,) = msgspec.json.decode(output)
    assert (report["found"], report["rebuilt"], report["reservations"], report["lost"]) == ("loading", True, 6000, 0)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
