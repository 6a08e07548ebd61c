"""Records that were restored from an older copy are detected, and completed from the ledger."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reservasi.contents import DIGEST_ONLY, reference_digest
from reservasi.errors import RebuildRefused
from reservasi.ledger import keys
from reservasi.ledger.journal.stream import START
from reservasi.ledger.wire import stored_forms
from reservasi.ledger.wire.recorded_word import RecordedWord
from reservasi.model import Cancel, Command, Confirm, Outcome, Position, Release, Retire, SetQuota, Sweep
from reservasi.records import EpochRow, Records
from reservasi.worker.at_stake import count_at_stake
from reservasi.worker.ledger_owner import Ownership, proves_old_copy
from tests.integration.conftest import Tables
from tests.integration.dumps import Copy, age, goes_on, rebuilds_as_it_is, restore, sell_more, verdict, whole
from tests.integration.test_rebuild import (
    evidence,
    fill,
    forget_all,
    own,
    record,
    regardless_of_epoch,
    sell,
)
from tests.integration.test_reconcile import reconcile
from tests.ledgers import (
    HOUR_MS,
    OTHER_QUOTA,
    QUOTA,
    Ledger,
    claim,
    open_ledger,
    opening_set,
    quota_set,
)

pytestmark = pytest.mark.any_server


@pytest.fixture
async def ledger(valkey_url: str, program: str, records: Records) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program, owned=False) as opened:
        await own(opened, records)
        yield opened


@pytest.fixture
async def copy(database: str, records: Records) -> Copy:
    """Of this test's database; nothing is taken yet."""
    assert await records.programs() is not None
    return Copy(database)


async def test_records_from_an_older_dump_are_recorded_anew(
    ledger: Ledger, records: Records, copy: Copy, tables: Tables
) -> None:
    sold = await sell(ledger)
    await record(ledger, records)
    await copy.take()
    await ledger.run(Release(reservation_id=sold.held.reservation_id), Cancel(reservation_id=sold.group.reservation_id))
    more = await sell_more(ledger)
    tip = await age(ledger, records, margin=0)
    before, rows = await evidence(ledger), await whole(tables)
    await copy.put_back()
    assert await verdict(ledger, records) is Ownership.RECORDS_OLD
    report = await restore(ledger, records)
    assert (report.restored, report.seq, report.epoch) == (True, tip.seq, tip.epoch + 1)
    assert (report.bookings, report.holds, report.left_out) == (2, 1, 0)
    after = await whole(tables)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
    assert (await reconcile(ledger, records)).drift == ()
    assert after["quotas"] == rows["quotas"]
    assert after["applicants"] == rows["applicants"]
    assert [row[1:4] for row in after["bookings"]] == [row[1:4] for row in rows["bookings"]]
    booking = await records.booking(more["paid"])
    assert booking is not None
    assert (booking.booking_code, booking.state) == (more["paid"].upper(), "confirmed")
    assert booking.payment_reference == DIGEST_ONLY + reference_digest("PAY-7")
    assert await records.lacking(ledger.program, more["paid"]) == ("envelope", "payment_reference", "times")
    await goes_on(ledger, records)
    await rebuilds_as_it_is(ledger, records)


async def test_a_hold_that_ends_after_it_was_recorded_anew_is_remembered(
    ledger: Ledger, records: Records, copy: Copy
) -> None:
    """The journal has forgotten how it began; a rebuild would forget its id, and another claim would be made of it."""
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    more = await sell_more(ledger)
    await age(ledger, records, margin=0)
    await copy.put_back()
    await restore(ledger, records)
    assert (await ledger.one(Release(reservation_id=more["held"]))).outcome is Outcome.RELEASED
    await record(ledger, records)
    await rebuilds_as_it_is(ledger, records)


async def test_restored_twice_it_is_recorded_anew_twice(ledger: Ledger, records: Records, copy: Copy) -> None:
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    await sell_more(ledger)
    await age(ledger, records, margin=0)
    for _ in range(2):
        await copy.put_back()
        report = await restore(ledger, records)
        assert (report.restored, report.bookings) == (True, 2)
        assert (await reconcile(ledger, records)).drift == ()
    again = await restore(ledger, records)
    assert (again.found, again.restored) == (Ownership.OWNED, False)
    later = await sell_more(ledger)
    await age(ledger, records, margin=0)
    await copy.put_back()
    assert (await restore(ledger, records)).bookings == 4
    assert await records.booking(later["booked"]) is not None
    await goes_on(ledger, records)


