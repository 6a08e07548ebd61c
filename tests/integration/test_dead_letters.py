"""Dead letters: recorded by a version that can read them, never over a later change, or settled."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from reservasi.errors import DamagedKey, RebuildRefused
from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal import entries
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.ledger.lua.library import read_library
from reservasi.model import Cancel, Confirm, Release, SetQuota
from reservasi.records import Letter, Records
from reservasi.worker import dead_letters
from reservasi.worker.dead_letters import TriedLetter
from reservasi.worker.reconciliation import Reconciler
from reservasi.worker.repair import repaired
from tests.integration.conftest import Tables
from tests.integration.test_rebuild import own, rebuild, rebuilder
from tests.integration.test_reconcile import reconcile
from tests.integration.test_unreadable_entries import record
from tests.ledgers import (
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


@pytest.fixture
async def ledger(valkey_url: str, program: str, records: Records) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program, owned=False) as opened:
        await own(opened, records)
        yield opened


async def record_without(ledger: Ledger, records: Records, *letters: str) -> list[int]:
    """What an older version records, which does not know these kinds of event."""
    with pytest.MonkeyPatch.context() as older:
        for letter in letters:
            older.delitem(entries._EVENT_DECODERS, letter)
        return await record(ledger, records)


async def retry(ledger: Ledger, records: Records) -> list[TriedLetter]:
    tried = dead_letters.retry(
        ledger.program, ledger.connection, ledger.journal, records, booking_code=str.upper, actor="cli:test"
    )
    return [each async for each in tried]


async def test_what_an_older_version_could_not_read_is_recorded_in_order(ledger: Ledger, records: Records) -> None:
    kept, ended, confirmed = claim(2), claim(), claim()
    await ledger.run(quota_set(), quota_set(OTHER_QUOTA), kept, ended, confirmed, opening_set())
    await ledger.run(
        Confirm(reservation_id=kept.reservation_id, payment_reference="paid"),
        Confirm(reservation_id=confirmed.reservation_id),
        Release(reservation_id=ended.reservation_id),
        Cancel(reservation_id=confirmed.reservation_id, by_staff=True, actor="cli:ani", reason="asked for"),
        SetQuota(quota=QUOTA, capacity=20),
    )
    dead = await record_without(ledger, records, "h", "c", "e", "q", "o")
    assert len(dead) == len({*dead}) == 11
    assert await records.dead_letter_count(ledger.program) == 11
    assert len(await records.dead_reservations(ledger.program)) == 3
    tried = await retry(ledger, records)
    assert [(each.seq, each.result, each.why) for each in tried] == [(seq, "recorded", "") for seq in dead]
    assert (await reconcile(ledger, records)).drift == ()
    assert await records.dead_letter_count(ledger.program) == 0
    assert await records.dead_reservations(ledger.program) == []
    assert await retry(ledger, records) == []
    closed = await records.dead_letters(ledger.program, closed=True, limit=100)
    assert {(each.outcome, each.closed_by) for each in closed} == {("recorded", "cli:test")}


async def test_what_nobody_can_read_yet_stays_open_and_keeps_nothing_back(ledger: Ledger, records: Records) -> None:
    held = claim()
    await ledger.run(quota_set(), held)
    unknown = await ledger.append(["z", "future-kind", 1])
    await ledger.one(Confirm(reservation_id=held.reservation_id))
    await record_without(ledger, records, "c")
    for _ in range(2):
        tried = {each.seq: each for each in await retry(ledger, records)}
        assert tried[unknown].result == "unreadable"
        assert tried[unknown].kind == "Unreadable 'z'"
        assert all(each.result == "recorded" for seq, each in tried.items() if seq != unknown)
    assert await records.count_bookings(ledger.program) == 1


async def test_an_old_change_of_a_quota_is_not_written_over_a_later_one(ledger: Ledger, records: Records) -> None:
    await ledger.run(quota_set(capacity=10))
    await record(ledger, records)
    await ledger.run(SetQuota(quota=QUOTA, capacity=11))
    await record_without(ledger, records, "q")
    await ledger.run(SetQuota(quota=QUOTA, capacity=12))
    await record(ledger, records)
    (tried,) = await retry(ledger, records)
    assert tried.result == "overtaken"
    row = await records.quota_row(ledger.program, QUOTA)
    assert row is not None
    assert row.terms.capacity == 12


async def test_the_end_of_a_hold_does_not_end_the_one_that_came_after_it(ledger: Ledger, records: Records) -> None:
    first = claim()
    await ledger.run(quota_set(), first)
    await record(ledger, records)
    await ledger.one(Release(reservation_id=first.reservation_id))
    await record_without(ledger, records, "e")
    assert (await rebuild(ledger, records, force=True, discard=True)).rebuilt, (
        "the hold lives again, since the records had it"
    )
    (tried,) = await retry(ledger, records)
    assert (tried.result, await records.count_holds(ledger.program)) == ("overtaken", 1)
    assert "rebuilt without it" in tried.why


async def test_a_hold_that_a_rebuild_forgot_is_not_given_back_its_place(ledger: Ledger, records: Records) -> None:
    await ledger.run(quota_set(capacity=1))
    await record(ledger, records)
    await ledger.one(claim())
    await record_without(ledger, records, "h")
    await rebuild(ledger, records, force=True, discard=True)
    await ledger.one(claim())
    await record(ledger, records)
    (tried,) = await retry(ledger, records)
    assert (tried.result, await records.count_holds(ledger.program)) == ("overtaken", 1)


@pytest.mark.parametrize("is_damaged", [False, True], ids=["owned", "damaged"])
async def test_what_open_letters_say_is_not_rebuilt_away(ledger: Ledger, records: Records, is_damaged: bool) -> None:
    await ledger.run(quota_set())
    await record(ledger, records)
    booked = claim()
    await ledger.run(booked, Confirm(reservation_id=booked.reservation_id))
    await record_without(ledger, records, "h", "c")
    if is_damaged:
        await ledger.client.hset(keys.meta(ledger.program), "seq", "x")
    before = await ledger.dump()
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    reconciler = Reconciler(ledger.program, connection, ledger.journal, records, tombstone_ms=TOMBSTONE_MS)
    with pytest.raises(RebuildRefused, match="reservasi dead-letters retry"):
        await rebuild(ledger, records, force=not is_damaged)
    with pytest.raises(RebuildRefused, match="reservasi dead-letters retry"):
        await repaired(reconciler, rebuilder(ledger, records))
    assert await ledger.dump() == before
    assert {each.result for each in await retry(ledger, records)} == {"recorded"}
    assert (await rebuild(ledger, records, force=True)).rebuilt
    assert (await reconcile(ledger, records)).drift == ()
    assert await records.count_bookings(ledger.program) == 1


async def settle_all(ledger: Ledger, records: Records) -> None:
    ids = [each.id for each in await records.dead_letters(ledger.program, limit=10)]
    await records.settle_dead_letters(ids, "cli:ani", "has it on paper")


@pytest.mark.parametrize("is_damaged", [False, True], ids=["owned", "damaged"])
async def test_what_settled_letters_say_is_rebuilt_away_only_when_told(
    ledger: Ledger, records: Records, is_damaged: bool
) -> None:
    await ledger.run(quota_set())
    await record(ledger, records)
    booked = claim()
    await ledger.run(booked, Confirm(reservation_id=booked.reservation_id))
    await record_without(ledger, records, "h", "c")
    await settle_all(ledger, records)
    if is_damaged:
        await ledger.client.hset(keys.meta(ledger.program), "seq", "x")
    before = await ledger.dump()
    with pytest.raises(RebuildRefused, match=f"{booked.reservation_id}.*rebuild --force --discard"):
        await rebuild(ledger, records, force=not is_damaged)
    assert await ledger.dump() == before
    assert (await rebuild(ledger, records, force=True, discard=True)).rebuilt
    assert (await rebuild(ledger, records, force=True)).rebuilt, "the ledger does without it by now"


async def test_a_settled_letter_of_a_quota_keeps_no_other_repair_back(ledger: Ledger, records: Records) -> None:
    held = claim()
    await ledger.run(quota_set(capacity=10), quota_set(OTHER_QUOTA), held)
    await record(ledger, records)
    await ledger.run(SetQuota(quota=OTHER_QUOTA, capacity=11))
    await record_without(ledger, records, "q")
    await settle_all(ledger, records)
    comparison = await reconcile(ledger, records)
    assert (comparison.kinds, comparison.settled) == ({"quotas": 1}, (OTHER_QUOTA,))
    with pytest.raises(RebuildRefused, match=OTHER_QUOTA):
        await rebuild(ledger, records, force=True)
    await ledger.run(SetQuota(quota=OTHER_QUOTA, capacity=12))
    await record(ledger, records)
    await ledger.client.hdel(keys.persons(ledger.program), *held.persons)
    comparison = await reconcile(ledger, records)
    assert (comparison.kinds, comparison.settled) == ({"persons": 1}, ())
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    reconciler = Reconciler(ledger.program, connection, ledger.journal, records, tombstone_ms=TOMBSTONE_MS)
    assert (await repaired(reconciler, rebuilder(ledger, records))).drift == ()


async def test_two_who_retry_at_once_record_each_letter_once(ledger: Ledger, records: Records) -> None:
    await ledger.run(quota_set(capacity=100), *(claim() for _ in range(30)))
    await record_without(ledger, records, "h")
    async with open_ledger(ledger.url, ledger.program, owned=False) as other:
        both = await asyncio.gather(retry(ledger, records), retry(other, records))
    recorded = sorted(each.seq for tried in both for each in tried if each.result == "recorded")
    assert recorded == list(range(2, 32))
    assert await records.count_holds(ledger.program) == 30


async def test_a_settled_letter_is_open_no_more_and_not_called_recorded(
    ledger: Ledger, records: Records, tables: Tables
) -> None:
    held = claim()
    await ledger.run(quota_set(), held)
    await record_without(ledger, records, "h")
    (letter,) = await records.dead_letters(ledger.program, limit=10)
    assert await records.settle_dead_letters([letter.id, 10**9], "cli:ani", "called them") == {
        letter.id: "open",
        10**9: None,
    }
    assert await records.settle_dead_letters([letter.id], "cli:budi", "again") == {letter.id: "settled"}
    assert await records.dead_letter_count(ledger.program) == 0
    assert await records.dead_reservations(ledger.program) == [held.reservation_id]
    (kept,) = await records.dead_letters(ledger.program, closed=True, limit=10)
    assert (kept.outcome, kept.closed_by, kept.reason) == ("settled", "cli:ani", "called them")
    assert kept.closed_at is not None
    assert await retry(ledger, records) == []
    assert len(await tables.rows("SELECT id FROM dead_letters WHERE outcome = 'settled'")) >= 1


async def test_fronts_hear_that_a_reservation_is_recorded_after_all(ledger: Ledger, records: Records) -> None:
    held = claim()
    await ledger.run(quota_set(), held)
    (seq,) = await record_without(ledger, records, "h")
    position = await records.position(ledger.program)
    assert position is not None
    await ledger.journal.publish_recorded(position, [held.reservation_id])
    positions = RecordedPositions(ledger.client)
    positions.follow(ledger.program)

    async def is_recorded() -> bool:
        return await positions.wait(ledger.program, position.epoch, seq, held.reservation_id, 0.01)

    async def is_known() -> bool:
        return await positions.wait(ledger.program, position.epoch, seq, "another", 0.01)

    try:
        await eventually(is_known)
        assert not await is_recorded()
        assert [each.result for each in await retry(ledger, records)] == ["recorded"]
        await eventually(is_recorded)
    finally:
        await positions.close()


@pytest.mark.parametrize("stored", [b"", b"null", b"[1]", b"\xff", b'{"epoch": 1}'])
async def test_fronts_hear_it_although_what_the_recorder_said_last_is_damaged(
    ledger: Ledger, records: Records, stored: bytes
) -> None:
    held = claim()
    await ledger.run(quota_set(), held)
    await record_without(ledger, records, "h")
    async with ledger.client.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe(keys.recorded_channel(ledger.program))
        await subscription.get_message(timeout=1)
        await ledger.client.hset(keys.recorded(ledger.program), keys.RECORDED_FIELD, stored)
        assert [each.result for each in await retry(ledger, records)] == ["recorded"]
        message: Any = await subscription.get_message(timeout=60)
        assert json.loads(message["data"]) == {
            "epoch": 0,
            "seq": 0,
            "epochs": [],
            "dead": [],
            "revived": [held.reservation_id],
        }


@pytest.mark.parametrize("key_of", [keys.recorded, keys.dead_letters])
async def test_a_word_of_another_type_keeps_nothing_from_being_recorded(
    ledger: Ledger, records: Records, key_of: Callable[[str], str]
) -> None:
    held = claim()
    await ledger.run(quota_set(), held)
    await record_without(ledger, records, "h")
    await ledger.client.delete(key_of(ledger.program))
    await ledger.client.lpush(key_of(ledger.program), "x")
    assert [each.result for each in await retry(ledger, records)] == ["recorded"]
    await ledger.one(claim())
    await record_without(ledger, records, "h")
    position, dead = await records.position(ledger.program), await records.dead_reservations(ledger.program)
    assert position is not None
    with pytest.raises(DamagedKey):
        await ledger.journal.publish_recorded(position, dead)
    await ledger.journal.publish_recorded(position, dead)
    assert await ledger.journal.dead_reservations() == set(dead)
    word = await ledger.journal.recorded_word()
    assert word is not None
    assert word.seq == position.seq


async def test_a_letter_of_an_earlier_version_is_read_as_it_was_kept(
    ledger: Ledger, records: Records, tables: Tables
) -> None:
    """Its fields by name, as they are kept of every event that could be read and not applied."""
    await ledger.run(quota_set(), claim())
    (letter,) = [each for each in [*await _letters(ledger, records)] if "Held" in each.event]
    assert dead_letters.kind_of(letter) == "Held"
    (tried,) = await retry(ledger, records)
    assert tried.result == "recorded"
    assert json.loads(letter.event)["persons"]


async def _letters(ledger: Ledger, records: Records) -> list[Letter]:
    """A hold met before its quota: it can be read, and does not fit."""
    await record_without(ledger, records, "q")
    for letter in await records.dead_letters(ledger.program, limit=1):
        await records.try_dead_letter(letter, dead_letters.event_of(letter), str.upper, "cli:test")
    return await records.dead_letters(ledger.program, limit=10)
