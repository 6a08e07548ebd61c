"""Concurrent commands share batches; limits, deadlines, lost replies and dead servers have a definite result."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reservasi.errors import LedgerFault, LedgerFenced, LedgerUnreachable, Overloaded
from reservasi.events import Held
from reservasi.ledger import group_commit
from reservasi.ledger.command_queue import BATCH_HALVED_FROM, PRIORITY
from reservasi.ledger.wire import messages
from reservasi.ledger.wire.messages import COMMAND_NAMES
from reservasi.model import Answer, Cancel, Claim, Confirm, Find, Outcome, Release, SetQuota
from tests.any_server import NewLedgerServer
from tests.ledgers import (
    QUOTA,
    Ledger,
    claim,
    function_calls,
    open_group,
    open_ledger,
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


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "RETRY_PAUSE_MAX_S", 0.01)


async def _held_events(ledger: Ledger) -> list[str]:
    entries = await ledger.entries()
    return [event.reservation_id for entry in entries for event in entry.events if isinstance(event, Held)]


def test_every_command_has_a_priority() -> None:
    assert set(PRIORITY) == set(COMMAND_NAMES)


async def test_concurrent_commands_share_batches(ledger: Ledger) -> None:
    async with open_group(ledger.url, ledger.program, batch_items_max=100) as group:
        await group.submit(claim())
        before = await function_calls(ledger.client)
        answers = await asyncio.gather(*(group.submit(claim()) for _ in range(1000)))
        calls = await function_calls(ledger.client) - before
    assert {answer.outcome for answer in answers} == {Outcome.HELD}
    assert len({answer.seq for answer in answers}) == 1000
    assert 10 <= calls <= 20  # the last of them go in halves
    entries = await ledger.entries()
    sizes = [len(entry.events) for entry in entries][2:]
    assert sum(sizes) == 1000
    assert sizes[:8] == [100] * 8
    assert max(sizes) == 100


async def test_each_answer_reaches_the_one_who_asked(ledger: Ledger) -> None:
    groups = [claim(1 + number % 5) for number in range(500)]
    async with open_group(ledger.url, ledger.program, batch_items_max=64) as group:
        answers = await asyncio.gather(*(group.submit(request) for request in groups))
        lookups = await asyncio.gather(
            *(group.submit(Find(reservation_id=request.reservation_id)) for request in groups)
        )
    for request, answer, again in zip(groups, answers, lookups, strict=True):
        assert answer.places == again.places == len(request.persons)
        assert answer.seq == again.seq


async def test_who_has_a_place_goes_before_who_wants_one(ledger: Ledger, proxy: Proxy) -> None:
    held = [claim() for _ in range(20)]
    await ledger.run(*held)
    async with open_group(proxy.url, ledger.program, batch_items_max=10) as group:
        await group.submit(claim())
        calls = proxy.calls
        proxy.held.clear()
        in_flight = asyncio.create_task(group.submit(claim()))
        await sent_after(proxy, calls)
        claims = [asyncio.create_task(group.submit(claim())) for _ in range(30)]
        await asyncio.sleep(0)  # the claims are queued first
        confirms = [asyncio.create_task(group.submit(Confirm(reservation_id=each.reservation_id))) for each in held]
        await asyncio.sleep(0)
        proxy.held.set()
        answers: list[Answer] = await asyncio.gather(in_flight, *claims, *confirms)
    claimed, confirmed = answers[1:31], answers[31:]
    assert {answer.outcome for answer in confirmed} == {Outcome.CONFIRMED}
    assert max(answer.seq for answer in confirmed) < min(answer.seq for answer in claimed)


async def test_a_full_queue_refuses_at_once(ledger: Ledger, proxy: Proxy) -> None:
    limits = {"batch_items_max": 5, "queue_items_max": 10}
    async with open_group(proxy.url, ledger.program, **limits) as group:
        await group.submit(claim())
        calls = proxy.calls
        proxy.held.clear()
        in_flight = [asyncio.create_task(group.submit(claim())) for _ in range(5)]
        await sent_after(proxy, calls)
        queued = [asyncio.create_task(group.submit(claim())) for _ in range(10)]
        await asyncio.sleep(0)
        for _ in range(100):
            with pytest.raises(Overloaded):
                await group.submit(claim())
        proxy.held.set()
        answers = await asyncio.gather(*in_flight, *queued)
        assert {answer.outcome for answer in answers} == {Outcome.HELD}
        # There is room again.
        assert (await group.submit(claim())).outcome is Outcome.HELD


async def test_a_deadline_says_whether_the_command_was_sent(ledger: Ledger, proxy: Proxy) -> None:
    async with open_group(proxy.url, ledger.program, command_timeout_ms=300, batch_items_max=1) as group:
        await group.submit(claim())
        calls = proxy.calls
        proxy.held.clear()
        claims = [claim() for _ in range(10)]
        first = asyncio.create_task(group.submit(claims[0]))
        await sent_after(proxy, calls)
        others = [asyncio.create_task(group.submit(each)) for each in claims[1:]]
        results = await asyncio.wait_for(asyncio.gather(first, *others, return_exceptions=True), 2.0)
        assert isinstance(results[0], LedgerUnreachable)
        assert isinstance(results[-1], Overloaded)
        proxy.held.set()
        # What was sent may have happened, and here it did; what was not, did not. All may be asked again.
        held = await _held_events(ledger)
        assert claims[0].reservation_id in held
        for each, result in zip(claims, results, strict=True):
            assert isinstance(result, LedgerUnreachable | Overloaded)
            assert each.reservation_id not in held or isinstance(result, LedgerUnreachable)
        again = [await group.submit(each) for each in claims]
        for result, answer in zip(results, again, strict=True):
            assert answer.outcome is Outcome.HELD or isinstance(result, LedgerUnreachable)
        assert again[0].outcome is Outcome.EXISTS


async def test_who_gives_up_waiting_disturbs_nobody(ledger: Ledger, proxy: Proxy) -> None:
    async with open_group(proxy.url, ledger.program, batch_items_max=10) as group:
        await group.submit(claim())
        calls = proxy.calls
        proxy.held.clear()
        claims = [claim() for _ in range(20)]
        tasks = [asyncio.create_task(group.submit(each)) for each in claims]
        await sent_after(proxy, calls)
        tasks[3].cancel()  # in flight
        tasks[15].cancel()  # queued
        await asyncio.sleep(0)
        proxy.held.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for at, result in enumerate(results):
            if at in (3, 15):
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert isinstance(result, Answer)
                assert result.outcome is Outcome.HELD
        # The first was carried out and is found by a repeat; the second was never sent.
        held = await _held_events(ledger)
        assert claims[3].reservation_id in held
        assert claims[15].reservation_id not in held
        assert (await group.submit(claims[3])).outcome is Outcome.EXISTS


@pytest.mark.usefixtures("quick_retries")
async def test_twenty_lost_replies_in_a_row_have_one_effect_and_the_same_answer(ledger: Ledger, proxy: Proxy) -> None:
    async with open_group(proxy.url, ledger.program) as group:
        await group.submit(claim())
        proxy.replies_to_lose = 20
        claims = [claim(2) for _ in range(BATCH_HALVED_FROM)]  # they go together
        answers = await asyncio.gather(*(group.submit(each) for each in claims))
    assert proxy.lost == 20
    assert all(answer.retried and answer.outcome is Outcome.EXISTS for answer in answers)
    events = {
        event.reservation_id: event
        for entry in await ledger.entries()
        for event in entry.events
        if isinstance(event, Held)
    }
    assert len(await _held_events(ledger)) == 1 + len(claims)
    for each, answer in zip(claims, answers, strict=True):
        event = events[each.reservation_id]
        assert (answer.seq, answer.deadline_ms, answer.places) == (event.seq, event.deadline_ms, 2)


@pytest.mark.usefixtures("quick_retries")
async def test_every_command_survives_the_loss_of_its_reply(ledger: Ledger, proxy: Proxy) -> None:
    kept, given_up = claim(), claim()
    async with open_group(proxy.url, ledger.program) as group:
        await group.submit(Find(reservation_id="nobody"))  # learns the epoch
        for command in (
            kept,
            given_up,
            Confirm(reservation_id=kept.reservation_id),
            Release(reservation_id=given_up.reservation_id),
            SetQuota(quota=QUOTA, capacity=77, version=1),
            Cancel(reservation_id=kept.reservation_id),
        ):
            proxy.replies_to_lose = 2
            answer = await group.submit(command)
            assert (answer.outcome, answer.retried) == (Outcome.EXISTS, True), command
    assert (await ledger.snapshot()).position.seq == 1 + 6
    assert await ledger.counts() == (0, 0, 0)


@pytest.mark.usefixtures("quick_retries")
async def test_a_cut_connection_is_opened_again(ledger: Ledger, proxy: Proxy) -> None:
    async with open_group(proxy.url, ledger.program) as group:
        await group.submit(claim())
        for _ in range(5):
            proxy.requests_to_lose = 3
            assert (await group.submit(claim())).outcome is Outcome.HELD
            proxy.cut()
            assert (await group.submit(claim())).outcome in (Outcome.HELD, Outcome.EXISTS)
    assert len(await _held_events(ledger)) == 11


async def test_an_unreachable_ledger_is_said_by_the_deadline(ledger: Ledger, proxy: Proxy) -> None:
    async with open_group(proxy.url, ledger.program, command_timeout_ms=200) as group:
        await group.submit(claim())
        proxy.refusing = True
        proxy.cut()
        with pytest.raises(LedgerUnreachable):
            await asyncio.wait_for(group.submit(claim()), 2.0)
        proxy.refusing = False
        assert (await group.submit(claim())).outcome is Outcome.HELD


async def test_closing_answers_everybody(ledger: Ledger, proxy: Proxy) -> None:
    async with open_group(proxy.url, ledger.program, batch_items_max=5, command_timeout_ms=200) as group:
        await group.submit(claim())
        calls = proxy.calls
        proxy.held.clear()
        tasks = [asyncio.create_task(group.submit(claim())) for _ in range(20)]
        await sent_after(proxy, calls)
        await group.close()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1.0)
        assert {type(result) for result in results} <= {LedgerUnreachable, Overloaded}
        with pytest.raises(Overloaded):
            await group.submit(claim())
        proxy.held.set()


async def test_closing_carries_out_what_was_submitted(ledger: Ledger) -> None:
    async with open_group(ledger.url, ledger.program, batch_items_max=5) as group:
        tasks = [asyncio.create_task(group.submit(claim())) for _ in range(50)]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*tasks)
    assert {answer.outcome for answer in answers} == {Outcome.HELD}


async def test_a_server_without_the_functions_gets_them(ledger: Ledger) -> None:
    """Also on a connection's first call, which does not know the epoch either: the first one after a deploy."""
    await ledger.client.function_flush()
    async with open_group(ledger.url, ledger.program) as group:
        answers = await asyncio.gather(group.submit(claim()), group.submit(Find(reservation_id="nobody")))
        assert [answer.outcome for answer in answers] == [Outcome.HELD, Outcome.NOT_FOUND]
        await ledger.client.function_flush()
        assert (await group.submit(claim())).outcome is Outcome.HELD


