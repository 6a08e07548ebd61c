"""A confirmation waits exactly until its change is recorded, at most its time limit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from reservasi.ledger.journal import recorded_position as recorded_module
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.topology.clients import open_client
from reservasi.logs import get_logger
from reservasi.model import Position
from tests.ledgers import TIMEOUT_S, eventually
from tests.proxy import Proxy


@pytest.fixture
async def journal(valkey_url: str, program: str) -> AsyncIterator[Journal]:
    """What the recorder publishes through."""
    client = open_client(valkey_url)
    yield Journal(client, program)
    await client.aclose()


@asynccontextmanager
async def _following(url: str, program: str) -> AsyncIterator[RecordedPositions]:
    client = open_client(url)
    positions = RecordedPositions(client)
    positions.follow(program)
    positions.follow(program)
    try:
        yield positions
    finally:
        await positions.close()
        await client.aclose()


async def test_what_was_recorded_before_is_known(valkey_url: str, program: str, journal: Journal) -> None:
    await journal.publish_recorded(Position(epoch=1, seq=7), ["r-dead"])
    async with _following(valkey_url, program) as positions:
        assert await positions.wait(program, 1, 7, "r", TIMEOUT_S)
        assert not await positions.wait(program, 1, 7, "r-dead", TIMEOUT_S)
        assert not await positions.wait(program, 1, 8, "r", 0.05)
        assert await positions.wait(program, 2, 1, "r", 0.05), "epoch 2 goes on from what is recorded of epoch 1"


async def test_waiters_are_answered_in_their_order(valkey_url: str, program: str, journal: Journal) -> None:
    async with _following(valkey_url, program) as positions:
        waits = {
            seq: asyncio.create_task(positions.wait(program, 1, seq, f"r{seq}", TIMEOUT_S)) for seq in (5, 3, 9, 4)
        }
        await journal.publish_recorded(Position(epoch=1, seq=4))
        assert await waits[3]
        assert await waits[4]
        assert not waits[5].done()
        assert not waits[9].done()
        await journal.publish_recorded(Position(epoch=1, seq=8), ["r5"])
        assert not await waits[5], "its change lies in the dead-letter table"
        assert not waits[9].done()
        await journal.publish_recorded(Position(epoch=2, seq=9), epochs=[(1, 0), (2, 9)])
        assert await waits[9], "epoch 2 branched off after it"


async def test_a_change_that_its_ledger_lost_is_never_called_recorded(
    valkey_url: str, program: str, journal: Journal
) -> None:
    async with _following(valkey_url, program) as positions:
        lost = asyncio.create_task(positions.wait(program, 1, 3, "r", TIMEOUT_S))
        await journal.publish_recorded(Position(epoch=1, seq=2), epochs=[(1, 0)])
        # The server came back without seq 3 and was owned anew; a stranger's change got that seq.
        await journal.publish_recorded(Position(epoch=2, seq=3), epochs=[(1, 0), (2, 2)])
        assert not await lost
        assert await positions.wait(program, 2, 3, "stranger", TIMEOUT_S)
        assert await positions.wait(program, 1, 2, "before", TIMEOUT_S)
        assert not await positions.wait(program, 1, 3, "r", 0.01)


async def test_only_the_latest_epochs_are_named(valkey_url: str, program: str, journal: Journal) -> None:
    """What came before the oldest one named cannot be told apart, so it is not called recorded."""
    epochs = [(epoch, 10 * epoch) for epoch in range(1, 201)]
    async with _following(valkey_url, program) as positions:
        await journal.publish_recorded(Position(epoch=200, seq=5000), epochs=epochs)
        assert await positions.wait(program, 150, 1500, "r", TIMEOUT_S)
        assert not await positions.wait(program, 150, 1511, "r", 0.01)
        assert not await positions.wait(program, 50, 5, "r", 0.01)


async def test_a_position_never_goes_back(valkey_url: str, program: str, journal: Journal) -> None:
    async with _following(valkey_url, program) as positions:
        await journal.publish_recorded(Position(epoch=1, seq=9))
        assert await positions.wait(program, 1, 9, "r", TIMEOUT_S)
        await journal.publish_recorded(Position(epoch=1, seq=2), ["r-dead"])

        async def is_dead() -> bool:
            return not await positions.wait(program, 1, 9, "r-dead", 0.01)

        await eventually(is_dead)
        assert await positions.wait(program, 1, 9, "r", 0.01)


async def test_who_gives_up_waiting_disturbs_nobody(valkey_url: str, program: str, journal: Journal) -> None:
    async with _following(valkey_url, program) as positions:
        first, second = (asyncio.create_task(positions.wait(program, 1, 5, "r", TIMEOUT_S)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert not await positions.wait(program, 1, 5, "r", 0.01)
        await journal.publish_recorded(Position(epoch=1, seq=5))
        assert await second


async def test_the_number_of_waiters_is_bounded(valkey_url: str, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_module, "WAITERS_MAX", 3)
    async with _following(valkey_url, program) as positions:
        waits = [asyncio.create_task(positions.wait(program, 1, 5, "r", TIMEOUT_S)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not await positions.wait(program, 1, 5, "r", TIMEOUT_S)
        for wait in waits:
            wait.cancel()


async def test_a_word_that_was_missed_is_read_after_the_connection_is_back(
    program: str, journal: Journal, proxy: Proxy
) -> None:
    async with _following(proxy.url, program) as positions:
        await journal.publish_recorded(Position(epoch=1, seq=1))
        assert await positions.wait(program, 1, 1, "r", TIMEOUT_S)
        proxy.refusing = True
        proxy.cut()
        await journal.publish_recorded(Position(epoch=1, seq=2))
        assert not await positions.wait(program, 1, 2, "r", 0.05)
        proxy.refusing = False
        assert await positions.wait(program, 1, 2, "r", TIMEOUT_S)

        async def hears_again() -> bool:
            await journal.publish_recorded(Position(epoch=1, seq=3))
            return await positions.wait(program, 1, 3, "r", 0.02)

        await eventually(hears_again)


@asynccontextmanager
async def _cut_off(
    program: str, journal: Journal, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RecordedPositions, Callable[[int], Awaitable[None]]]]:
    """A follower that has lost its connection and would pause for ever, and a wait for so many lost attempts of it."""
    for name in ("PAUSE_MIN_S", "PAUSE_MAX_S"):
        monkeypatch.setattr(recorded_module, name, 100 * TIMEOUT_S)
    monkeypatch.setattr(recorded_module, "log", get_logger())  # which tells each attempt
    async with _following(proxy.url, program) as positions:
        await journal.publish_recorded(Position(epoch=1, seq=1))
        assert await positions.wait(program, 1, 1, "r", TIMEOUT_S)
        with capture_logs() as logs:

            async def lost(attempts: int) -> None:
                async def so_many() -> bool:
                    return [line["event"] for line in logs].count("recorded_position_lost") >= attempts

                await eventually(so_many)

            proxy.refusing = True
            proxy.cut()
            yield positions, lost


async def test_a_follower_that_pauses_goes_on_as_soon_as_the_ledger_has_answered_somebody(
    program: str, journal: Journal, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another front told the person "confirmed" already; this one must not say "confirming" until its pause is over."""
    monkeypatch.setattr(recorded_module, "WANTED_PAUSE_S", 0.0)  # so that the pause has begun when somebody comes
    async with _cut_off(program, journal, proxy, monkeypatch) as (positions, lost):
        await lost(1)
        await journal.publish_recorded(Position(epoch=1, seq=2))
        proxy.refusing = False
        assert await positions.wait(program, 1, 2, "r", TIMEOUT_S)


async def test_a_failed_attempt_does_not_forget_who_waits(
    program: str, journal: Journal, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _cut_off(program, journal, proxy, monkeypatch) as (positions, lost):
        waiting = asyncio.create_task(positions.wait(program, 1, 2, "r", TIMEOUT_S))
        await lost(3)
        assert not waiting.done()
        await journal.publish_recorded(Position(epoch=1, seq=2))
        proxy.refusing = False
        assert await waiting
