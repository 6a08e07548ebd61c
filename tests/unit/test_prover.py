"""Views whose ledgers are on one server are proved together, and a fault of one does not affect the others."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from reservasi.availability.follower import PROOFS_MAX, Follower
from reservasi.availability.prover import PAUSE_MIN_S, Prover
from reservasi.availability.view import ProgramView
from reservasi.errors import JournalGap, LedgerUnreachable
from reservasi.ledger.connection import LedgerMeta
from reservasi.model import Position
from tests.ledgers import eventually

BUSY_S = 0.01
HERE = Position(epoch=1, seq=7)


class View:
    """A follower that is always in need, and what it was told."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.asked_at = float("-inf")
        self.results: list[LedgerMeta | Exception] = []

    def due_at(self, _now: float, *, busy_s: float, idle_s: float) -> float:
        assert busy_s < idle_s
        return self.asked_at + busy_s

    def note_asked(self, now: float) -> None:
        self.asked_at = now

    def note_answered(self, meta: LedgerMeta) -> None:
        self.results.append(meta)

    def note_unanswered(self, error: Exception) -> None:
        self.results.append(error)


class Servers:
    """Connections that note who is asked about together; `fails` says why one that is asked about cannot be answered."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, ...]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.fails: dict[str, Exception] = {}
        self.open_to: set[str] = set()  # programs for which a connection is open
        self._in_use: set[str] = set()

    def open(self, program: str) -> Any:
        async def metas(programs: Sequence[str], _timeout_s: float) -> list[LedgerMeta]:
            assert program in programs, "the connection goes where that program's ledger is"
            assert program not in self._in_use, "a connection is for one at a time"
            self._in_use.add(program)
            self.open_to.add(program)
            self.requests.append(tuple(programs))
            try:
                if any(each.startswith("slow") for each in programs):
                    await self.answers.wait()
                await asyncio.sleep(0)
            finally:
                self._in_use.discard(program)
            for each in programs:
                if each in self.fails:
                    raise self.fails[each]
            return [LedgerMeta(position=HERE, owned=True, run_id=each) for each in programs]

        async def drop() -> None:
            self.open_to.discard(program)

        return SimpleNamespace(metas=metas, drop=drop)


@pytest.fixture
def servers() -> Servers:
    return Servers()


Proved = Callable[..., Sequence[Any]]


@pytest.fixture
async def proved(servers: Servers) -> AsyncIterator[Proved]:
    """Views of these programs, proved from now on; the first letter is their server's name."""
    prover = Prover(servers.open, lambda program: program[0], busy_s=BUSY_S)

    def proved(*programs: str) -> Sequence[Any]:
        views: list[Any] = [View(program) for program in programs]
        for view in views:
            prover.add(view)
        return views

    yield proved
    await prover.close()


async def _all_answered(views: Sequence[View], times: int) -> None:
    async def is_done() -> bool:
        return all(len(view.results) >= times for view in views)

    await eventually(is_done)


async def _requested(servers: Servers, times: int) -> None:
    async def often_enough() -> bool:
        return len(servers.requests) >= times

    await eventually(often_enough)


async def test_those_of_one_server_are_asked_about_together(servers: Servers, proved: Proved) -> None:
    views = proved("a1", "b1", "a2", "a3")
    await _all_answered(views, 5)
    assert set(servers.requests) == {("a1", "a2", "a3"), ("b1",)}
    assert all(meta.run_id == view.program for view in views for meta in view.results)


async def test_a_ledger_that_has_moved_does_not_cost_the_others_their_views(servers: Servers, proved: Proved) -> None:
    servers.fails["a2"] = LedgerUnreachable("the slot is served elsewhere")
    views = proved("a1", "a2", "a3")
    await _all_answered(views, 3)
    for view in views:
        assert all(isinstance(result, LedgerUnreachable) == (view.program == "a2") for result in view.results)


async def test_who_was_asked_alone_keeps_no_connection(servers: Servers, proved: Proved) -> None:
    servers.fails["a2"] = LedgerUnreachable("the slot is served elsewhere")
    views = proved("a1", "a2", "a3")
    await _all_answered(views, 1)
    del servers.fails["a2"]
    count = len(views[1].results)
    await _all_answered(views, count + 3)
    assert len(servers.open_to) == 1


async def test_one_that_is_silent_alone_does_not_cost_the_others_their_time(servers: Servers, proved: Proved) -> None:
    servers.fails["slow2"] = LedgerUnreachable("the connection was lost")
    servers.answers.clear()
    views = proved("slow1", "slow2", "slow3")

    async def all_asked_alone() -> bool:
        return {("slow1",), ("slow2",), ("slow3",)} <= set(servers.requests)

    async def asked_together() -> bool:
        return ("slow1", "slow2", "slow3") in servers.requests

    await eventually(asked_together)
    servers.answers.set()
    await asyncio.sleep(0)
    servers.answers.clear()
    await eventually(all_asked_alone)
    assert not any(view.results for view in views), "one of them waited for another"
    servers.answers.set()
    await _all_answered(views, 1)


