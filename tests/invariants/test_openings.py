"""Openings: batched, one by one and in a plain model the same; with concurrent fronts and controllers the mark
never goes back.
"""

import asyncio
import itertools
import random
from dataclasses import dataclass
from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from loadtest.checker.replay import Model
from reservasi.events import OpeningSet
from reservasi.ledger import keys
from reservasi.ledger.group_commit import GroupCommit
from reservasi.model import Admit, Answer, Join, MoveOpening, Opening, Outcome, RetireOpening, SetOpening, SetQuota
from tests.invariants.opening_model import Command, KnownQuota, OpeningModel, SaidOfOpening
from tests.invariants.test_batches import SLOW
from tests.ledgers import Ledger, open_group, open_ledger, opening_set, opening_terms, quota_set

IDS = ("p-1", "p-2", "p-3")
MOMENTS_MS = (4_000_000_000_000, 4_000_000_001_000, 4_000_000_002_000)
ENDS_AT_MS = 4_100_000_000_000
QUOTAS = {f"p.{office}.baru.20261201.0800.online": office for office in ("kanim", "ulp")}


@dataclass(frozen=True)
class Begin:
    """The moment of an opening comes."""

    opening: str


@st.composite
def _terms(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "opens_at_ms": draw(st.sampled_from(MOMENTS_MS)),
        "joins_from_ms": draw(st.sampled_from([0, 0, 0, 3_900_000_000_000])),
        "ends_at_ms": draw(st.sampled_from([ENDS_AT_MS, ENDS_AT_MS, ENDS_AT_MS, 5])),
        "waiting_room": draw(st.sampled_from([True, True, True, False])),
        "adaptive": draw(st.booleans()),
        "rate_per_min": draw(st.sampled_from([1, 2])),
        "rate_max_per_min": 4,
        "commitment": draw(st.sampled_from(["c" * 64, "d" * 64])),
        "offices": draw(st.sampled_from([(), (), ("kanim",), ("ulp",), ("kanim", "mpp")])),
    }


@st.composite
def _changes(draw: st.DrawFn) -> SetOpening:
    return SetOpening(
        opening=draw(st.sampled_from(IDS)),
        terms=opening_terms(**draw(_terms())) if draw(st.booleans()) else None,
        paused=draw(st.sampled_from([None, None, True, False])),
        rate_per_min=draw(st.sampled_from([None, None, 0, 3])),
        beacon=draw(st.sampled_from([None, None, "a", "b"])),
        version=draw(st.sampled_from([0, 0, 1, 2, 3])),
    )


@st.composite
def _moves(draw: st.DrawFn) -> MoveOpening:
    cancels = draw(st.sampled_from([None, None, None, None, True, False]))
    return MoveOpening(
        opening=draw(st.sampled_from(IDS)),
        opens_at_ms=None if cancels else draw(st.sampled_from([None, *MOMENTS_MS, *MOMENTS_MS, 5])),
        ends_at_ms=None if cancels else draw(st.sampled_from([None, None, None, ENDS_AT_MS, MOMENTS_MS[0], 5])),
        cancelled=cancels,
        reason=draw(st.sampled_from(["", "", "a flood"])),
        version=draw(st.sampled_from([0, 0, 0, 1, 2])),
    )


def _quota_moves() -> st.SearchStrategy[SetQuota]:
    takers = st.sampled_from(["", "", *IDS])
    quotas, moments = st.sampled_from(sorted(QUOTAS)), st.sampled_from([0, *MOMENTS_MS])
    return st.builds(SetQuota, quota=quotas, opens_at_ms=moments, taker=takers)


def _commands() -> st.SearchStrategy[Command]:
    ids, tickets = st.sampled_from(IDS), st.integers(1, 12).map(lambda number: f"ticket-{number}")
    joins = st.builds(Join, opening=ids, ticket_id=tickets)
    controllers, rates = st.sampled_from(["a", "a", "b"]), st.sampled_from([0, 0, 3, 9])
    admits = st.builds(Admit, opening=ids, controller=controllers, lease_ms=st.just(60_000), rate_per_min=rates)
    retirements = st.builds(RetireOpening, opening=ids)
    return st.one_of(joins, joins, joins, admits, _changes(), _moves(), retirements, _quota_moves())


