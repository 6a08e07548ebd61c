"""`kill -9` of a front, the recorder and the ledger's server under load: nothing promised is lost."""

import asyncio

from loadtest.checker.check import check
from loadtest.crowd.crowd import Crowd, take_what_is_left
from loadtest.crowd.scenario import Plan, Result
from loadtest.stage.program import PROGRAM
from loadtest.stage.service import Part, Service

PEOPLE = 1500
PLACES = 100
AT_ONCE = 120
# After so many visits that part is killed; the last two fall together, so that nobody is there to own the ledger.
KILLS = ((20, Part.VALKEY), (60, Part.FRONT), (120, Part.WORKER), (120, Part.VALKEY))


async def test_no_promise_is_lost_when_processes_are_killed(service: Service) -> None:
    plan = Plan(program=PROGRAM, people=PEOPLE, think_s_max=1.0, abandon_share=0.05, cancel_share=0.1, pair_share=0)
    crowd = Crowd(service.url, plan, at_once=AT_ONCE)
    kills = KillsOnTheWay(service)
    await crowd.run(kills.progressed)
    replaced = await kills.replaced()

    assert len(replaced) == len(KILLS)
    assert all(killed != successor for killed, successor in replaced)
    assert crowd.results[Result.SURPRISED] == crowd.results[Result.UNANSWERED] == crowd.results[Result.CONFIRMING] == 0
    assert {exchange.outcome for exchange in crowd.history} <= {0, 200, 201, 202, 409, 503}

    latecomers = await take_what_is_left(service, crowd)
    (finding,) = await check(service.redis_url, service.postgres_dsn, crowd.history + latecomers.history)
    assert finding.violations == ()
    assert finding.held + finding.confirmed == PLACES
    confirmed = crowd.results[Result.CONFIRMED] + latecomers.results[Result.CONFIRMED]
    assert finding.booked == finding.confirmed == confirmed
    assert finding.held == crowd.results[Result.ABANDONED]


class KillsOnTheWay:
    """Kills one part after another, each as soon as more people have been served than before the last."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._marks = list(KILLS)
        self._kills: list[asyncio.Task[tuple[int, int]]] = []

    def progressed(self, ended: int) -> None:
        """Kill what is due after so many visits."""
        while self._marks and ended >= self._marks[0][0]:
            _, part = self._marks.pop(0)
            self._kills.append(asyncio.create_task(asyncio.to_thread(self._service.kill_and_wait, part)))

    async def replaced(self) -> list[tuple[int, int]]:
        """What was killed and what took its place."""
        return await asyncio.gather(*self._kills)
