"""What all connections of a process share: how many there may be, and how long a request may take to arrive."""

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

LOOK_S = 0.25  # between two looks at requests that are slow to arrive


class Caller(Protocol):
    """Who waits for one answer: a connection, or a task of aiohttp."""

    def answer(self, answer: Answer, request: Request, *, names_all: bool) -> None:
        """Send the answer; nothing happens when the caller has gone.

        Without `names_all` it says what the request is called only where the caller or a log line named it.
        """

    def waits_for(self, work: Abandonable) -> None:
        """What to abandon when the caller goes."""


class Taker(Protocol):
    """What answers requests that were read from bytes."""

    def take(self, caller: Caller, request: Request) -> bool:
        """Whether the request is answered: then `caller.answer` is called once, now or later."""


class Arriving(Protocol):
    """A connection whose request is not complete."""

    due_s: float  # by the event loop's clock: when the request must be complete; 0: none is under way
    body_due_s: float

    def time_out(self) -> None:
        """End the request that takes too long."""


class Arrivals:
    """Lets connections and requests in, within the limits of the settings."""

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
        """The answer to a claim that is one too many; None: read it. Whoever stops says so in other words."""
        return None if self.stopping.is_set() else self._shedding.refusal(data)

    def forget(self, connection: Arriving) -> None:
        """A connection has ended."""
        self._open -= 1
        self._arriving.discard(connection)

    def time(self, connection: Arriving, *, head: bool) -> None:
        """A part of a request has come: from its first byte the head has its time, from the head's end the body."""
        now = asyncio.get_running_loop().time()
        if not connection.due_s:
            connection.due_s = now + self._head_timeout_s
        if not head and not connection.body_due_s:
            connection.due_s = connection.body_due_s = now + self._body_timeout_s
        self._arriving.add(connection)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """One timer for all, instead of one a request."""
        now = asyncio.get_running_loop().time()
        for connection in [each for each in self._arriving if not each.due_s or each.due_s <= now]:
            self._arriving.discard(connection)
            if connection.due_s:
                connection.time_out()
        self._watch = asyncio.get_running_loop().call_later(LOOK_S, self._look) if self._arriving else None

    def too_many(self) -> bytes:
        """The answer to a connection for which there is no room."""
        return whole_answer(Refused(OVERLOADED))
