"""Epochs are claimed once and in order, and the facts of a deployment never change, also under concurrency."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import asyncpg

from reservasi.records import EpochRow, ownership

if TYPE_CHECKING:
    from reservasi.records import Records
    from tests.integration.conftest import Tables

PROGRAM = "surabaya"
DEADLINE_S = 60


async def test_an_epoch_is_claimed_when_it_is_later_than_every_other(records: Records) -> None:
    assert await records.epochs(PROGRAM) == []
    assert await records.claim_epoch(PROGRAM, 1, 0, "run 1")
    assert not await records.claim_epoch(PROGRAM, 1, 0, "run 1")
    assert await records.claim_epoch(PROGRAM, 4, 2**53 - 1, "run 2")
    for late in (2, 3, 4):
        assert not await records.claim_epoch(PROGRAM, late, 7, "run 3")
    assert await records.claim_epoch("batam", 2, 5, "run 1")  # programs do not touch each other
    assert await records.epochs(PROGRAM) == [
        EpochRow(epoch=1, base_seq=0, run_id="run 1"),
        EpochRow(epoch=4, base_seq=2**53 - 1, run_id="run 2"),
    ]
    assert await records.epochs("batam") == [EpochRow(epoch=2, base_seq=5, run_id="run 1")]


async def test_of_many_who_claim_the_same_epoch_one_has_it(records: Records) -> None:
    for epoch in range(1, 21):
        claims = [records.claim_epoch(PROGRAM, epoch, 0, f"run {number}") for number in range(6)]
        won = await asyncio.gather(*claims)
        assert sum(won) == 1
        assert (await records.epochs(PROGRAM))[-1].run_id == f"run {won.index(True)}"


async def test_epochs_claimed_at_the_same_time_come_one_after_the_other(records: Records, tables: Tables) -> None:
    for round_ in range(20):
        program = f"program-{round_}"
        wanted = list(range(1, 13))
        random.Random(round_).shuffle(wanted)
        won = await asyncio.gather(*(records.claim_epoch(program, epoch, 0, "run") for epoch in wanted))
        in_order = await tables.rows(f"SELECT epoch FROM epochs WHERE program = '{program}' ORDER BY ctid")
        claimed = sorted(epoch for epoch, has_it in zip(wanted, won, strict=True) if has_it)
        assert claimed[-1] == 12
        assert [row[0] for row in in_order] == claimed


async def test_a_claim_sees_a_later_epoch_that_is_about_to_be_committed(records: Records, tables: Tables) -> None:
    other = await asyncpg.connect(tables.dsn)
    transaction = other.transaction()
    await transaction.start()
    assert await ownership.claim_epoch(other, PROGRAM, 6, 0, "run 6")
    ours = asyncio.create_task(records.claim_epoch(PROGRAM, 5, 0, "run 5"))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline_s = time.monotonic() + DEADLINE_S
    while await tables.rows(waiting) != [(1,)]:
        assert not ours.done(), "it did not wait"
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)
    await transaction.commit()
    assert not await ours
    await other.close()
    assert [row.epoch for row in await records.epochs(PROGRAM)] == [6]


async def test_a_fact_is_bound_by_whoever_names_it_first(records: Records) -> None:
    assert await records.bind("key_ring", "first") == "first"
    assert await records.bind("key_ring", "second") == "first"
    assert await records.bind("key_ring", "first") == "first"
    assert await records.bind("other", "second") == "second"


async def test_of_many_who_bind_a_fact_all_get_the_same(records: Records) -> None:
    for round_ in range(20):
        stored = await asyncio.gather(*(records.bind(f"fact {round_}", f"host {number}") for number in range(6)))
        assert len(set(stored)) == 1
