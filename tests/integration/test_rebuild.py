"""A ledger that is gone, old or half loaded is rebuilt from real records, and sells what is left and nothing twice."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from loadtest.evidence import LedgerEvidence, read_database, read_ledger
from loadtest.replay import journal_violations
from loadtest.rules import database_violations
from reservasi.ledger import keys, stored
from reservasi.ledger.recorded import RecordedPositions
from reservasi.model import (
    Admit,
    Cancel,
    Claim,
    Command,
    Confirm,
    Find,
    Join,
    Outcome,
    Position,
    Release,
    SetQuota,
    Sweep,
)
from reservasi.rebuild import Rebuilder, RebuildReport
from reservasi.records import Records
from reservasi.recovery import Ownership, own_ledger
from tests.ledgers import HOUR_MS, OTHER_QUOTA, QUOTA, TOMBSTONE_MS, Ledger, claim, open_ledger, opening_set, quota_set


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


def rebuilder(ledger: Ledger, records: Records) -> Rebuilder:
    return Rebuilder(
        ledger.program,
        ledger.connection,
        ledger.journal,
        records,
        booking_code=str.upper,
        tombstone_ms=TOMBSTONE_MS,
    )


async def rebuild(ledger: Ledger, records: Records, **options: Any) -> RebuildReport:
    return await rebuilder(ledger, records).run(**options)


async def forget_all(ledger: Ledger) -> None:
    """As FLUSHALL would, but for this program only: others share the server."""
    found = [key async for key in ledger.client.scan_iter(match=f"{{{ledger.program}}}*", count=1000)]
    await ledger.client.delete(*found)


async def restore(ledger: Ledger, copy: dict[bytes, bytes | None]) -> None:
    """A copy of the ledger put back, under another run of the server."""
    await forget_all(ledger)
    for key, value in copy.items():
        await ledger.client.restore(key, 0, value or b"")
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored.FORM}:{'0' * 40}")


async def evidence(ledger: Ledger) -> LedgerEvidence:
    found = await read_ledger(ledger.url, ledger.program)
    assert found is not None, "it is fenced"
    return found


def regardless_of_epoch(found: LedgerEvidence) -> LedgerEvidence:
    """And of the journal, which begins anew."""
    return msgspec.structs.replace(found, position=msgspec.structs.replace(found.position, epoch=0), journal=[])


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
    assert (report.quotas, report.openings, report.reservations, report.ended, report.returning) == (2, 1, 2, 3, 2)
    assert (report.lost, report.recorded_first) == (2, 0)
    after = await evidence(ledger)
    assert after.position == Position(epoch=2, seq=recorded.seq, chain=recorded.chain)
    assert regardless_of_epoch(after) == regardless_of_epoch(before)
    assert await own(ledger, records) is Ownership.OWNED
    assert sold.held.reservation_id in after.reservations


async def test_answers_after_a_rebuild_are_the_same(ledger: Ledger, records: Records) -> None:
    await own(ledger, records)
    sold = await sell(ledger)
    await record(ledger, records)
    asked: list[Command] = [
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
    before = [msgspec.structs.replace(answer, epoch=0, now_ms=0) for answer in await ledger.run(*asked)]
    await forget_all(ledger)
    await rebuild(ledger, records)
    after = await ledger.run(*asked)
    assert [msgspec.structs.replace(answer, epoch=0, now_ms=0) for answer in after] == before
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
    found = await evidence(ledger)
    quota = found.quotas[QUOTA]
    assert quota.remaining == 0
    told = await read_database(database, ledger.program, found.position)
    assert not [*database_violations(found, told), *journal_violations(found, told)]