async def test_a_batch_that_fails_does_not_stop_the_next(ledger: Ledger) -> None:
    async with open_group(ledger.url, ledger.program) as group:
        await ledger.client.function_flush()
        await ledger.client.config_set("maxmemory", 1)
        try:
            with pytest.raises(Overloaded):  # the functions cannot be loaded
                await asyncio.wait_for(group.submit(claim()), 60)
        finally:
            await ledger.client.config_set("maxmemory", 0)
        unpackable = Claim(reservation_id="\ud800", quota=QUOTA, fingerprint="", sealed="", persons=("a",))
        with pytest.raises(LedgerFault):
            await asyncio.wait_for(group.submit(unpackable), 60)
        assert (await group.submit(claim())).outcome is Outcome.HELD


async def test_a_server_that_is_full_takes_no_claims_and_all_else(ledger: Ledger) -> None:
    async with open_group(ledger.url, ledger.program) as group:
        held = claim()
        assert (await group.submit(held)).outcome is Outcome.HELD
        await ledger.client.config_set("maxmemory", 1)
        try:
            with pytest.raises(Overloaded, match="full"):
                await group.submit(claim())
            answer = await group.submit(Confirm(reservation_id=held.reservation_id))
            assert answer.outcome is Outcome.CONFIRMED
            assert (await group.submit(Cancel(reservation_id=held.reservation_id))).outcome is Outcome.CANCELLED
        finally:
            await ledger.client.config_set("maxmemory", 0)


