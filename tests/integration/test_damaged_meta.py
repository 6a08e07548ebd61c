"""A ledger with a damaged `meta` sells nothing, other programs continue, and unrecorded journal entries are
recorded.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from reservasi.ledger import keys
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.lua.library import read_library
from reservasi.metrics import DRIFT
from reservasi.model import Confirm, Find
from reservasi.records import Records
from reservasi.worker.ledger_owner import Ownership, compare_ledger
from reservasi.worker.reconciliation import Reconciler
from reservasi.worker.repair import repaired
from tests.integration.test_rebuild import own, rebuilder, record
from tests.ledgers import TOMBSTONE_MS, Ledger, claim, frames_of, open_ledger, quota_set

DAMAGES = [
    ("seq", "2"), ("seq", "900"), ("seq", "x"), ("seq", None), ("seq", b"\xff"),
    ("chain", "0" * 40), ("chain", None), ("chain", b"\xff"),
    ("epoch", "7"), ("epoch", "x"), ("epoch", None), ("epoch", b"\xff\x00"), ("epoch", "0"),
    ("at", "9-9-x"), ("at", b"\xff"),
    ("*", None), ("*", "a string"),
]  # fmt: skip


@pytest.fixture
async def ledger(valkey_url: str, program: str, records: Records) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program, owned=False) as opened:
        await own(opened, records)
        yield opened


async def damage(ledger: Ledger, field: str, value: str | bytes | None) -> None:
    client: Any = ledger.client
    meta = keys.meta(ledger.program)
    if field == "*":
        await client.delete(meta)
        if value is not None:
            await client.set(meta, value)
    elif value is None:
        await client.hdel(meta, field)
    else:
        await client.hset(meta, field, value)


async def is_fenced(ledger: Ledger) -> bool:
    (reply,) = await ledger.connection.call(frames_of([claim()]), 10.0)
    assert isinstance(reply, bytes)
    return b"fenced" in reply[:12]


@pytest.mark.parametrize(("field", "value"), DAMAGES)
async def test_a_damaged_meta_fences_its_program_and_loses_nothing(
    ledger: Ledger, records: Records, field: str, value: str | bytes | None
) -> None:
    program = ledger.program
    recorded, held = claim(), [claim() for _ in range(3)]
    await ledger.run(quota_set(capacity=9), recorded)
    await record(ledger, records)
    await ledger.run(*held)  # the journal alone knows of these
    await damage(ledger, field, value)
    if field == "at":
        assert not await is_fenced(ledger), "nothing rests on it while the server remembers where it is"
    else:
        before = await ledger.dump()
        assert await is_fenced(ledger)
        assert await ledger.dump() == before
    async with open_ledger(ledger.url, f"{program}-other") as other:
        meta, neighbour = await ledger.connection.metas([program, other.program], 5.0)
        assert neighbour.owned
        await other.run(quota_set(), claim())
    assert not (meta.owned and field == "*")
    verdict = (await compare_ledger(program, ledger.connection, ledger.journal, records)).verdict
    assert verdict in (Ownership.DAMAGED, Ownership.OWNABLE) or (field, verdict) == ("at", Ownership.OWNED)
    report = await rebuilder(ledger, records).run(force=True)
    assert (report.rebuilt, report.lost) == (True, 0)
    answers = await ledger.run(*(Confirm(reservation_id=each.reservation_id) for each in [recorded, *held]))
    assert {answer.outcome.value for answer in answers} == {"confirmed"}
    assert (await ledger.one(Find(reservation_id=held[0].reservation_id))).outcome.value == "found"


async def test_reconcile_names_a_damaged_meta_and_repairs_it(ledger: Ledger, records: Records) -> None:
    await ledger.run(quota_set(), claim())
    await record(ledger, records)
    await damage(ledger, "seq", "x")
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    reconciler = Reconciler(ledger.program, connection, ledger.journal, records, tombstone_ms=TOMBSTONE_MS)
    comparison = await reconciler.run()
    assert [(drift.kind, drift.ledger) for drift in comparison.drift] == [("ledger", "damaged")]
    assert DRIFT.labels(ledger.program, "ledger")._value.get() == 1
    repair = await repaired(reconciler, rebuilder(ledger, records))
    assert (repair.drift, repair.lost, repair.repaired) == ((), 0, 1)
