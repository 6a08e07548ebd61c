"""A count that was changed while a server was down is found and repaired when its ledger is owned again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reservasi.bootstrap.worker import open_worker
from reservasi.errors import RebuildRefused
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.wire import stored_forms
from reservasi.metrics import DRIFT
from reservasi.model import Confirm
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.settings import Settings
from reservasi.worker.drift_watch import DriftWatch, is_mended_by_rebuilding
from reservasi.worker.reconciliation import KINDS, Reconciled, Reconciler
from reservasi.worker.repair import repaired
from tests.any_server import NewLedgerServer
from tests.integration.test_dead_letters import record_without
from tests.integration.test_rebuild import SURABAYA, own, rebuild, rebuilder, record, sell
from tests.ledgers import QUOTA, TOMBSTONE_MS, Ledger, claim, eventually, open_ledger

INTERVAL_S = 300  # between two comparisons: far longer than these tests


@pytest.fixture
async def settings(ledger_server: NewLedgerServer, database: str, data_dir: Path) -> AsyncIterator[Settings]:
    """A server of its own, which a test may restart."""
    server = ledger_server(data_dir, 60)
    await server.start()
    yield Settings(redis_url=server.url, postgres_dsn=database, data_dir=data_dir, reconcile_interval_s=INTERVAL_S)
    await server.stop()


@pytest.fixture
async def ledger(settings: Settings, program: str, records: Records) -> AsyncIterator[Ledger]:
    """Something of everything, recorded; no worker runs."""
    await records.save_program(msgspec.structs.replace(read_program(SURABAYA), id=program))
    async with open_ledger(settings.redis_url or "", program, owned=False) as opened:
        await own(opened, records)
        await sell(opened)
        await record(opened, records)
        yield opened


async def count_less(ledger: Ledger, places: int) -> None:
    """A quota that would be sold from again: fewer places held than there are."""
    kept: Any = await ledger.client.hget(keys.quotas(ledger.program), QUOTA)
    held = int.from_bytes(kept[:4], "big") - places
    await ledger.client.hset(keys.quotas(ledger.program), QUOTA, held.to_bytes(4, "big") + kept[4:])


async def restart(ledger: Ledger) -> None:
    """As if another run of the server had been owned last."""
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'0' * 40}")


async def epoch_of(ledger: Ledger) -> int:
    return (await ledger.connection.meta(5.0)).position.epoch


async def held(ledger: Ledger) -> int:
    kept: Any = await ledger.client.hget(keys.quotas(ledger.program), QUOTA)
    return int.from_bytes(kept[:4], "big") if kept else -1


async def test_a_count_that_is_wrong_after_a_restart_is_mended_at_once(ledger: Ledger, settings: Settings) -> None:
    before = await held(ledger)
    await count_less(ledger, 2)
    await restart(ledger)

    async def is_mended() -> bool:
        return await epoch_of(ledger) == 3 and await held(ledger) == before

    async with open_worker(settings):
        await eventually(is_mended)  # owned under epoch 2, and rebuilt under epoch 3
        await count_less(ledger, 1)
        await restart(ledger)  # while the worker runs

        async def is_mended_again() -> bool:
            return await epoch_of(ledger) == 5 and await held(ledger) == before

        await eventually(is_mended_again)


async def test_what_agrees_is_compared_once_and_left_alone(ledger: Ledger, settings: Settings) -> None:
    DRIFT.labels(ledger.program, "counts").set(7)
    await restart(ledger)

    async def is_compared() -> bool:
        return bool(DRIFT.labels(ledger.program, "counts")._value.get() == 0)

    async with open_worker(settings):
        await eventually(is_compared)
        assert await epoch_of(ledger) == 2


async def test_it_is_reported_and_left_to_a_person_where_that_is_wanted(ledger: Ledger, settings: Settings) -> None:
    before = await held(ledger)
    await count_less(ledger, 2)
    await restart(ledger)

    async def is_reported() -> bool:
        return bool(DRIFT.labels(ledger.program, "counts")._value.get() == 1)

    async with open_worker(settings.model_copy(update={"rebuild_automatically": False})):
        await eventually(is_reported)
    assert (await epoch_of(ledger), await held(ledger)) == (2, before - 2)


async def is_left_alone(ledger: Ledger, settings: Settings, kind: str) -> bool:
    """A worker starts, owns the ledger under epoch 2, sees the drift, and does not rebuild it."""
    DRIFT.labels(ledger.program, kind).set(0)
    await restart(ledger)

    async def is_reported() -> bool:
        return bool(DRIFT.labels(ledger.program, kind)._value.get())

    async with open_worker(settings):  # its end waits for a repair that has begun
        await eventually(is_reported)
    return await epoch_of(ledger) == 2


async def book_unrecorded(ledger: Ledger, records: Records) -> str:
    """A confirmed booking of which both changes became dead letters, and a person settled them."""
    booked = claim()
    await ledger.run(booked, Confirm(reservation_id=booked.reservation_id))
    assert len(await record_without(ledger, records, "h", "c")) == 2
    ids = [each.id for each in await records.dead_letters(ledger.program, limit=10)]
    await records.settle_dead_letters(ids, "cli:ani", "has it on paper")
    assert await records.dead_letter_count(ledger.program) == 0
    return booked.reservation_id


@pytest.mark.parametrize("gone", [False, True], ids=["reservation", "damaged"])
async def test_a_booking_whose_letters_were_settled_keeps_its_place(
    ledger: Ledger, records: Records, settings: Settings, gone: bool
) -> None:
    id_ = await book_unrecorded(ledger, records)
    if gone:
        await ledger.client.hset(keys.reservations(ledger.program), id_, b"\xc1")
    before = await ledger.client.hget(keys.reservations(ledger.program), id_)
    assert await is_left_alone(ledger, settings, "counts")
    assert await ledger.client.hget(keys.reservations(ledger.program), id_) == before
    with pytest.raises(RebuildRefused, match=f"{id_}.*rebuild --force --discard"):
        await repair(ledger, records)
    assert await epoch_of(ledger) == 2


async def test_letters_that_were_settled_of_what_is_over_keep_nothing_from_being_mended(
    ledger: Ledger, records: Records, settings: Settings
) -> None:
    await book_unrecorded(ledger, records)
    await rebuild(ledger, records, force=True, discard=True)
    before, epoch = await held(ledger), await epoch_of(ledger)
    await count_less(ledger, 2)
    await restart(ledger)

    async def is_mended() -> bool:
        return await epoch_of(ledger) == epoch + 2 and await held(ledger) == before

    async with open_worker(settings):
        await eventually(is_mended)


async def test_a_damaged_reservation_that_the_records_never_had_is_left_to_a_person(
    ledger: Ledger, records: Records, settings: Settings
) -> None:
    await ledger.client.hset(keys.reservations(ledger.program), "nobody-knows", b"\xc1")
    assert await is_left_alone(ledger, settings, "unreadable")
    assert await ledger.client.hget(keys.reservations(ledger.program), "nobody-knows") == b"\xc1"
    assert (await repair(ledger, records)).drift == ()


async def repair(ledger: Ledger, records: Records) -> Reconciled:
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    reconciler = Reconciler(ledger.program, connection, ledger.journal, records, tombstone_ms=TOMBSTONE_MS)
    return await repaired(reconciler, rebuilder(ledger, records))


def comparison(**kinds: int) -> Reconciled:
    return Reconciled(program="p", epoch=4, seq=9, kinds=kinds)


@pytest.mark.parametrize("kind", ["unrecorded", "bookings", "gaps", "dead-letters", "ledger"])
def test_records_that_lack_something_are_no_source_of_a_repair(kind: str) -> None:
    """A rebuild from them would forget what only the ledger knows."""
    assert kind in KINDS
    assert is_mended_by_rebuilding(comparison(counts=1, persons=2))
    assert not is_mended_by_rebuilding(comparison(**{"counts": 1, kind: 1}))
    assert not is_mended_by_rebuilding(comparison())


class Comparisons:
    """A reconciler that finds what it is told to, and how often it was asked."""

    def __init__(self, *results: Reconciled) -> None:
        self.results = list(results)
        self.runs = 0
        self.under_way = 0
        self.most = 0

    async def run(self) -> Reconciled:
        self.runs += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= 1
        return self.results[min(self.runs, len(self.results)) - 1]


def watch_of(comparisons: Comparisons, turn: asyncio.Lock, repair: Any = None) -> DriftWatch:
    reconciler: Any = comparisons
    return DriftWatch("p", reconciler, repair=repair, leads=lambda: True, turn=turn)


async def test_a_repair_that_does_not_help_is_not_tried_again() -> None:
    comparisons, repairs = Comparisons(comparison(counts=1)), 0

    async def repair() -> Reconciled:
        nonlocal repairs
        repairs += 1
        return msgspec.structs.replace(comparison(counts=1), epoch=5, repaired=1)

    watch = watch_of(comparisons, asyncio.Lock(), repair)
    stop = asyncio.Event()
    task = asyncio.create_task(watch.run(stop, 0))

    async def is_repaired() -> bool:
        watch.note_owned(4 + repairs)
        return repairs == 1

    await eventually(is_repaired)
    for _ in range(20):
        watch.note_owned(5)
        await asyncio.sleep(0)
    stop.set()
    await task
    assert (repairs, comparisons.runs) == (1, 1)


async def test_the_programs_of_a_worker_take_turns() -> None:
    comparisons, turn, stop = Comparisons(comparison()), asyncio.Lock(), asyncio.Event()
    watches = [watch_of(comparisons, turn) for _ in range(4)]
    tasks = [asyncio.create_task(each.run(stop, 0)) for each in watches]
    for each in watches:
        each.note_owned(4)

    async def are_compared() -> bool:
        return comparisons.runs == len(watches)

    await eventually(are_compared)
    stop.set()
    await asyncio.gather(*tasks)
    assert comparisons.most == 1


async def test_a_comparison_under_way_keeps_nobody_from_stopping() -> None:
    class Endless(Comparisons):
        async def run(self) -> Reconciled:
            self.runs += 1
            await asyncio.Event().wait()
            raise AssertionError

    comparisons, stop = Endless(), asyncio.Event()
    watch = watch_of(comparisons, asyncio.Lock())
    task = asyncio.create_task(watch.run(stop, 0))
    watch.note_owned(4)

    async def is_comparing() -> bool:
        return comparisons.runs == 1

    await eventually(is_comparing)
    stop.set()
    await asyncio.wait_for(task, 60)
