"""Sends prebuilt requests by a timetable over kept-alive raw connections, one request in flight on each.

The next request takes an idle connection, or opens one; at the limit it waits, and its latency grows meanwhile.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence

from loadtest.openloop.outcomes import NONE, Outcomes, outcome_of
from loadtest.stage.http import HOST, Answer, Connection, UnreadableAnswer
from loadtest.stage.undisturbed import undisturbed

CONNECTIONS_MAX = 4000
PATIENCE_S = 15.0  # after the timetable's end; then what is open counts as unanswered
AT_ONCE = 32  # requests sent before answers are read again
HEAD_START_S = 0.05


def poisson(rate_per_s: float, seconds: float, seed: int = 0) -> Sequence[float]:
    """Seconds from the start at which somebody arrives, in order: a Poisson process, the same for the same seed."""
    if rate_per_s <= 0:
        raise ValueError("a rate must be above zero")
    chance = random.Random(f"{seed}/{float(rate_per_s)}/{float(seconds)}")  # 100 is 100.0
    arrivals: list[float] = []
    at_s = chance.expovariate(rate_per_s)
    while at_s < seconds:
        arrivals.append(at_s)
        at_s += chance.expovariate(rate_per_s)
    return arrivals


class _Connection(Connection):
    def __init__(self, load: "OpenLoop") -> None:
        super().__init__()
        self._load = load
        self.number: int | None = None  # of the request that it waits for

    def send(self, number: int) -> None:
        self.number = number
        if self.transport is not None:
            self.transport.write(self._load.requests[number])

    def answered(self, answer: Answer) -> None:
        number, self.number = self.number, None
        if number is not None:
            outcome = outcome_of(answer.status, answer.body)
            self._load.count(number, outcome, says_when=b"\r\nRetry-After: " in answer.head)
        if answer.is_last:
            self.close()
        else:
            self._load.free(self)

    def lost(self, error: UnreadableAnswer) -> None:
        number, self.number = self.number, None
        self._load.lost(self, number)


class OpenLoop:
    """One load: so many requests, each at its moment."""

    def __init__(
        self,
        port: int,
        requests: Sequence[bytes],
        arrivals: Sequence[float],
        seconds: float,
        *,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        if len(requests) < len(arrivals):
            raise ValueError("fewer requests than arrivals")
        self.requests = requests
        self.outcomes = Outcomes(seconds=seconds, offered=len(arrivals))
        self._port = port
        self._arrivals = arrivals
        self._connections_max = connections_max
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[int] = deque()  # for a connection
        self._unanswered: set[int] = set()
        self._sent_all = False
        self._done = asyncio.Event()
        self._started_s = 0.0

    async def run(self, patience_s: float = PATIENCE_S) -> Outcomes:
        self._started_s = time.perf_counter() + HEAD_START_S
        try:
            with undisturbed():
                await self._send()
                self._sent_all = True
                if self._unanswered:
                    async with asyncio.timeout(patience_s):
                        await self._done.wait()
        except TimeoutError:
            pass  # requests without an answer are counted below
        finally:
            self._waiting.clear()
            for number in list(self._unanswered):
                self.count(number, NONE)
            for task in self._opening:
                task.cancel()
            for connection in list(self._open):
                connection.close()
        return self.outcomes

    async def _send(self) -> None:
        sent, arrivals, outcomes = 0, self._arrivals, self.outcomes
        while sent < len(arrivals):
            now_s = time.perf_counter() - self._started_s
            for _ in range(AT_ONCE):
                if sent == len(arrivals) or arrivals[sent] > now_s:
                    break
                outcomes.late(now_s - arrivals[sent])
                self._unanswered.add(sent)
                self._dispatch(sent)
                sent += 1
            else:
                await asyncio.sleep(0)
                continue
            if sent < len(arrivals):
                await asyncio.sleep(arrivals[sent] - now_s)

    def _dispatch(self, number: int) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection in self._open:
                connection.send(number)
                return
        self._waiting.append(number)
        self._open_more()

    def _open_more(self) -> None:
        if len(self._opening) < len(self._waiting) and len(self._open) + len(self._opening) < self._connections_max:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), HOST, self._port)
        except OSError:
            if self._waiting:
                self.count(self._waiting.popleft(), NONE)
            return
        self.outcomes.connections += 1
        self._open.add(connection)
        self.free(connection)

    def free(self, connection: _Connection) -> None:
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def count(self, number: int, outcome: str, says_when: bool = True) -> None:
        if number not in self._unanswered:
            return
        self._unanswered.discard(number)
        at_s = time.perf_counter() - self._started_s
        in_time = at_s <= self.outcomes.seconds
        self.outcomes.count(outcome, at_s - self._arrivals[number], in_time=in_time, says_when=says_when)
        if self._sent_all and not self._unanswered:
            self._done.set()

    def lost(self, connection: _Connection, number: int | None) -> None:
        """A connection has ended; the request that it waited for has no answer."""
        self._open.discard(connection)
        if number is not None:
            self.count(number, NONE)
        if self._waiting:
            self._open_more()
