"""Puts records back to an older copy, like a restored dump, and compares the result."""

from typing import Any

import asyncpg

from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.lua.library import read_library
from reservasi.model import Cancel, Confirm, Outcome, Position, Release, SetQuota
from reservasi.records import Records
from reservasi.worker.ledger_owner import Ownership, compare_ledger
from reservasi.worker.restoration import Restorer, RestoreReport
from tests.integration.conftest import Tables
from tests.integration.test_rebuild import evidence, forget_all, rebuild, record, regardless_of_epoch, stores
from tests.integration.test_reconcile import reconcile
from tests.ledgers import QUOTA, Ledger, claim, quota_set

TABLES = (
    "quotas", "openings", "holds", "bookings", "applicants", "journal", "positions", "epochs", "dead_letters", "audit",
    "restorations", "restored_reservations", "restored_events",
)  # fmt: skip
PUT_BACK_TRIES = 10


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
        """Beside a service that runs, whose queries may lock the same tables in another order: then once more."""
        for last_try in (*[False] * (PUT_BACK_TRIES - 1), True):
            try:
                await self._put_back()
                return
            except asyncpg.DeadlockDetectedError:
                if last_try:
                    raise

    async def _put_back(self) -> None:
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


async def restore(ledger: Ledger, records: Records) -> RestoreReport:
    return await Restorer(stores(ledger, records)).run()


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
    oldest = f"{position.epoch}-{max(0, position.seq - margin)}"  # exactly: the recorder leaves up to a node more
    await ledger.client.xtrim(keys.journal(ledger.program), minid=oldest, approximate=False)
    return position


async def whole(tables: Tables) -> dict[str, list[tuple[object, ...]]]:
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