async def test_a_dump_from_before_other_epochs(ledger: Ledger, records: Records, copy: Copy) -> None:
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    for _ in range(3):
        await sell_more(ledger)
        await record(ledger, records)
        await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'0' * 40}")
        assert await own(ledger, records) is Ownership.OWNED
    await sell_more(ledger)
    await age(ledger, records, margin=3)
    epochs = [(row.epoch, row.base_seq) for row in await records.epochs(ledger.program)]
    rows = await records.booking_ids(ledger.program)
    await copy.put_back()
    assert await verdict(ledger, records) is Ownership.RECORDS_OLD
    report = await restore(ledger, records)
    assert report.epoch == 5
    restored = [(row.epoch, row.base_seq) for row in await records.epochs(ledger.program)]
    assert restored == [*epochs, (5, report.seq)]
    assert await records.booking_ids(ledger.program) == rows
    assert (await reconcile(ledger, records)).drift == ()
    await goes_on(ledger, records)


async def test_what_the_journal_still_has_is_whole(
    ledger: Ledger, records: Records, copy: Copy, tables: Tables
) -> None:
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    for _ in range(4):
        await ledger.one(claim())
    await record(ledger, records)
    gone = (await records.position(ledger.program) or START).seq
    more = await sell_more(ledger)
    tip = await record(ledger, records)
    audit = await tables.rows("SELECT * FROM audit ORDER BY seq")
    kept = await records.booking(more["paid"])
    await age(ledger, records, margin=tip.seq - gone)
    await copy.put_back()
    report = await restore(ledger, records)
    assert (report.without_envelope, report.gap) == (3, 3)  # the fourth claim's entry is there as well
    assert await records.lacking(ledger.program, more["paid"]) == ()
    assert await records.booking(more["paid"]) == kept
    assert await tables.rows("SELECT * FROM audit ORDER BY seq") == audit
    assert (await reconcile(ledger, records)).drift == ()


async def test_only_the_program_whose_records_are_old_is_touched(
    valkey_url: str, ledger: Ledger, records: Records, copy: Copy, tables: Tables
) -> None:
    await sell(ledger)
    await record(ledger, records)
    async with open_ledger(valkey_url, "batam", owned=False) as other:
        await own(other, records)
        await other.run(quota_set(), claim())
        await record(other, records)
        await copy.take()
        await sell_more(ledger)
        await age(ledger, records, margin=0)
        await other.one(claim())
        await copy.put_back()
        assert await verdict(other, records) is Ownership.OWNED
        assert await verdict(ledger, records) is Ownership.RECORDS_OLD
        assert (await restore(ledger, records)).bookings == 2
        before = await tables.rows("SELECT * FROM holds WHERE program = 'batam'")
        assert len(before) == 1
        report = await restore(other, records)
        assert (report.found, report.restored) == (Ownership.OWNED, False)
        await record(other, records)
        for each in (ledger, other):
            assert (await reconcile(each, records)).drift == ()


class Stopped(Exception):
    """As if the process had been killed there."""


