"""Ledger and records are compared while both change: every planted difference is found, and no other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgpack
import pytest

from reservasi.errors import LedgerMoved
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.stored_reservations import Holdings
from reservasi.metrics import DRIFT
from reservasi.model import Cancel, Claim, Command, Confirm, Release, Sweep
from reservasi.records import Records
from reservasi.worker.reconciliation import Reconciled, Reconciler
from reservasi.worker.recorder import Recorder
from reservasi.worker.repair import repaired
from tests.integration.conftest import Tables
from tests.integration.test_rebuild import Sold, forget_all, own, rebuild, rebuilder, record, sell
from tests.ledgers import OTHER_QUOTA, QUOTA, TOMBSTONE_MS, Ledger, claim, open_ledger, quota_set


@pytest.fixture
async def ledger(valkey_url: str, program: str, records: Records) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program, owned=False) as opened:
        await own(opened, records)
        yield opened


@pytest.fixture
async def sold(ledger: Ledger, records: Records) -> Sold:
    """Something of everything, recorded."""
    of = await sell(ledger)
    await record(ledger, records)
    return of


async def reconcile(ledger: Ledger, records: Records) -> Reconciled:
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    reconciler = Reconciler(ledger.program, connection, ledger.journal, records, tombstone_ms=TOMBSTONE_MS)
    return await reconciler.run()


async def test_what_agrees_shows_no_drift(ledger: Ledger, records: Records, sold: Sold) -> None:
    comparison = await reconcile(ledger, records)
    assert comparison.drift == ()
    assert (comparison.compared, comparison.skipped) == (2, 0)
    assert (comparison.epoch, comparison.seq) == (1, (await ledger.connection.meta(5.0)).position.seq)
    assert sold.held.reservation_id


async def _lose_reservation(ledger: Ledger, sold: Sold) -> None:
    await ledger.client.hdel(keys.reservations(ledger.program), sold.group.reservation_id)


async def _forge_reservation(ledger: Ledger, sold: Sold) -> None:
    packed = await ledger.client.hget(keys.reservations(ledger.program), sold.group.reservation_id)
    await ledger.client.hset(keys.reservations(ledger.program), "forged", packed)


async def _change_reservation(ledger: Ledger, sold: Sold) -> None:
    key = keys.reservations(ledger.program)
    fields = msgpack.unpackb(await ledger.client.hget(key, sold.group.reservation_id))
    await ledger.client.hset(key, sold.group.reservation_id, msgpack.packb(["h", *fields[1:]], use_bin_type=False))


async def _lose_person(ledger: Ledger, sold: Sold) -> None:
    await ledger.client.hdel(keys.persons(ledger.program), sold.group.persons[1])


async def _add_person(ledger: Ledger, sold: Sold) -> None:
    await ledger.client.hset(keys.persons(ledger.program), "somebody", sold.released.reservation_id)


async def _count_one_less(ledger: Ledger, _: Sold) -> None:
    stored: Any = await ledger.client.hget(keys.quotas(ledger.program), QUOTA)
    held = int.from_bytes(stored[:4], "big") - 1
    await ledger.client.hset(keys.quotas(ledger.program), QUOTA, held.to_bytes(4, "big") + stored[4:])


async def _lose_quota(ledger: Ledger, _: Sold) -> None:
    await ledger.client.hdel(keys.quotas(ledger.program), OTHER_QUOTA)


async def _lose_timers(ledger: Ledger, _: Sold) -> None:
    await ledger.client.delete(keys.timers(ledger.program))


async def _lose_opening(ledger: Ledger, _: Sold) -> None:
    await ledger.client.hdel(keys.openings(ledger.program), "p-1")


async def _lose_tombstone(ledger: Ledger, sold: Sold) -> None:
    await ledger.client.hdel(keys.reservations(ledger.program), sold.released.reservation_id)


@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        (_lose_reservation, {"reservations"}),
        (_forge_reservation, {"reservations"}),
        (_change_reservation, {"reservations"}),
        (_lose_person, {"persons"}),
        (_add_person, {"persons"}),
        (_count_one_less, {"counts"}),
        (_lose_quota, {"quotas"}),
        (_lose_timers, {"timers"}),
        (_lose_opening, {"openings"}),
        (_lose_tombstone, {"tombstones"}),
    ],
)
async def test_damage_is_named_by_its_kind_and_mended_by_a_rebuild(
    ledger: Ledger,
    records: Records,
    sold: Sold,
    damage: Callable[[Ledger, Sold], Awaitable[None]],
    kinds: set[str],
) -> None:
    await damage(ledger, sold)
    comparison = await reconcile(ledger, records)
    assert {kind for kind, count in comparison.kinds.items() if count} == kinds
    assert all(drift.repairable for drift in comparison.drift)
    assert DRIFT.labels(ledger.program, min(kinds))._value.get() == comparison.kinds[min(kinds)]
    report = await rebuild(ledger, records, force=True)
    assert (report.rebuilt, report.lost) == (True, 0)
    assert (await reconcile(ledger, records)).drift == ()
    assert DRIFT.labels(ledger.program, min(kinds))._value.get() == 0


async def _break_reservation(ledger: Ledger, sold: Sold) -> None:
    key = keys.reservations(ledger.program)
    stored: Any = await ledger.client.hget(key, sold.held.reservation_id)
    await ledger.client.hset(key, sold.held.reservation_id, bytes([stored[0] ^ 0x40]) + stored[1:])


async def _cut_quota(ledger: Ledger, _: Sold) -> None:
    stored: Any = await ledger.client.hget(keys.quotas(ledger.program), QUOTA)
    await ledger.client.hset(keys.quotas(ledger.program), QUOTA, stored[:20])


async def _break_facts(ledger: Ledger, _: Sold) -> None:
    await ledger.client.hset(keys.facts(ledger.program), QUOTA, b"\xc1")


async def _break_opening(ledger: Ledger, _: Sold) -> None:
    await ledger.client.hset(keys.openings(ledger.program), "p-1", b"\x91\xc0")


async def _break_timer(ledger: Ledger, _: Sold) -> None:
    await ledger.client.zadd(keys.timers(ledger.program), {b"\xff\xfe": 0})


async def _break_person(ledger: Ledger, sold: Sold) -> None:
    await ledger.client.hset(keys.persons(ledger.program), sold.group.persons[0], b"\xff\x00")


async def _change_type(ledger: Ledger, key: str) -> None:
    await ledger.client.delete(key)
    await ledger.client.set(key, "something else")


async def _change_type_of_timers(ledger: Ledger, _: Sold) -> None:
    await _change_type(ledger, keys.timers(ledger.program))


async def _change_type_of_persons(ledger: Ledger, _: Sold) -> None:
    await _change_type(ledger, keys.persons(ledger.program))


async def _change_type_of_reservations(ledger: Ledger, _: Sold) -> None:
    await _change_type(ledger, keys.reservations(ledger.program))


@pytest.mark.parametrize(
    "damage",
    [
        _break_reservation, _cut_quota, _break_facts, _break_opening, _break_timer, _break_person,
        _change_type_of_timers, _change_type_of_persons, _change_type_of_reservations,
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_drift_and_is_repaired(
    ledger: Ledger, records: Records, sold: Sold, damage: Callable[[Ledger, Sold], Awaitable[None]]
) -> None:
    await damage(ledger, sold)
    comparison = await reconcile(ledger, records)
    assert comparison.kinds["unreadable"] == 1
    assert DRIFT.labels(ledger.program, "unreadable")._value.get() == 1
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    reconciler = Reconciler(ledger.program, connection, ledger.journal, records, tombstone_ms=TOMBSTONE_MS)
    repair = await repaired(reconciler, rebuilder(ledger, records))
    assert (repair.drift, repair.lost) == ((), 0)
    assert repair.repaired >= 1
    assert (await ledger.one(Confirm(reservation_id=sold.held.reservation_id))).outcome.value == "confirmed"


@pytest.mark.usefixtures("sold")
async def test_what_is_wrong_in_the_records_is_named_and_not_for_a_rebuild(
    ledger: Ledger, records: Records, tables: Tables
) -> None:
    await tables.rows("UPDATE quotas SET booked = booked + 1 WHERE capacity = 30")
    await tables.rows("DELETE FROM journal WHERE first_seq = (SELECT min(first_seq) FROM journal WHERE first_seq > 3)")
    comparison = await reconcile(ledger, records)
    assert {"bookings", "gaps"} <= comparison.kinds.keys()
    assert not any(drift.repairable for drift in comparison.drift if drift.kind in ("bookings", "gaps"))


@pytest.mark.usefixtures("sold")
async def test_a_ledger_that_is_not_owned_is_drift(ledger: Ledger, records: Records) -> None:
    await forget_all(ledger)
    comparison = await reconcile(ledger, records)
    assert [(drift.kind, drift.ledger) for drift in comparison.drift] == [("ledger", "behind")]


async def test_who_waited_for_their_turn_to_repair_judges_what_is_there_then(
    ledger: Ledger, records: Records, sold: Sold
) -> None:
    """Another one is halfway through a rebuild, which is all drift to who looks."""
    await _lose_reservation(ledger, sold)
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    looking = Reconciler(ledger.program, connection, ledger.journal, records, tombstone_ms=TOMBSTONE_MS)
    first, second = rebuilder(ledger, records), rebuilder(ledger, records)
    waiting: list[asyncio.Task[Reconciled]] = []

    def halfway(_loaded: int, _total: int) -> None:
        if not waiting:
            waiting.append(asyncio.create_task(repaired(looking, second)))

    async with first.alone():
        report = await first.run_alone(force=True, progress=halfway)
        (task,) = waiting
        assert not task.done()
        assert (await reconcile(ledger, records)).drift == ()
    comparison = await task
    assert (comparison.drift, comparison.repaired, comparison.epoch) == ((), 0, report.epoch)
    with pytest.raises(LedgerMoved):
        async with first.alone():
            await repaired(looking, second, wait_s=0)


async def test_a_rebuild_while_the_ledger_is_read_is_no_drift(
    ledger: Ledger, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sell(ledger)
    await record(ledger, records)
    read, rebuilt = Holdings.read, list[int]()

    async def interrupted(journal: Journal) -> Holdings:
        holdings = await read(journal)
        if not rebuilt:
            rebuilt.append((await rebuild(ledger, records, force=True)).epoch)
            return Holdings({}, {})  # as if it had been read while the ledger was empty
        return holdings

    monkeypatch.setattr(Holdings, "read", interrupted)
    comparison = await reconcile(ledger, records)
    assert (comparison.drift, comparison.epoch) == ((), rebuilt[0])


@pytest.mark.usefixtures("sold")
async def test_a_busy_program_shows_no_drift(ledger: Ledger, records: Records) -> None:
    """Sold, confirmed, given back and swept all the while, and recorded by a real recorder."""
    await ledger.one(quota_set("p.kanim.baru.20261201.1100.online", 500, return_min_ms=1, return_max_ms=30))
    recorder = Recorder(ledger.program, records, ledger.journal, booking_code=str.upper, events_max=200, block_ms=5)
    stop = asyncio.Event()

    async def crowd() -> None:
        claims: list[Claim] = []
        while not stop.is_set():
            claims.append(claim(2, "p.kanim.baru.20261201.1100.online"))
            ids = [each.reservation_id for each in claims[-9:]]
            commands: list[Command] = [
                claims[-1],
                Confirm(reservation_id=ids[len(ids) // 2]),
                Release(reservation_id=ids[len(ids) // 3], actor="staff:ani", reason="a double booking"),
                Cancel(reservation_id=ids[0], by_staff=True, actor="cli:root"),
                Sweep(items_max=10),
            ]
            await ledger.run(*commands)
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(crowd()), asyncio.create_task(recorder.run(stop))]
    try:
        for _ in range(10):
            comparison = await reconcile(ledger, records)
            assert comparison.drift == ()
        assert comparison.seq > 50
    finally:
        stop.set()
        await asyncio.gather(*tasks)
