"""A ledger that is not owned yet, its records, and what their tests do to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from reservasi.events import JournalEntry
from reservasi.ledger import keys
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.wire import stored_forms
from reservasi.model import Position
from reservasi.records import Records
from reservasi.worker.ledger_owner import Owner, Ownership, own_ledger
from tests.ledgers import Ledger, claim, open_ledger, quota_set


@pytest.fixture
async def records(database: str, program: str) -> AsyncIterator[Records]:
    opened = await Records.open(database, 4)
    await opened.make_room(program)
    yield opened
    await opened.close()


@pytest.fixture
async def ledger(valkey_url: str, program: str) -> AsyncIterator[Ledger]:
    """Not owned yet."""
    async with open_ledger(valkey_url, program, owned=False) as opened:
        yield opened


async def own(ledger: Ledger, records: Records) -> Ownership:
    return await own_ledger(ledger.program, ledger.connection, ledger.journal, records)


async def record(ledger: Ledger, records: Records, entries: list[JournalEntry]) -> Position:
    """What the recorder would do."""
    expected = await records.position(ledger.program)
    recorded = await records.record(ledger.program, expected, entries, booking_code=lambda _: "CODE")
    assert recorded.dead == ()
    return recorded.position


async def is_fenced(ledger: Ledger) -> bool:
    return bool((await ledger.raw("find", [["nobody"]]))[0] == "fenced")


async def forget_run(ledger: Ledger) -> None:
    """As if another run of the server had been owned last."""
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'0' * 40}")


async def forget_all(ledger: Ledger) -> None:
    """As FLUSHALL would, but for this program only: others share the server."""
    names = [key async for key in ledger.client.scan_iter(match=f"{{{ledger.program}}}*", count=1000)]
    await ledger.client.delete(*names)


async def sell(ledger: Ledger, claims: int) -> None:
    await ledger.one(quota_set(capacity=1000))
    for _ in range(claims):
        await ledger.one(claim())


@asynccontextmanager
async def running_owner(ledger: Ledger, records: Records) -> AsyncIterator[None]:
    owner = Owner(ledger.program, ledger.connection, Journal(ledger.client, ledger.program), records)
    stop = asyncio.Event()
    task = asyncio.create_task(owner.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)