@pytest.mark.parametrize("step", ["read", "write", "commit", "publish"])
async def test_interrupted_anywhere_it_has_one_effect(
    ledger: Ledger, records: Records, copy: Copy, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(copy.dsn)
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    more = await sell_more(ledger)
    await age(ledger, records, margin=0)
    await copy.put_back()
    before = await tables.everything()

    async def stop(*_: Any, **__: Any) -> None:
        raise Stopped

    where = {
        "read": "reservasi.worker.restoration.read_state",
        "write": "reservasi.records.restoration._note",
        "commit": "reservasi.worker.restoration.own_ledger",
        "publish": "reservasi.ledger.journal.stream.Journal.publish_recorded",
    }
    with monkeypatch.context() as patched:
        patched.setattr(where[step], stop)
        with pytest.raises(Stopped):
            await restore(ledger, records)
    if step in ("read", "write"):
        assert await tables.everything() == before
        assert (await ledger.raw("claim", [[]]))[0] == "fenced"
    report = await restore(ledger, records)
    assert report.restored == (step in ("read", "write"))
    assert (await records.booking(more["booked"])) is not None
    assert await tables.rows("SELECT count(*) FROM restorations") == [(1,)]
    assert (await reconcile(ledger, records)).drift == ()
    await goes_on(ledger, records)


async def test_two_at_once_do_it_once(valkey_url: str, ledger: Ledger, records: Records, copy: Copy) -> None:
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    await sell_more(ledger)
    await age(ledger, records, margin=0)
    await copy.put_back()
    async with open_ledger(valkey_url, ledger.program, owned=False) as other:
        reports = await asyncio.gather(restore(ledger, records), restore(other, records))
    assert sorted(report.restored for report in reports) == [False, True]
    assert (await reconcile(ledger, records)).drift == ()


async def test_records_that_are_ahead_or_another_history_are_refused(
    ledger: Ledger, records: Records, copy: Copy, tables: Tables
) -> None:
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    await sell_more(ledger)
    await age(ledger, records, margin=0)
    await copy.put_back()
    await tables.rows("UPDATE bookings SET fingerprint = 'another'")
    before = await tables.everything()
    with pytest.raises(RebuildRefused, match="another history"):
        await restore(ledger, records)
    assert await tables.everything() == before
    await copy.put_back()
    await tables.rows("UPDATE epochs SET base_seq = 3")
    assert await verdict(ledger, records) is Ownership.DIVERGED
    with pytest.raises(RebuildRefused, match="not an older copy"):
        await restore(ledger, records)
    await copy.put_back()
    await restore(ledger, records)
    await forget_all(ledger)
    assert await verdict(ledger, records) is Ownership.BEHIND
    with pytest.raises(RebuildRefused, match="not an older copy"):
        await restore(ledger, records)


@pytest.mark.parametrize(
    ("epochs", "recorded", "word", "is_old"),
    [
        ([(1, 0)], (1, 5), (1, 9, [(1, 0)]), True),
        ([], (0, 0), (1, 9, [(1, 0)]), True),
        ([(1, 0)], (1, 5), (2, 9, [(1, 0), (2, 7)]), True),
        ([(1, 0)], (1, 8), (2, 9, [(1, 0), (2, 7)]), False),  # it went on where the next one had branched off
        ([(1, 0)], (1, 9), (1, 9, [(1, 0)]), False),
        ([(1, 0)], (1, 10), (1, 9, [(1, 0)]), False),
        ([(1, 0), (2, 4)], (2, 5), (3, 9, [(1, 0), (2, 6), (3, 6)]), True),  # 2 was never taken up
        ([(1, 0), (2, 4)], (2, 5), (3, 9, [(1, 0), (2, 3), (3, 6)]), False),
        ([(1, 0), (2, 4)], (1, 3), (3, 9, [(1, 0), (3, 6)]), False),  # nobody knows of 2
        ([(1, 0), (4, 9)], (1, 5), (3, 9, [(1, 0), (3, 6)]), True),  # claimed, and nothing was recorded of it
        ([(7, 2)], (7, 5), (9, 50, [(8, 20), (9, 30)]), True),  # the word names the latest only
        ([(1, 0)], (1, 5), (5, 9, [(1, 0)]), False),  # of a ledger that is elsewhere
        ([(1, 0)], (1, 5), (1, 500, [(1, 0)]), False),
        ([(1, 0)], (1, 5), None, False),
    ],
)
def test_what_proves_that_records_are_an_older_copy(
    epochs: list[tuple[int, int]], recorded: tuple[int, int], word: Any, is_old: bool
) -> None:
    rows = [EpochRow(epoch=epoch, base_seq=base_seq, run_id="r") for epoch, base_seq in epochs]
    stored = word and RecordedWord(epoch=word[0], seq=word[1], lineage=tuple(word[2]))
    at = Position(epoch=recorded[0], seq=recorded[1])
    assert proves_old_copy(stored, at, rows, Position(epoch=9 if word and word[0] == 9 else 4, seq=100)) is is_old


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happened_the_rows_are_what_they_were(
    ledger: Ledger, records: Records, copy: Copy, tables: Tables, seed: int
) -> None:
    """Drawn changes before and after the copy, some of which the journal has forgotten: against the rows of before."""
    dice = random.Random(seed)
    people = [f"person-{number}" for number in range(12)]
    quick = {"hold_ms": 30, "return_min_ms": 5, "return_max_ms": 60}
    slow = {"return_min_ms": HOUR_MS, "return_max_ms": 2 * HOUR_MS}
    await ledger.run(quota_set(QUOTA, 30, **slow), quota_set(OTHER_QUOTA, 30, **quick))
    ids: list[str] = []

    async def change(times: int) -> None:
        for _ in range(times):
            wanted = claim(dice.sample(people, dice.randint(1, 3)), dice.choice([QUOTA, OTHER_QUOTA]))
            ids.append(wanted.reservation_id)
            one = dice.choice(ids)
            commands: list[Command] = [
                wanted,
                wanted,
                Confirm(reservation_id=one, payment_reference=dice.choice(["", f"PAY-{one}"])),
                Confirm(reservation_id=wanted.reservation_id if dice.random() < 0.1 else one),
                Release(reservation_id=one),
                Cancel(reservation_id=one, actor="cli:op", reason="asked"),
                Sweep(items_max=100),
                SetQuota(quota=QUOTA, capacity=30 + len(ids)),
            ]
            await ledger.one(dice.choice(commands))
            if dice.random() < 0.03:  # the server starts anew
                await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'0' * 40}")
                assert await own(ledger, records) is Ownership.OWNED

    await change(dice.randint(0, 60))
    await record(ledger, records)
    await copy.take()
    await change(dice.randint(20, 120))
    await ledger.one(Sweep(items_max=100))
    await age(ledger, records, margin=dice.choice([0, 3, 10]))
    rows = await whole(tables)
    await copy.put_back()
    if await verdict(ledger, records) is Ownership.RECORDS_OLD:
        await restore(ledger, records)
    else:
        await record(ledger, records)
    assert (await reconcile(ledger, records)).drift == ()
    restored = await whole(tables)
    assert restored["quotas"] == rows["quotas"]
    assert restored["applicants"] == rows["applicants"]
    assert [row[:6] + row[7:] for row in restored["holds"]] == [row[:6] + row[7:] for row in rows["holds"]]
    assert restored["bookings"] == rows["bookings"]
    await goes_on(ledger, records)
    await rebuilds_as_it_is(ledger, records)