def _histories() -> st.SearchStrategy[list[list[Command] | Begin]]:
    batches = st.lists(_commands(), min_size=3, max_size=15)
    begins = st.sampled_from(IDS).map(Begin)
    return st.lists(st.one_of(batches, batches, batches, begins), min_size=4, max_size=14)


def _said(answer: Answer) -> SaidOfOpening:
    return SaidOfOpening(
        answer.outcome, answer.version, answer.number, answer.joined, answer.arrived, answer.rate_per_min
    )


def _kinds(commands: list[Command]) -> list[list[Command]]:
    """Cut where `frames_of` cuts: these arrive together."""
    return [list(group) for _, group in itertools.groupby(commands, type)]


async def _begin(ledger: Ledger, opening: str, opens_at_ms: int) -> None:
    """Let the moment have come; the moment itself stays the opening's own, so that none is shared."""
    stored: Any = await ledger.client.hget(keys.openings(ledger.program), opening)
    terms, *rest = msgpack.unpackb(stored)
    terms[0] = opens_at_ms
    await ledger.client.hset(keys.openings(ledger.program), opening, msgpack.packb([terms, *rest], use_bin_type=False))


def _public(opening: Opening) -> Opening:
    """What does not depend on the clock: a pause moves an end by some milliseconds."""
    terms = replace(opening.terms, ends_at_ms=opening.terms.ends_at_ms // 1_000_000)
    return replace(opening, terms=terms, advanced_at_ms=0, paused_at_ms=0, revised_at_ms=0)


async def _assert_as_in_model(ledger: Ledger, model: OpeningModel) -> None:
    snapshot = await ledger.snapshot()
    expected = {id_: _public(one.opening) for id_, one in model.openings.items()}
    assert {one.id: _public(one) for one in snapshot.openings} == expected
    quotas = {
        one.id: KnownQuota(one.terms.office, one.terms.opens_at_ms, one.terms.closed, one.counts.version)
        for one in snapshot.quotas
    }
    assert quotas == model.quotas
    assert snapshot.position.seq == model.seq


@settings(SLOW, max_examples=60)
@given(history=_histories())
async def test_batched_and_one_by_one_are_as_in_the_model(
    history: list[list[Command] | Begin], valkey_url: str
) -> None:
    async with (
        open_ledger(valkey_url, f"b-{id(history):x}") as batched,
        open_ledger(valkey_url, f"o-{id(history):x}") as single,
    ):
        try:
            together, apart = OpeningModel(), OpeningModel()
            for ledger, model in ((batched, together), (single, apart)):
                await ledger.run(
                    *(quota_set(id_, opens_at_ms=MOMENTS_MS[0], office=office) for id_, office in QUOTAS.items())
                )
                model.quotas = {id_: KnownQuota(office, MOMENTS_MS[0]) for id_, office in QUOTAS.items()}
                model.seq = len(QUOTAS)
            first: list[Command] = [opening_set("p-1", rate_per_min=1)]
            for step in [first, *history]:
                if isinstance(step, Begin):
                    opens_at_ms = await batched.now_ms() - IDS.index(step.opening) - 1
                    for ledger, model in ((batched, together), (single, apart)):
                        if model.begin(step.opening):
                            await _begin(ledger, step.opening, opens_at_ms)
                            model.moved(step.opening, opens_at_ms)
                    continue
                expected = [answer for group in _kinds(step) for answer in together.run(group)]
                assert [_said(answer) for answer in await batched.run(*step)] == expected
                for command in step:
                    assert _said(await single.one(command)) == apart.run([command])[0]
                await _assert_as_in_model(batched, together)
                await _assert_as_in_model(single, apart)
        finally:
            for ledger in (batched, single):
                names = [key async for key in ledger.client.scan_iter(match=f"{{{ledger.program}}}*", count=10_000)]
                await ledger.client.delete(*names)


# -- several at once ---------------------------------------------------------------------------------------------

PEOPLE, LEASE_MS, RATE, RATE_MAX = 400, 40, 6000, 12_000
BEGINS_IN_MS, LASTS_S = 400, 1.2


async def _visit(front: GroupCommit, number: int, answers: list[Answer]) -> None:
    """One person, who asks again and again; one in four comes after the opening only."""
    rng = random.Random(number)
    if number % 4 == 0:
        await asyncio.sleep(2 * BEGINS_IN_MS / 1000)
    first = None
    for _ in range(4):
        await asyncio.sleep(rng.random() * LASTS_S / 3)
        answer = await front.submit(Join(opening="p-1", ticket_id=f"ticket-{number % (PEOPLE // 2)}"))
        assert answer.outcome is Outcome.JOINED
        first = first or answer
        assert (answer.number < 0) == (first.number < 0), "the drawn number stays the drawn number"
        answers.append(answer)


async def _control(front: GroupCommit, name: str, answers: list[tuple[str, Answer]], *, gives_up: bool) -> None:
    """A controller; one that gives up leaves its lease to whoever comes."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + LASTS_S * (0.6 if gives_up else 1.2)
    while loop.time() < until_s:
        answer = await front.submit(Admit(opening="p-1", controller=name, lease_ms=LEASE_MS, rate_per_min=RATE_MAX))
        answers.append((name, answer))
        await asyncio.sleep(0.01)


async def _follow(front: GroupCommit, name: str, answers: list[tuple[str, Answer]], *, after: str) -> None:
    """A controller that comes while another one leads."""
    async with asyncio.timeout(LASTS_S):
        while not any(who == after and answer.outcome is Outcome.ADVANCED for who, answer in answers):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await _control(front, name, answers, gives_up=False)


async def _steer(front: GroupCommit) -> None:
    """Staff pause, resume and set rates meanwhile, and try to enter one beacon after another."""
    rng = random.Random(1)
    for at in range(40):
        change: dict[str, Any] = rng.choice(
            [{"paused": True}, {"paused": False}, {"rate_per_min": RATE}, {"rate_per_min": 0}, {"beacon": f"b{at}"}]
        )
        await front.submit(SetOpening(opening="p-1", **change))
        await asyncio.sleep(LASTS_S / 50)
    await front.submit(SetOpening(opening="p-1", paused=False))


async def test_fronts_and_controllers_at_once_never_go_back(valkey_url: str, program: str) -> None:
    joins: list[Answer] = []
    moves: list[tuple[str, Answer]] = []
    async with (
        open_ledger(valkey_url, program) as ledger,
        open_group(valkey_url, program, batch_items_max=16) as first,
        open_group(valkey_url, program, batch_items_max=64) as second,
    ):
        opens_at_ms = await ledger.now_ms() + BEGINS_IN_MS
        created = opening_set(
            opens_at_ms=opens_at_ms, adaptive=True, rate_per_min=RATE, rate_max_per_min=RATE_MAX, ends_at_ms=ENDS_AT_MS
        )
        assert (await ledger.one(created)).outcome is Outcome.OPENING_SET
        fronts = (first, second)
        await asyncio.gather(
            *(_visit(fronts[number % 2], number, joins) for number in range(PEOPLE)),
            _control(first, "a", moves, gives_up=True),
            _follow(second, "b", moves, after="a"),
            _steer(second),
        )
        entries = await ledger.entries()
        model = Model()
        for entry in entries:
            for event in entry.events:
                assert isinstance(event, OpeningSet), "joins leave no event"
                assert model.apply(event) is None
                assert not event.opening.drawn or entry.at_ms >= opens_at_ms
                mark = event.opening.admitted_through
                assert mark <= max(0, entry.at_ms - opens_at_ms) * RATE_MAX / 60_000
        (opening,) = (await ledger.snapshot()).openings
        assert replace(model.openings["p-1"], advanced_at_ms=opening.advanced_at_ms) == opening
    _assert_one_leads_at_a_time([(name, answer) for name, answer in moves if answer.outcome is Outcome.ADVANCED])
    _assert_no_number_gets_better(joins, opening)


def _assert_one_leads_at_a_time(moves: list[tuple[str, Answer]]) -> None:
    assert {name for name, _ in moves} == {"a", "b"}
    moves.sort(key=lambda move: (move[1].now_ms, move[1].admitted_through))
    for (name, answer), (other, later) in itertools.pairwise(moves):
        assert name == other or later.now_ms - answer.now_ms >= LEASE_MS
        assert answer.admitted_through <= later.admitted_through


def _assert_no_number_gets_better(joins: list[Answer], opening: Opening) -> None:
    assert {answer.number >= 0 for answer in joins} == {True, False}, "some came before the opening, some after"
    assert all(opening.joined <= answer.number <= opening.arrived for answer in joins if answer.number >= 0)
    by_time = sorted((answer.now_ms, answer.number) for answer in joins if answer.number >= 0)
    assert all(earlier[1] <= later[1] for earlier, later in itertools.pairwise(by_time))