async def test_a_server_that_takes_no_writes_counts_as_fenced(ledger: Ledger) -> None:
    async with open_group(ledger.url, ledger.program) as group:
        await ledger.client.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(LedgerFenced, match="NOREPLICAS"):
                await group.submit(claim())
        finally:
            await ledger.client.config_set("min-replicas-to-write", 0)
        assert (await group.submit(claim())).outcome is Outcome.HELD


@pytest.mark.any_server
async def test_a_killed_server_is_fenced_until_owned_and_keeps_what_it_said(
    data_dir: Path, program: str, ledger_server: NewLedgerServer
) -> None:
    server = ledger_server(data_dir, 60)
    await server.start()
    try:
        async with open_ledger(server.url, program) as ledger, open_group(server.url, program) as group:
            await group.submit(quota_set(capacity=1000))
            claims = [claim() for _ in range(300)]
            first = await asyncio.gather(*(group.submit(each) for each in claims[:200]))
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await server.wait()
            pending = asyncio.create_task(group.submit(claims[200]))
            await server.start()
            # Whoever waited meanwhile is told, and nothing is sold before the ledger is owned again.
            with pytest.raises(LedgerFenced):
                await pending
            with pytest.raises(LedgerFenced):
                await group.submit(claims[0])
            await ledger.connection.drop()
            assert await ledger.own() in ("owned", "exists")
            again = await asyncio.gather(*(group.submit(each) for each in claims))
            assert {answer.outcome for answer in again[:200]} == {Outcome.EXISTS}
            assert {answer.outcome for answer in again[200:]} == {Outcome.HELD}
            for one, other in zip(first, again, strict=False):
                assert (one.seq, one.deadline_ms) == (other.seq, other.deadline_ms)
            assert len(await ledger.entries()) > 2
    finally:
        await server.stop()


