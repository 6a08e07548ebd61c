"""Records that were restored from an older copy are noticed, and a program is recorded anew from its ledger."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from reservasi.contents import DIGEST_ONLY, reference_digest
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.library import read_library
from reservasi.model import Cancel, Confirm, Outcome, Position, Release, SetQuota
from reservasi.records import Records
from reservasi.recovery import Ownership, compare_ledger
from reservasi.restoration import Restorer, RestoreReport
from tests.integration.test_rebuild import (
    evidence,
    forget_all,
    own,
    rebuild,
    rebuilder,
    record,
    regardless_of_epoch,
    sell,
)
from tests.integration.test_reconcile import reconcile
from tests.ledgers import QUOTA, TOMBSTONE_MS, Ledger, claim, open_ledger, quota_set

pytestmark = pytest.mark.any_server
TABLES = (
    "quotas", "openings", "holds", "bookings", "applicants", "journal", "positions", "epochs", "dead_letters", "audit",
    "restorations", "restored_reservations", "restored_events",
)  # fmt: skip


@pytest.fixture
async def ledger(valkey_url: str, program: str, records: Records) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program, owned=False) as opened:
        await own(opened, records)
        yield opened


class Copy:
    """The records as they were at a moment, to be put back: what a restored dump does."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.rows: dict[str, list[Any]] = {}

    async def take(self) -> "Copy":
        connection = await asyncpg.connect(self.dsn)
        try:
            async with connection.transaction(isolation="repeatable_read"):
                for table in TABLES:
                    self.rows[table] = await connection.fetch(f"SELECT t::text FROM {table} t")
        finally:
            await connection.close()
        return self

    async def put_back(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            async with connection.transaction():
                await connection.execute(f"TRUNCATE {', '.join(TABLES)}")
                for table, rows in self.rows.items():
                    if rows:
                        await connection.execute(
                            f"INSERT INTO {table} SELECT (one.of).* FROM (SELECT unnest($1::text[])::{table} AS of) AS one",
                            [row[0] for row in rows],
                        )
        finally:
            await connection.close()


@pytest.fixture
async def copy(database: str, records: Records) -> Copy:
    """Of this test's database; nothing is taken yet."""
    assert await records.programs() is not None
    return Copy(database)


async def restore(ledger: Ledger, records: Records) -> RestoreReport:
    restorer = Restorer(
        ledger.program,
        ledger.connection,
        ledger.journal,
        records,
        rebuilder(ledger, records),
        booking_code=str.upper,
        tombstone_ms=TOMBSTONE_MS,
    )
    return await restorer.run()


async def verdict(ledger: Ledger, records: Records) -> Ownership:
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    try:
        return (await compare_ledger(ledger.program, connection, ledger.journal, records)).verdict
    finally:
        await connection.drop()


async def sell_more(ledger: Ledger) -> dict[str, str]:
    """What people and staff do after the copy was taken; every kind of change. Reservations by what became of them."""
    claims = {name: claim() for name in ("held", "booked", "paid", "released", "cancelled")}
    answers = await ledger.run(SetQuota(quota=QUOTA, capacity=60, actor="cli:op", reason="more"), *claims.values())
    assert {answer.outcome for answer in answers[1:]} == {Outcome.HELD}
    await ledger.run(
        Confirm(reservation_id=claims["booked"].reservation_id),
        Confirm(reservation_id=claims["paid"].reservation_id, payment_reference="PAY-7"),
        Confirm(reservation_id=claims["cancelled"].reservation_id),
        Cancel(reservation_id=claims["cancelled"].reservation_id),
        Release(reservation_id=claims["released"].reservation_id),
        quota_set("p.kanim.baru.20261201.1000.online", 5),
    )
    return {name: each.reservation_id for name, each in claims.items()}


async def age(ledger: Ledger, records: Records, *, margin: int) -> Position:
    """Record all, and forget the journal but for its last `margin` changes, as the recorder does in time."""
    position = await record(ledger, records)
    epochs = [(row.epoch, row.base_seq) for row in await records.epochs(ledger.program)]
    await ledger.journal.publish_recorded(position, epochs=epochs)
    await ledger.journal.trim(position, margin=margin)
    return position


async def whole(tables: Any) -> dict[str, list[tuple[object, ...]]]:
    """The rows that say what is booked, but for what nobody can know again."""
    return {
        "quotas": await tables.rows("SELECT * FROM quotas ORDER BY program, id"),
        "holds": await tables.rows(
            "SELECT program, reservation_id, quota, places, deadline_ms, fingerprint, sealed, epoch, seq FROM holds "
            "ORDER BY reservation_id"
        ),
        "bookings": await tables.rows(
            "SELECT program, reservation_id, held_epoch, held_seq, booking_code, quota, places, state, deadline_ms, "
            "fingerprint, epoch, seq, retired_at_ms FROM bookings ORDER BY reservation_id, held_seq"
        ),
        "applicants": await tables.rows("SELECT * FROM applicants ORDER BY reservation_id, held_seq, position"),
        "positions": await tables.rows("SELECT program, epoch, seq, chain FROM positions"),
    }


async def test_records_from_an_older_dump_are_recorded_anew(
    ledger: Ledger, records: Records, copy: Copy, tables: Any
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


async def goes_on(ledger: Ledger, records: Records) -> None:
    """What is sold afterwards is recorded, and nothing differs."""
    wanted = claim()
    await ledger.run(wanted, Confirm(reservation_id=wanted.reservation_id))
    await record(ledger, records)
    booking = await records.booking(wanted.reservation_id)
    assert booking is not None
    assert (await reconcile(ledger, records)).drift == ()


async def rebuilds_as_it_is(ledger: Ledger, records: Records) -> None:
    """The records are whole again: a ledger that is lost comes back from them, with what it remembers of the ended."""
    before = await evidence(ledger)
    await forget_all(ledger)
    await rebuild(ledger, records)
    assert regardless_of_epoch(await evidence(ledger)) == regardless_of_epoch(before)
    assert (await reconcile(ledger, records)).drift == ()
