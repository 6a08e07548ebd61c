"""Sends prebuilt requests by a timetable over kept-alive raw connections, one request in flight on each.

The next request takes an idle connection, or opens one; at the limit it waits, and its latency grows meanwhile.
"""

import asyncio
import time
from collections.abc import Sequence

from loadtest.openloop.outcomes import NONE, Outcomes, outcome_of
from loadtest.stage.http import HOST, Answer, Connection, UnreadableAnswer
from loadtest.stage.undisturbed import undisturbed

CONNECTIONS_MAX = 4000
PATIENCE_S = 15.0  # after the timetable's end; then what is open counts as unanswered
AT_ONCE = 32  # requests sent before answers are read again
HEAD_START_S = 0.05


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
        self.outcomes = Outcomes(seconds=seconds, offered=len(arrivals))
        self._port = port
        self._requests = requests
        self._arrivals = arrivals
        self._room = asyncio.Semaphore(connections_max)
        self._idle: list[Connection] = []
        self._started_s = 0.0

    async def run(self, patience_s: float = PATIENCE_S) -> Outcomes:
        with undisturbed():
            self._started_s = time.perf_counter() + HEAD_START_S
            sent = await self._send_all()
            _, unanswered = await asyncio.wait(sent, timeout=patience_s) if sent else (sent, set())
            for task in unanswered:
                task.cancel()
            await asyncio.gather(*unanswered, return_exceptions=True)
            for connection in self._idle:
                connection.close()
        return self.outcomes

    async def _send_all(self) -> list[asyncio.Task[None]]:
        sent: list[asyncio.Task[None]] = []
        for number, at_s in enumerate(self._arrivals):
            early_s = at_s - self._now_s()
            if early_s > 0 or number % AT_ONCE == 0:
                await asyncio.sleep(max(0.0, early_s))
            sent.append(asyncio.create_task(self._ask(number)))
        return sent

    async def _ask(self, number: int) -> None:
        self.outcomes.late(max(0.0, self._now_s() - self._arrivals[number]))
        outcome, says_when = NONE, True
        try:
            async with self._room:
                answer = await self._answer(self._requests[number])
            outcome = outcome_of(answer.status, answer.body)
            says_when = b"\r\nRetry-After: " in answer.head
        except (OSError, UnreadableAnswer):
            pass  # the request has no answer
        finally:
            answered_s = self._now_s()
            latency_s = answered_s - self._arrivals[number]
            in_time = answered_s <= self.outcomes.seconds
            self.outcomes.count(outcome, latency_s, in_time=in_time, says_when=says_when)

    async def _answer(self, request: bytes) -> Answer:
        connection, answer = await self._connection(), None
        try:
            answer = await connection.ask(request)
            return answer
        finally:
            if answer is None or answer.is_last:
                connection.close()
            else:
                self._idle.append(connection)

    async def _connection(self) -> Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        _, opened = await asyncio.get_running_loop().create_connection(Connection, HOST, self._port)
        self.outcomes.connections += 1
        return opened

    def _now_s(self) -> float:
        """Since the start of the timetable."""
        return time.perf_counter() - self._started_s
