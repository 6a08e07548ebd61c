"""Fifteen times more people than places at once: each gets one definite answer, and every place one person."""

from collections import Counter

from loadtest.checker.check import check
from loadtest.crowd.crowd import Crowd, take_what_is_left
from loadtest.crowd.scenario import Plan, Result
from loadtest.stage.program import PROGRAM
from loadtest.stage.service import Service

PEOPLE = 1500
PLACES = 100
AT_ONCE = 150


async def test_every_place_goes_to_exactly_one_of_the_crowd(service: Service) -> None:
    """All who get a place confirm it: as many rows as places, every answer 201 or 409, nobody left without one."""
    plan = Plan(program=PROGRAM, people=PEOPLE, abandon_share=0, cancel_share=0, pair_share=0, think_s_max=0.5)
    crowd = Crowd(service.url, plan, at_once=AT_ONCE)
    await crowd.run()

    claims = Counter(exchange.outcome for exchange in crowd.history if exchange.call == "claim")
    assert claims.keys() == {201, 409}
    assert {exchange.outcome for exchange in crowd.history if exchange.call == "confirm"} <= {200, 202}
    assert {exchange.outcome for exchange in crowd.history if exchange.call == "availability"} == {200}
    assert crowd.results == {Result.CONFIRMED: PLACES, Result.WITHOUT: PEOPLE - PLACES}
    served = {e.body["id"] for e in crowd.history if e.call == "claim" and e.outcome == 201}
    assert len(served) == PLACES

    (finding,) = await check(service.redis_url, service.postgres_dsn, crowd.history)
    assert finding.violations == ()
    assert (finding.capacity, finding.held, finding.confirmed, finding.booked) == (PLACES, 0, PLACES, PLACES)


async def test_places_given_back_find_somebody_else(service: Service) -> None:
    """Some abandon, some cancel, some come in pairs, some try for a second place: still every place is somebody's."""
    plan = Plan(
        program=PROGRAM,
        people=PEOPLE,
        abandon_share=0.1,
        cancel_share=0.3,
        pair_share=0.05,
        greedy_share=0.3,
        replay_share=0.3,
        think_s_max=0.3,
    )
    crowd = Crowd(service.url, plan, at_once=AT_ONCE)
    await crowd.run()

    assert crowd.results.keys() == {Result.CONFIRMED, Result.ABANDONED, Result.CANCELLED, Result.WITHOUT}
    first_answers: set[str] = set()
    for exchange in crowd.history:
        if exchange.call == "claim" and exchange.outcome == 201:
            assert exchange.replayed == (exchange.key in first_answers)
            first_answers.add(exchange.key)
    latecomers = await take_what_is_left(service, crowd)
    history = crowd.history + latecomers.history
    assert max(exchange.outcome for exchange in history) == 409
    (finding,) = await check(service.redis_url, service.postgres_dsn, history)
    assert finding.violations == ()
    assert finding.held >= crowd.results[Result.ABANDONED] > 0
    assert finding.held + finding.confirmed == PLACES
    assert finding.booked == finding.confirmed
