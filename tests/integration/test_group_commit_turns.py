"""When a batch is sent, what it contains, and when the answers of the previous one are released."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import redis
import uvloop
from prometheus_client import REGISTRY

from reservasi.errors import Overloaded
from reservasi.ledger import group_commit, keys
from reservasi.ledger.command_queue import BATCH_HALVED_FROM
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.wire import messages
from reservasi.model import Claim, Find, Join, Outcome, SetOpening
from tests.ledgers import (
    Ledger,
    claim,
    eventually,
    open_group,
    open_ledger,
    opening_set,
    quota_set,
)
from tests.proxy import Proxy, sent_after

TIMEOUT_S = 60.0
HELD_UP_S = 5.0  # so long an answer may hold the loop up


@pytest.fixture
async def ledger(valkey_url: str, program: str) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program) as opened:
        await opened.one(quota_set(capacity=10_000))
        yield opened


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_batch_is_with_the_server_before_the_last_ones_answers_are_told(
    run: Callable[[Coroutine[Any, Any, None]], None], valkey_url: str, program: str
) -> None:
    carried_out: list[bool] = []

    async def offer() -> None:
        async with (
            open_ledger(valkey_url, program) as ledger,
            open_group(valkey_url, program) as group,
            asyncio.timeout(TIMEOUT_S),
        ):
            await ledger.one(quota_set(capacity=10))
            await group.submit(claim())
            second = claim()

            def tell(_: object) -> None:  # nothing else happens in this loop meanwhile
                with redis.Redis.from_url(valkey_url) as other:
                    ends_at_s = time.monotonic() + HELD_UP_S
                    while not carried_out and time.monotonic() < ends_at_s:
                        if other.hexists(keys.program_keys(program)[3], second.reservation_id):
                            carried_out.append(True)

            group.enqueue(claim(), tell)
            while group._queue:  # noqa: ASYNC110 - one turn at a time, or the reply would be there first
                await asyncio.sleep(0)
            await group.submit(second)  # queued while the first is under way

    run(offer())
    assert carried_out


async def test_the_last_ones_answers_are_told_while_a_batch_is_under_way(
    ledger: Ledger, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "REAP_INTERVAL_S", TIMEOUT_S)  # which would tell them in the end as well
    async with open_group(proxy.url, ledger.program) as group:
        await group.submit(claim())
        calls = proxy.calls
        proxy.held.clear()
        first = asyncio.create_task(group.submit(claim()))
        await sent_after(proxy, calls)
        second = asyncio.create_task(group.submit(claim()))

        async def replied() -> bool:
            return proxy.waiting == 1

        await eventually(replied)
        proxy.held.set()
        proxy.held.clear()  # the reply that waits passes, and no other
        assert (await asyncio.wait_for(first, HELD_UP_S)).outcome is Outcome.HELD
        assert proxy.calls == calls + 2
        assert not second.done()
        proxy.held.set()
        assert (await second).outcome is Outcome.HELD


async def test_a_batch_is_written_in_the_turn_in_which_it_is_sent(ledger: Ledger) -> None:
    connection = LedgerConnection(ledger.url, ledger.program, read_library())
    frames = [messages.encode_frame([Find(reservation_id="none")], 0)]
    await connection.call(frames, TIMEOUT_S)
    written: list[bool] = []
    call = asyncio.create_task(connection.call(frames, TIMEOUT_S, sent=lambda: written.append(True)))
    await asyncio.sleep(0)
    assert written  # no task, and so no turn of everybody else, in between
    await call
    await connection.drop()


@pytest.mark.parametrize("crowd", [200, 32])
async def test_of_a_crowd_half_goes_while_the_other_half_waits(
    ledger: Ledger, crowd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "REAP_INTERVAL_S", TIMEOUT_S)  # who is told between batches is in none's crowd
    times = 5

    async with open_group(ledger.url, ledger.program, batch_items_max=1000) as group:

        async def claim_again_and_again() -> None:
            for _ in range(times):
                await group.submit(claim())

        await group.submit(claim())
        await asyncio.gather(*(claim_again_and_again() for _ in range(crowd)))
    sizes = [len(entry.events) for entry in await ledger.entries()][2:]
    assert sizes == [crowd // 2] * 2 * times


async def test_the_last_of_a_crowd_go_together(ledger: Ledger) -> None:
    async with open_group(ledger.url, ledger.program, batch_items_max=1000) as group:
        await group.submit(claim())
        await asyncio.gather(*(group.submit(claim()) for _ in range(BATCH_HALVED_FROM)))
    sizes = [len(entry.events) for entry in await ledger.entries()][2:]
    assert sizes == [BATCH_HALVED_FROM]


async def test_the_limit_recovers_when_nothing_waits(ledger: Ledger) -> None:
    async with open_group(ledger.url, ledger.program) as group:
        assert limit_said(ledger.program) == group._queue._limit.value  # before anybody has claimed anything
        group._queue._limit.value = 0
        with pytest.raises(Overloaded):
            await group.submit(claim())
        async with asyncio.timeout(60):
            while not group.admits_claims:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
        assert limit_said(ledger.program) == group._queue._limit.value > 0
        assert (await group.submit(claim())).outcome is Outcome.HELD


def limit_said(program: str) -> float | None:
    return REGISTRY.get_sample_value("reservasi_claims_limit", {"program": program})


async def test_joins_and_claims_share_a_batch_by_how_many_they_are(ledger: Ledger, proxy: Proxy) -> None:
    await ledger.one(opening_set())
    kinds: list[str] = []

    async def ask(command: Claim | Join) -> None:
        await group.submit(command)
        kinds.append(type(command).__name__)

    async with open_group(proxy.url, ledger.program, batch_items_max=40) as group:
        await group.submit(claim())
        calls = proxy.calls
        proxy.held.clear()
        in_flight = asyncio.create_task(group.submit(claim()))
        await sent_after(proxy, calls)
        # Far more claims than a batch has room for, and one join for every three of them.
        commands = [Join(opening="p-1", ticket_id=f"t{at}") if at % 4 == 3 else claim() for at in range(160)]
        tasks = [asyncio.create_task(ask(command)) for command in commands]
        await asyncio.sleep(0)
        proxy.held.set()
        await asyncio.gather(in_flight, *tasks)
    first, rest = kinds[:40], kinds[40:80]
    assert [part.count("Join") for part in (first, rest)] == [10, 10]


async def test_a_few_are_not_kept_waiting_by_many(ledger: Ledger, proxy: Proxy) -> None:
    await ledger.one(opening_set())
    async with open_group(proxy.url, ledger.program, batch_items_max=10) as group:
        await group.submit(claim())
        for many, few in ((claim, _join), (_join, claim)):
            calls = proxy.calls
            proxy.held.clear()
            in_flight = asyncio.create_task(group.submit(claim()))
            await sent_after(proxy, calls)
            crowd = [asyncio.create_task(group.submit(many())) for _ in range(100)]
            await asyncio.sleep(0)
            one = asyncio.create_task(group.submit(few()))
            await asyncio.sleep(0)
            proxy.held.set()
            await one
            assert sum(task.done() for task in crowd) < 20
            await asyncio.gather(in_flight, *crowd)


def _join() -> Join:
    return Join(opening="p-1", ticket_id=f"t{next(_numbers)}")


_numbers = itertools.count()


async def test_joins_are_refused_like_claims_and_staff_is_not(ledger: Ledger, proxy: Proxy) -> None:
    await ledger.one(opening_set())
    async with open_group(proxy.url, ledger.program, batch_items_max=5, queue_items_max=10) as group:
        await group.submit(_join())
        calls = proxy.calls
        proxy.held.clear()
        in_flight = [asyncio.create_task(group.submit(_join())) for _ in range(5)]
        await sent_after(proxy, calls)
        queued = [asyncio.create_task(group.submit(_join() if at % 2 else claim())) for at in range(10)]
        await asyncio.sleep(0)
        for refused in (_join(), claim()):
            assert not group.admits_claims
            with pytest.raises(Overloaded):
                await group.submit(refused)
        queued += [asyncio.create_task(group.submit(Find(reservation_id="nobody"))) for _ in range(9)]
        queued.append(asyncio.create_task(group.submit(SetOpening(opening="p-1", paused=True))))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):  # that, too, has an end
            await group.submit(Find(reservation_id="nobody"))
        proxy.held.set()
        answers = await asyncio.gather(*in_flight, *queued)
    assert [answer.outcome for answer in answers[:5]] == [Outcome.JOINED] * 5
    assert answers[-1].outcome is Outcome.OPENING_SET