PAST = "p.kanim.baru.20200106.0800.online"


async def test_what_retired_and_what_was_forgotten_meanwhile(
    ledger: Ledger, records: Records, copy: Copy, tables: Tables
) -> None:
    """Quotas and openings that left the ledger, bookings that ended and of which it has no tombstone any more."""
    past = {"date": "2020-01-06", "start": "08:00", "end": "09:00"}
    before, between, cancelled, forgotten, dropped = claim(quota=PAST), claim(quota=PAST), claim(), claim(), claim()
    await ledger.run(quota_set(PAST, 9, **past), quota_set(), opening_set("p-9", ends_at_ms=4_100_000_000_000))
    early = (before, cancelled, dropped)
    await ledger.run(*early, *(Confirm(reservation_id=each.reservation_id) for each in early))
    await record(ledger, records)
    await copy.take()
    await ledger.run(between, forgotten)
    await ledger.run(*(Confirm(reservation_id=each.reservation_id) for each in (between, forgotten)))
    await ledger.run(*(Cancel(reservation_id=each.reservation_id) for each in (cancelled, forgotten, dropped)))
    await ledger.until(await ledger.now_ms() + 5)
    await ledger.one(Sweep(items_max=100), tombstone_ms=1)
    ends_at_ms = 1_578_276_000_000
    ids = (before.reservation_id, between.reservation_id)
    retired = await ledger.one(Retire(quota=PAST, ends_at_ms=ends_at_ms, reservations=ids))
    assert retired.outcome is Outcome.RETIRED
    again = claim(list(cancelled.persons), reservation_id=cancelled.reservation_id)  # the key of before, used anew
    await ledger.run(again, Confirm(reservation_id=again.reservation_id))
    await age(ledger, records, margin=0)
    rows = await whole(tables)
    await copy.put_back()
    assert await verdict(ledger, records) is Ownership.RECORDS_OLD
    await restore(ledger, records)
    assert (await reconcile(ledger, records)).drift == ()
    restored = await whole(tables)
    retired_at = [row for row in restored["quotas"] if row[1] == PAST]
    assert len(retired_at) == 1
    kept = [row for row in rows["bookings"] if row[1] != forgotten.reservation_id]
    assert [row[:8] for row in restored["bookings"]] == [row[:8] for row in kept]
    assert [row for row in restored["applicants"] if row[-1]] == [row for row in rows["applicants"] if row[-1]]
    for each in (before, between):
        booking = await records.booking(each.reservation_id)
        assert booking is not None
        assert booking.retired_at_ms
    await goes_on(ledger, records)


async def test_ten_thousand_changes_beyond_the_margin(ledger: Ledger, records: Records, copy: Copy) -> None:
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    await fill(ledger, records, 7000)
    tip = await record(ledger, records)
    await ledger.journal.publish_recorded(tip, epochs=[(1, 0)])
    await ledger.journal.trim(tip)
    booked = await records.booking_ids(ledger.program)
    assert len(booked) == 3501
    await copy.put_back()
    assert (await count_at_stake(ledger.program, ledger.journal, records)).confirmed == 3500
    report = await restore(ledger, records)
    assert (report.bookings, report.holds) == (3500, 3500)
    assert 0 < report.without_envelope < 7000
    assert await records.booking_ids(ledger.program) == booked
    assert (await reconcile(ledger, records)).drift == ()
    await goes_on(ledger, records)
