"""A view whose program is at rest asks for news seldom, and often again as soon as it matters."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reservasi.availability import follower
from reservasi.availability.follower import IDLE_BLOCK_MS, Follower
from reservasi.ledger.wire import Snapshot
from reservasi.model import JournalEntry, Position

BLOCK_MS = 7


class Ledger:
    """Connection and journal at once: an empty ledger in which nothing happens, but for `entries`."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []
        self.asked: asyncio.Queue[int] = asyncio.Queue()  # the waits of the reads, in ms
        self.news = asyncio.Event()

    async def snapshot(self, _timeout_s: float) -> Snapshot:
        return Snapshot(position=Position(epoch=1, seq=0), now_ms=0, quotas=[], openings=[], timers={})

    async def reservation_ids(self) -> AsyncIterator[str]:
        for nobody in list[str]():
            yield nobody

    async def read(self, _after: Position, _events_max: int, block_ms: int) -> list[JournalEntry]:
        self.asked.put_nowait(block_ms)
        await self.news.wait()
        self.news.clear()
        entries, self.entries = self.entries, []
        return entries

    async def drop(self) -> None:
        pass

    async def wait_ms(self) -> int:
        """How long the read that is under way waits."""
        return await asyncio.wait_for(self.asked.get(), 10)

    async def next_wait_ms(self) -> int:
        """The same of the read after it."""
        self.news.set()
        return await self.wait_ms()


@asynccontextmanager
async def followed() -> AsyncIterator[tuple[Ledger, Follower]]:
    ledger: Any = Ledger()
    following = Follower("p", ledger, ledger, note_change=lambda: 1, block_ms=BLOCK_MS)
    try:
        yield ledger, following
    finally:
        await following.close()


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes any time since it last mattered long enough, or none."""

    def rests(at_rest: bool) -> None:
        monkeypatch.setattr(follower, "IDLE_AFTER_S", -1.0 if at_rest else 3600.0)

    rests(at_rest=True)
    return rests


CHANGE = JournalEntry(epoch=1, first_seq=1, at_ms=0, chain="", events=(), payload=b"")


async def test_a_program_at_rest_is_asked_about_seldom(rests: Callable[[bool], None]) -> None:
    async with followed() as (ledger, _):
        assert await ledger.wait_ms() == IDLE_BLOCK_MS
        assert [await ledger.next_wait_ms() for _ in range(3)] == [IDLE_BLOCK_MS] * 3


async def test_a_new_view_is_kept_fresh(rests: Callable[[bool], None]) -> None:
    rests(False)
    async with followed() as (ledger, _):
        assert await ledger.wait_ms() == BLOCK_MS


async def test_a_change_makes_it_busy(rests: Callable[[bool], None]) -> None:
    async with followed() as (ledger, following):
        assert await ledger.wait_ms() == IDLE_BLOCK_MS
        rests(False)
        following.needed_at = float("-inf")
        assert await ledger.next_wait_ms() == IDLE_BLOCK_MS
        ledger.entries = [CHANGE]
        assert [await ledger.next_wait_ms() for _ in range(3)] == [BLOCK_MS] * 3


async def test_whoever_could_be_refused_from_memory_makes_it_busy(rests: Callable[[bool], None]) -> None:
    async with followed() as (ledger, following):
        assert await ledger.wait_ms() == IDLE_BLOCK_MS
        rests(False)
        following.needed_at = asyncio.get_running_loop().time()
        assert await ledger.next_wait_ms() == BLOCK_MS


async def test_it_never_waits_less_than_the_settings_say(
    rests: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "IDLE_BLOCK_MS", BLOCK_MS - 1)
    async with followed() as (ledger, _):
        assert await ledger.wait_ms() == BLOCK_MS
