"""The view of a program at rest is proved rarely, and often again as soon as requests need it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from reservasi.availability import follower, prover
from reservasi.availability.follower import Follower
from reservasi.availability.prover import Prover
from reservasi.events import JournalEntry
from reservasi.ledger.connection import LedgerMeta
from reservasi.ledger.wire.messages import Snapshot
from reservasi.model import Position
from tests.ledgers import eventually

PROOF_S = 0.025
START = Position(epoch=1, seq=0)
CHANGE: Any = SimpleNamespace(position=Position(epoch=1, seq=1), at_ms=0, events=())
ANOTHER: Any = SimpleNamespace(position=Position(epoch=1, seq=2), at_ms=0, events=())


class Ledger:
    """Connection and journal at once: an empty ledger in which nothing happens, but for `entries`."""

    def __init__(self) -> None:
        self.at = START
        self.entries: list[JournalEntry] = []
        self.news = asyncio.Event()
        self.proved = asyncio.Event()

    async def snapshot(self, _timeout_s: float) -> Snapshot:
        return Snapshot(position=START, now_ms=0, quotas=[], openings=[], timers={})

    async def reservation_ids(self) -> AsyncIterator[str]:
        for nobody in list[str]():
            yield nobody

    async def read(self, _after: Position, _events_max: int, _block_ms: int) -> list[JournalEntry]:
        await self.news.wait()
        self.news.clear()
        entries, self.entries = self.entries, []
        return entries

    async def metas(self, programs: Sequence[str], _timeout_s: float) -> list[LedgerMeta]:
        self.proved.set()
        return [LedgerMeta(position=self.at, owned=True, run_id="") for _ in programs]

    async def drop(self) -> None:
        pass

    async def rest(self) -> None: ...

    async def next_proof(self) -> None:
        self.proved.clear()
        await asyncio.wait_for(self.proved.wait(), 60)


@asynccontextmanager
async def followed() -> AsyncIterator[tuple[Ledger, Follower]]:
    ledger: Any = Ledger()
    proving = Prover(lambda _: ledger, lambda _: "", busy_s=PROOF_S)
    following = Follower("p", ledger, ledger, note_change=lambda: 1, hurry=proving.hurry)
    proving.add(following)
    try:
        yield ledger, following
    finally:
        await proving.close()
        await following.close()


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes any time since it last mattered long enough, or none; at rest nothing is proved unasked in a test's time."""

    def rests(at_rest: bool) -> None:
        monkeypatch.setattr(follower, "IDLE_AFTER_S", -1.0 if at_rest else 3600.0)

    monkeypatch.setattr(prover, "IDLE_S", 3600.0)
    rests(at_rest=True)
    return rests


async def _is_ready(following: Follower) -> bool:
    return following.ready


async def _settled(ledger: Ledger, following: Follower) -> None:
    """The first proof is over, and the wait for the next one has begun."""
    complete = asyncio.Event()
    await eventually(partial(_is_ready, following))
    following.when_complete(complete.set)
    await asyncio.wait_for(complete.wait(), 60)
    ledger.proved.clear()


async def test_a_program_at_rest_is_not_asked_about(rests: Callable[[bool], None]) -> None:
    async with followed() as (ledger, following):
        await _settled(ledger, following)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ledger.proved.wait(), 10 * PROOF_S)


async def test_a_program_that_matters_is_asked_about_again_and_again(rests: Callable[[bool], None]) -> None:
    async with followed() as (ledger, following):
        rests(False)
        await _settled(ledger, following)
        for _ in range(3):
            await ledger.next_proof()


async def test_whoever_could_be_refused_from_memory_need_not_wait_for_the_next_proof(
    rests: Callable[[bool], None],
) -> None:
    async with followed() as (ledger, following):
        await _settled(ledger, following)
        rests(False)
        following.needed_at = asyncio.get_running_loop().time()
        following.hurry()
        await ledger.next_proof()


async def test_it_is_complete_once_the_journal_was_read_as_far_as_the_ledger_was(rests: Callable[[bool], None]) -> None:
    async with followed() as (ledger, following):
        rests(False)
        await _settled(ledger, following)
        ledger.at = ANOTHER.position
        complete = asyncio.Event()
        following.when_complete(complete.set)
        for change in (CHANGE, ANOTHER):  # a read brings so many at most, and the rest with the next one
            for _ in range(3):
                await ledger.next_proof()
            assert not complete.is_set()
            ledger.entries = [change]
            ledger.news.set()
        await asyncio.wait_for(complete.wait(), 60)
        assert following.view.position == ANOTHER.position


async def test_nobody_waits_for_a_view_that_lost_its_ledger(rests: Callable[[bool], None]) -> None:
    async with followed() as (ledger, following):
        rests(False)
        await _settled(ledger, following)
        ledger.at = Position(epoch=1, seq=5)
        first, second = asyncio.Event(), asyncio.Event()
        following.when_complete(first.set)
        await ledger.next_proof()
        ledger.at = Position(epoch=0, seq=0)  # emptied
        await asyncio.wait_for(first.wait(), 60)
        following._set_ready(False)
        following.when_complete(second.set)
        assert second.is_set()


async def test_one_who_cannot_be_told_does_not_cost_the_others(rests: Callable[[bool], None]) -> None:
    async with followed() as (ledger, following):
        await _settled(ledger, following)
        complete = asyncio.Event()
        following.when_complete(lambda: 1 / 0)  # type: ignore[arg-type]
        following.when_complete(complete.set)
        await asyncio.wait_for(complete.wait(), 60)
