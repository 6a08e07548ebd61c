"""The sweeper ends holds and returns places in time, without a pause while there is more to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reservasi.events import Ended
from reservasi.ledger import keys
from reservasi.ledger.group_commit import GroupCommit
from reservasi.metrics import SWEPT
from reservasi.model import Outcome, Release, State
from reservasi.worker.sweeper import Sweeper
from tests.ledgers import Ledger, claim, eventually, open_group, open_ledger, quota_set
from tests.proxy import open_proxy


@asynccontextmanager
async def _sweeping(program: str, group: GroupCommit, *, interval_ms: int, items_max: int) -> AsyncIterator[None]:
    stop = asyncio.Event()
    sweeper = Sweeper(program, group, interval_ms=interval_ms, items_max=items_max)
    task = asyncio.create_task(sweeper.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


async def _all_back(ledger: Ledger) -> None:
    async def none_taken() -> bool:
        return await ledger.counts() == (0, 0, 0)

    await eventually(none_taken)


async def test_holds_end_and_places_return_by_themselves(valkey_url: str, program: str) -> None:
    async with open_ledger(valkey_url, program) as ledger, open_group(valkey_url, program) as group:
        await ledger.one(quota_set(capacity=20, hold_ms=30, return_min_ms=5, return_max_ms=20))
        released = claim()
        await ledger.run(*(claim() for _ in range(15)), released)
        await ledger.run(Release(reservation_id=released.reservation_id))
        async with _sweeping(program, group, interval_ms=10, items_max=100):
            await _all_back(ledger)
        ended = [event for entry in await ledger.entries() for event in entry.events if isinstance(event, Ended)]
        assert [event.state for event in ended].count(State.EXPIRED) == 15
        assert SWEPT.labels(program, "expired")._value.get() == 15
        assert SWEPT.labels(program, "returned")._value.get() == 16
        assert await ledger.client.exists(keys.due(program)) == 0


async def test_there_is_no_pause_while_there_is_more_to_do(valkey_url: str, program: str) -> None:
    """Expired holds and returned places share one limit: together they say whether it was reached."""
    async with open_ledger(valkey_url, program) as ledger, open_group(valkey_url, program) as group:
        await ledger.run(quota_set(capacity=100, hold_ms=1), quota_set("q", capacity=100, return_max_ms=1))
        released = [claim(quota="q") for _ in range(40)]
        *_, last = await ledger.run(
            *released,
            *(Release(reservation_id=each.reservation_id) for each in released),
            *(claim() for _ in range(40)),
        )
        await ledger.until(last.deadline_ms + 2)
        # A minute's pause: only sweeps without one can be done before the test gives up.
        async with _sweeping(program, group, interval_ms=60_000, items_max=9):
            await _all_back(ledger)

            async def none_due() -> bool:
                return await ledger.client.exists(keys.due(program)) == 0

            await eventually(none_due)


async def test_it_outlives_a_ledger_that_is_away_or_fenced(valkey_url: str, program: str) -> None:
    async with (
        open_ledger(valkey_url, program, owned=False) as ledger,
        open_proxy(valkey_url) as proxy,
        open_group(proxy.url, program, command_timeout_ms=100) as group,
        _sweeping(program, group, interval_ms=5, items_max=10),
    ):
        assert await ledger.own() == "owned"
        await ledger.one(quota_set(hold_ms=1))
        proxy.refusing = True
        proxy.cut()
        assert (await ledger.one(claim())).outcome is Outcome.HELD
        proxy.refusing = False
        await _all_back(ledger)