def _unreadable(*_: object, **__: object) -> Answer:
    raise KeyError("an outcome of a newer version")


async def test_a_reply_that_cannot_be_read_does_not_stop_the_next_batch(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_group(ledger.url, ledger.program) as group:
        await group.submit(claim())
        with monkeypatch.context() as patched:
            patched.setattr(messages, "decode_answer", _unreadable)
            with pytest.raises(LedgerFault):
                await asyncio.wait_for(group.submit(claim()), 60)
        assert (await asyncio.wait_for(group.submit(claim()), 60)).outcome is Outcome.HELD


async def test_a_claim_that_nobody_waits_for_is_not_sent(ledger: Ledger, proxy: Proxy) -> None:
    async with open_group(proxy.url, ledger.program) as group:
        await group.submit(claim())
        calls = proxy.calls
        proxy.held.clear()
        in_flight = asyncio.create_task(group.submit(claim()))
        await sent_after(proxy, calls)
        wanted, given_up = claim(), claim()
        waiting = asyncio.create_task(group.submit(wanted))
        gone = asyncio.create_task(group.submit(given_up))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        proxy.held.set()
        await asyncio.gather(in_flight, waiting)
        answers = [await group.submit(Find(reservation_id=each.reservation_id)) for each in (wanted, given_up)]
        assert [answer.outcome for answer in answers] == [Outcome.FOUND, Outcome.NOT_FOUND]
