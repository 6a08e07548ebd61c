"""A crowd in one asyncio process: drives the scenario with aiohttp, for tests that watch what happens meanwhile."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import aiohttp
import msgspec

from loadtest.checker.history import NO_ANSWER, Exchange
from loadtest.crowd.scenario import Answered, Call, Pause, Plan, Result, exchange, read_answer, visit
from loadtest.stage.service import Service

ANSWER_TIMEOUT_S = 15.0
LATECOMERS = 200


class Crowd:
    """Visits of `plan.people` people from number `plan.first` on, at most `at_once` of them at the same time."""

    def __init__(self, url: str, plan: Plan, *, at_once: int) -> None:
        self.url = url
        self.plan = plan
        self._at_once = at_once
        self._next = plan.first
        self._choices: list[str] = []
        self.history: list[Exchange] = []
        self.results: Counter[Result] = Counter()

    async def run(self, progressed: Callable[[int], None] | None = None) -> None:
        """Let everybody visit; after each visit `progressed` is called with the number that have ended."""
        async with open_client(self._at_once) as client, asyncio.TaskGroup() as group:
            for _ in range(min(self._at_once, self.plan.people)):
                group.create_task(self._visits(client, progressed or (lambda _: None)))

    async def _visits(self, client: aiohttp.ClientSession, progressed: Callable[[int], None]) -> None:
        while self._next < self.plan.first + self.plan.people:
            number, self._next = self._next, self._next + 1
            self.results[await self._visit(client, number)] += 1
            progressed(self.results.total())

    async def _visit(self, client: aiohttp.ClientSession, number: int) -> Result:
        steps = visit(number, self.plan, self._choices)
        answered: Answered | None = None
        while True:
            try:
                step = steps.send(answered)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Pause):
                answered = None
                await asyncio.sleep(step.seconds)
            else:
                answered = await self.send(client, number, step)

    async def send(self, client: aiohttp.ClientSession, number: int, call: Call, url: str = "") -> Answered:
        """One request of a person, to the crowd's service or to another address of it; the history keeps it."""
        answered, sent = await send(client, url or self.url, number, call)
        self.history.append(sent)
        return answered


def open_client(at_once: int = 0) -> aiohttp.ClientSession:
    """A client with so many connections at most; 0: with as many as there are requests in flight."""
    connector, timeout = aiohttp.TCPConnector(limit=at_once), aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)


async def send(client: aiohttp.ClientSession, url: str, number: int, call: Call) -> tuple[Answered, Exchange]:
    """Send one request of a person; the answer, and what a history keeps of both."""
    sent_ms = time.time() * 1000
    try:
        async with client.request(
            call.method, url + call.path, headers=call.headers, data=call.body or None
        ) as response:
            answered = read_answer(response.status, response.headers, await response.read())
    except (aiohttp.ClientError, OSError, TimeoutError):
        answered = Answered(outcome=NO_ANSWER)
    return answered, exchange(number, call, answered, sent_ms)


async def take_what_is_left(service: Service, crowd: Crowd) -> Crowd:
    """More people, who take and confirm the places that the last people of a crowd gave back."""
    plan = msgspec.structs.replace(
        crowd.plan,
        people=LATECOMERS,
        first=crowd.plan.first + crowd.plan.people,
        abandon_share=0,
        cancel_share=0,
        pair_share=0,
        think_s_max=0,
    )
    latecomers = Crowd(service.url, plan, at_once=LATECOMERS)
    await latecomers.run()
    return latecomers
