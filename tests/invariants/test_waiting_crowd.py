"""Fifteen times more people than places wait for an opening: all get a definite answer, in the order of the draw."""

import asyncio
from collections import Counter

from loadtest.stage.service import running_service
from loadtest.waiting.crowd import PLACED, SOLD_OUT, Crowd, Plan
from loadtest.waiting.judging import Hold, holds_of, judge, order_violations
from loadtest.waiting.scene import announced
from reservasi.events import AnyEvent, Held, JournalEntry, OpeningSet
from reservasi.model import Opening, OpeningTerms
from reservasi.programs import WaitingRoom
from tests.fronts import FRONTS, offered_by_all

QUOTAS, PLACES = 10, 10
PLAN = Plan(people=1500, late_s=2.0)
ROOM = WaitingRoom(rate_per_min=3000, rate_max_per_min=30_000)


async def test_all_who_wait_are_served_in_the_order_of_the_draw() -> None:
    with running_service(quotas=QUOTAS, places=PLACES, processes=FRONTS) as service:
        quotas = offered_by_all(service, QUOTAS)
        async with asyncio.timeout(100), announced(service, ROOM, opens_in_s=4.0) as scene:
            crowd = Crowd(service.url, scene.opening, scene.opens_at_ms, quotas, PLAN)
            await crowd.run()
            verdicts = await judge(service, scene, crowd, QUOTAS * PLACES)
    assert {verdict.name: verdict.value for verdict in verdicts if not verdict.met} == {}
    outcomes = Counter(visitor.outcome for visitor in crowd.visitors)
    assert outcomes == {PLACED: QUOTAS * PLACES, SOLD_OUT: PLAN.people - QUOTAS * PLACES}
    assert sum(bool(visitor.ticket) for visitor in crowd.visitors) > QUOTAS * PLACES
    assert {who for who, _ in crowd.refusals} >= {"early", "hasty", "thief", "forger", "careless"}


def entry(*events: AnyEvent) -> JournalEntry:
    return JournalEntry(epoch=1, first_seq=events[0].seq, at_ms=1, chain="", payload=b"", events=events)


def mark(seq: int, through: int, *, opening: str = "p-1", drawn: bool = True) -> OpeningSet:
    terms = OpeningTerms(
        opens_at_ms=1,
        joins_from_ms=0,
        ends_at_ms=2,
        waiting_room=True,
        proof_of_work=False,
        rate_per_min=1,
        rate_max_per_min=1,
        adaptive=False,
        commitment="",
        sealed_seed="",
    )
    return OpeningSet(seq=seq, opening=Opening(id=opening, terms=terms, drawn=drawn, admitted_through=through))


def held(seq: int, *persons: str) -> Held:
    return Held(seq=seq, reservation_id=f"r{seq}", quota="q", deadline_ms=1, fingerprint="", sealed="", persons=persons)


def test_a_place_given_above_the_mark_is_found() -> None:
    journal = [
        entry(mark(1, 9, drawn=False), held(2, "first")),  # before the draw nobody may
        entry(mark(3, 4), mark(4, 99, opening="p-2"), held(5, "fifth"), held(6, "fourth")),
        entry(mark(7, 5), held(8, "fifth"), held(9, "stranger"), held(10, "companion", "fourth")),
    ]
    holds = list(holds_of(journal, "p-1"))
    assert [hold.mark for hold in holds] == [-1, 4, 4, 5, 5, 5]
    numbers = {"first": 0, "fourth": 4, "fifth": 5, "companion": 70}
    assert [text.partition(":")[0] for text in order_violations(holds, numbers)] == ["seq 2", "seq 5", "seq 9"]
    assert order_violations([Hold(seq=1, persons=("fifth",), mark=5)], numbers) == []
