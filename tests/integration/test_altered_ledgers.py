"""Owned ledgers whose chain or journal was altered behind them are found and fenced; busy ones are not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from reservasi.ledger import keys
from reservasi.records import Records
from reservasi.worker.ledger_owner import Ownership, compare_ledger
from tests.integration import owning
from tests.integration.owning import forget_all, forget_run, is_fenced, own, record, running_owner, sell
from tests.ledgers import Ledger, claim, eventually, open_ledger, quota_set

pytestmark = pytest.mark.any_server
records, ledger = owning.records, owning.ledger


async def _alter_chain(ledger: Ledger) -> None:
    """Of the place that the ledger says it is at."""
    await ledger.client.hset(keys.meta(ledger.program), "chain", "0" * 40)


async def _alter_entry(ledger: Ledger) -> None:
    """One in the middle of what is not recorded yet: it says another moment, in its old place."""
    stream = keys.journal(ledger.program)
    entries: Any = await ledger.client.xrange(stream)
    await ledger.client.delete(stream)
    for number, (entry_id, fields) in enumerate(entries):
        altered: Any = {b"at": b"1"} if number == len(entries) - 2 else {}
        await ledger.client.xadd(stream, {**fields, **altered}, id=entry_id)


async def _sell_and_record_a_part(ledger: Ledger, records: Records) -> None:
    assert await own(ledger, records) is Ownership.OWNED
    await sell(ledger, 5)
    await record(ledger, records, (await ledger.entries())[:2])


@pytest.mark.parametrize("alter", [_alter_chain, _alter_entry])
async def test_an_owned_ledger_whose_chain_was_altered_is_fenced_until_it_is_whole_again(
    ledger: Ledger, records: Records, alter: Callable[[Ledger], Awaitable[None]]
) -> None:
    await _sell_and_record_a_part(ledger, records)
    whole = await ledger.dump()
    await alter(ledger)
    verdict = Ownership.DAMAGED if alter is _alter_chain else Ownership.DIVERGED  # of the first, the journal knows more
    assert await own(ledger, records) is verdict
    sees_it_itself = alter is _alter_chain
    assert await is_fenced(ledger) is sees_it_itself, "who compares changes nothing"
    async with running_owner(ledger, records):
        await eventually(lambda: is_fenced(ledger))
    assert await own(ledger, records) is verdict
    await forget_all(ledger)
    for key, content in whole.items():
        await ledger.client.restore(key, 0, content or b"")
    await forget_run(ledger)
    assert await own(ledger, records) is Ownership.OWNED


async def test_an_owned_ledger_that_forgot_what_is_recorded_is_behind(ledger: Ledger, records: Records) -> None:
    await _sell_and_record_a_part(ledger, records)
    await ledger.client.hset(keys.meta(ledger.program), mapping={"seq": "1", "at": "1-1-"})
    assert await own(ledger, records) is Ownership.BEHIND


async def test_an_altered_chain_is_found_with_everything_recorded(ledger: Ledger, records: Records) -> None:
    await _sell_and_record_a_part(ledger, records)
    await record(ledger, records, await ledger.journal.read(await records.position(ledger.program), 100, 0))
    await _alter_chain(ledger)
    comparison = await compare_ledger(ledger.program, ledger.connection, ledger.journal, records, follow_max=0)
    assert (comparison.verdict, comparison.altered) == (Ownership.DAMAGED, True)


async def test_a_busy_ledger_is_never_taken_for_an_altered_one(
    valkey_url: str, ledger: Ledger, records: Records, program: str
) -> None:
    """Changes, their recording and the trimming of what is recorded go on while it is compared."""
    assert await own(ledger, records) is Ownership.OWNED
    await ledger.one(quota_set(capacity=100_000))
    stop = asyncio.Event()

    async def crowd() -> None:
        while not stop.is_set():
            await ledger.run(*(claim() for _ in range(20)))

    async def record_all() -> None:
        while not stop.is_set():
            position = await records.position(program)
            if entries := await ledger.journal.read(position, 200, 5):
                await record(ledger, records, entries)
                await ledger.journal.trim(entries[-1].position, margin=0)

    async with open_ledger(valkey_url, program, owned=False) as other:
        tasks = [asyncio.create_task(crowd()), asyncio.create_task(record_all())]
        try:
            for _ in range(20):
                comparison = await compare_ledger(program, other.connection, other.journal, records)
                assert comparison.verdict is Ownership.OWNED
            assert comparison.recorded.seq > 20
        finally:
            stop.set()
            await asyncio.gather(*tasks)
