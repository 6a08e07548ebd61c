"""Limits of all connections of a process: how many there may be, and how long a request may take to arrive."""

import asyncio
from typing import Protocol

from reservasi.front.api.answers import Abandonable, Answer
from reservasi.front.api.cors import NO_CORS, Cors
from reservasi.front.api.problem_catalogue import OVERLOADED
from reservasi.front.api.problems import Refused
from reservasi.front.api.request import Request
from reservasi.front.http.answer_bytes import whole_answer
from reservasi.front.http.shedding import Shedding
from reservasi.settings import Settings

LOOK_S = 0.25  # between two checks for slow requests


class Caller(Protocol):
    """The receiver of one answer: a connection, or a task of aiohttp."""

    def answer(self, answer: Answer, request: Request, *, names_all: bool) -> None:
        """Send the answer; no effect if the caller has gone.

        Without `names_all` it names the request only if the caller or a log line named it.
        """

    def waits_for(self, work: Abandonable) -> None:
        """Note the work to abandon when the caller goes."""


class Taker(Protocol):
    """Answers requests that were read from bytes."""

    def take(self, caller: Caller, request: Request) -> bool:
        """Whether the request is answered: then `caller.answer` is called once, now or later."""

    def awaits_body(self, method: str, target: str) -> bool:
        """Whether a request is answered only when its body is complete."""


class Arriving(Protocol):
    """A connection with an incomplete request."""

    due_s: float  # by the event loop's clock: when the request must be complete; 0: there is none
    body_due_s: float

    def time_out(self) -> None:
        """End the request that takes too long."""


class Arrivals:
    """Admits connections and requests within the limits of the settings."""

    def __init__(self, dispatcher: Taker, stopping: asyncio.Event, settings: Settings, cors: Cors = NO_CORS) -> None:
        self.dispatcher = dispatcher
        self.cors = cors
        self._shedding = Shedding(settings.body_bytes_max, cors)
        self.stopping = stopping
        self.body_bytes_max = settings.body_bytes_max
        self._connections_max = settings.connections_max
        self._head_timeout_s = settings.head_timeout_ms / 1000
        self._body_timeout_s = settings.body_timeout_ms / 1000
        self._open = 0
        self._arriving: set[Arriving] = set()
        self._watch: asyncio.TimerHandle | None = None

    def let_in(self, connection: object) -> bool:
        """Whether there is room for one more connection."""
        self._open += 1
        return self._open <= self._connections_max

    def refusal(self, data: bytes) -> bytes | None:
        """The refusal of a claim that is one too many; None: read it. A process that is stopping sheds nothing."""
        return None if self.stopping.is_set() else self._shedding.refusal(data)

    def forget(self, connection: Arriving) -> None:
        """A connection has ended."""
        self._open -= 1
        self._arriving.discard(connection)

    def time(self, connection: Arriving, *, head: bool) -> None:
        """Part of a request has arrived: the head's time begins with its first byte, the body's with the head's end."""
        now = asyncio.get_running_loop().time()
        if not connection.due_s:
            connection.due_s = now + self._head_timeout_s
        if not head and not connection.body_due_s:
            connection.due_s = connection.body_due_s = now + self._body_timeout_s
        self._arriving.add(connection)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(LOOK_S, self._check)

    def _check(self) -> None:
        """Check all connections; one timer for all of them."""
        now = asyncio.get_running_loop().time()
        for connection in [each for each in self._arriving if not each.due_s or each.due_s <= now]:
            self._arriving.discard(connection)
            if connection.due_s:
                connection.time_out()
        self._watch = asyncio.get_running_loop().call_later(LOOK_S, self._check) if self._arriving else None

    def too_many(self) -> bytes:
        """The answer to a connection for which there is no room."""
        return whole_answer(Refused(OVERLOADED))