async def test_nobody_is_asked_without_a_pause_whoever_hurries(servers: Servers) -> None:
    """Anybody can make a front hurry, by asking for what it does not know."""
    prover = Prover(servers.open, lambda _: "", busy_s=BUSY_S)
    view: Any = View("p")
    view.due_at = lambda now, **_: now
    loop = asyncio.get_running_loop()
    began = loop.time()
    prover.add(view)
    for _ in range(300):
        prover.hurry()
        await asyncio.sleep(0)
    await _requested(servers, 3)
    requests, passed_s = len(servers.requests), loop.time() - began
    await prover.close()
    assert requests <= passed_s / PAUSE_MIN_S + 1


async def test_a_server_that_is_silent_is_given_up_for_all_at_once(servers: Servers, proved: Proved) -> None:
    silent = LedgerUnreachable("the ledger does not answer")
    silent.__cause__ = TimeoutError()
    servers.fails["a2"] = silent
    views = proved("a1", "a2", "a3")
    await _all_answered(views, 2)
    assert {result for view in views for result in view.results} == {silent}
    assert set(servers.requests) == {("a1", "a2", "a3")}, "each alone would wait as long again"


async def test_a_slow_server_does_not_keep_the_others_waiting(servers: Servers, proved: Proved) -> None:
    servers.answers.clear()
    slow, quick = proved("slow", "quick")
    await _all_answered([quick], 5)
    assert not slow.results
    assert servers.requests.count(("slow",)) == 1, "it was asked again before it answered"
    servers.answers.set()
    await _all_answered([slow], 2)


async def test_a_bug_is_told_to_those_whom_it_concerns(servers: Servers, proved: Proved) -> None:
    servers.fails["a1"] = ZeroDivisionError()
    views = proved("a1", "b1")
    await _all_answered(views, 3)
    assert all(isinstance(result, ZeroDivisionError) for result in views[0].results)
    assert not any(isinstance(result, Exception) for result in views[1].results)


async def test_an_answer_that_comes_late_says_nothing_of_a_view_that_was_begun_anew() -> None:
    following = object.__new__(Follower)
    following._asked_from = None
    following._lost = lost = asyncio.get_running_loop().create_future()
    following.note_answered(LedgerMeta(position=Position(epoch=0, seq=0), owned=False, run_id=""))
    following.note_unanswered(JournalGap(""))
    assert not lost.done()
    following._asked_from = HERE
    following.note_unanswered(JournalGap(""))
    assert lost.done()


@pytest.mark.parametrize(
    ("here", "position", "fresh"),
    [
        (Position(epoch=1, seq=7, chain="a"), Position(epoch=1, seq=7, chain="a"), True),
        (Position(epoch=1, seq=7, chain="a"), Position(epoch=2, seq=7, chain="a"), True),
        (Position(epoch=1, seq=8, chain="b"), Position(epoch=1, seq=7, chain="a"), True),
        (Position(epoch=1, seq=6, chain="a"), Position(epoch=1, seq=7, chain="b"), False),
        (Position(epoch=1, seq=7, chain="a"), Position(epoch=2, seq=7, chain="b"), False),
        (Position(epoch=1, seq=8, chain="b"), Position(epoch=2, seq=7, chain="c"), False),
    ],
    ids=["there", "owned-anew", "beyond", "behind", "another-chain", "beyond-what-was-lost"],
)
async def test_a_view_is_as_old_as_the_question_whose_answer_it_has_reached(
    here: Position, position: Position, fresh: bool
) -> None:
    following = _following(Position(epoch=1, seq=5))
    following.note_asked(3.0)
    following.view.position = here  # it was read on while the answer was on its way
    following.note_answered(LedgerMeta(position=position, owned=True, run_id=""))
    assert (following.fresh_at == 3.0) == fresh


@pytest.mark.parametrize(
    ("position", "owned", "lost"),
    [
        (HERE, True, False),
        (Position(epoch=2, seq=9), True, False),
        (HERE, False, True),
        (Position(epoch=0, seq=0), False, True),
        (Position(epoch=1, seq=6), True, True),
        (Position(epoch=0, seq=9), True, True),
        (Position(epoch=1, seq=7, chain="other"), True, True),
    ],
    ids=["there", "further", "not-owned", "emptied", "older", "older-lineage", "another-history"],
)
async def test_a_view_is_begun_anew_where_the_ledger_is_not_the_one_that_it_follows(
    position: Position, owned: bool, lost: bool
) -> None:
    following = _following(HERE)
    following._lost = asyncio.get_running_loop().create_future()
    following.note_asked(3.0)
    following.note_answered(LedgerMeta(position=position, owned=owned, run_id=""))
    assert following._lost.done() == lost


async def test_no_more_proofs_are_kept_than_some() -> None:
    following = _following(HERE)
    for asked_at in range(2 * PROOFS_MAX):
        following.note_asked(asked_at)
        following.note_answered(LedgerMeta(position=Position(epoch=1, seq=8), owned=True, run_id=""))
    assert len(following._proofs) == PROOFS_MAX


def _following(at: Position) -> Any:
    """A follower that is not at work, with a view of this place."""
    following = object.__new__(Follower)
    following.program, following.fresh_at, following.view = "p", float("-inf"), ProgramView()
    following._proofs, following._waiting = deque(), deque()
    following.view.position = at
    return following
