"""The network between the processes and Valkey: by seed it delays, loses, repeats and cuts off.

A message is one write of a connection: its commands are carried out together when it arrives. What was sent arrives
even when its sender has given up or died meanwhile; so a call may be carried out long after it was repeated.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec
from redis.exceptions import ConnectionError as ConnectionLost

from tests.simulation.loop import Host
from tests.simulation.server import Command, Server
from tests.simulation.trace import Trace, mark

LATE_MAX_S = 4.0  # longer than a command's deadline


class Listener(Protocol):
    """Who hears a channel."""

    def put(self, message: bytes | Exception, delay_s: float) -> None:
        """Something to hear after so long: a message, or that the connection is lost."""


class Fate(StrEnum):
    """What becomes of one message."""

    FINE = "fine"
    REQUEST_LOST = "request lost"
    REPLY_LOST = "reply lost"
    LATE = "late"
    TWICE = "twice"


class Weather(msgspec.Struct):
    """How often what happens; `calm` ends it."""

    latency_s: float
    weights: dict[Fate, float]

    @classmethod
    def drawn(cls, chance: random.Random) -> "Weather":
        """From none at all to a storm."""
        storm = chance.choice((0.0, 0.02, 0.05, 0.15))
        weights = {fate: storm * chance.random() for fate in Fate}
        weights[Fate.FINE] = 1.0 - sum(weights[fate] for fate in Fate if fate is not Fate.FINE)
        return cls(latency_s=chance.choice((0.0003, 0.001, 0.01)), weights=weights)

    def fate(self, chance: random.Random) -> Fate:
        """The next message's."""
        at = chance.random()
        for fate, weight in self.weights.items():
            at -= weight
            if at < 0:
                return fate
        return Fate.FINE

    def calm(self) -> None:
        """From now on everything arrives."""
        self.weights = {Fate.FINE: 1.0}


class Network:
    """Carries messages between hosts and the server."""

    def __init__(self, server: Server, weather: Weather, trace: Trace, chance: random.Random) -> None:
        self.server = server
        self.weather = weather
        self.trace = trace
        self._chance = chance
        self.counts: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._travelling = 0
        self._unanswered: list[asyncio.Future[list[Any]]] = []
        self._blocked: dict[int, Callable[[], None]] = {}
        self._subscribers: dict[str, list[Listener]] = {}

    def latency_s(self) -> float:
        """How long a message is on its way."""
        return self.weather.latency_s * self._chance.uniform(0.5, 2.0)

    def send(self, host: Host, commands: Sequence[Command], *, whole: bool = False) -> "asyncio.Future[list[Any]]":
        """Send a message; the replies, or a lost connection, or nothing ever.

        Of a message that is cut off some commands may arrive, unless it is a `whole` transaction.
        """
        loop = asyncio.get_running_loop()
        replied: asyncio.Future[list[Any]] = loop.create_future()
        if not host.alive:
            return replied
        number, fate = next(self._numbers), self.weather.fate(self._chance)
        self.counts[fate] += 1
        if self.trace.notes:
            names = "+".join(_name(command) for command in commands)
            self.trace(host.name, f"sends #{number}", f"{names}, {fate}")
        delay_s = self.latency_s()
        if fate is Fate.LATE:
            delay_s += self._chance.uniform(0.1, LATE_MAX_S)
        arriving = list(commands)
        if fate is Fate.REQUEST_LOST:
            arriving = [] if whole else arriving[: self._chance.randrange(len(arriving))]
        self._travelling += 1
        loop.call_later(delay_s, self._arrive, host, number, arriving, fate, replied)
        return replied

    async def heal(self) -> None:
        """From now on everything arrives; whoever waits for what never will is told, and what is late still comes."""
        self.weather.calm()
        self._reset_dead_routes()
        while self._travelling:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(LATE_MAX_S / 8)
        self._reset_dead_routes()  # of what was under way and lost when the weather calmed

    def _reset_dead_routes(self) -> None:
        for replied in self._unanswered:
            self._later(replied, ConnectionLost("connection reset"))
        self._unanswered.clear()

    def _arrive(
        self, host: Host, number: int, commands: Sequence[Command], fate: Fate, replied: "asyncio.Future[list[Any]]"
    ) -> None:
        self._travelling -= 1
        if fate in (Fate.REQUEST_LOST, Fate.REPLY_LOST):
            self._carry_out(number, commands)
            if self._chance.random() < 0.5:
                self._later(replied, ConnectionLost("connection reset"))
            else:  # nobody tells the sender that the route is dead
                self._unanswered.append(replied)
            return
        if fate is Fate.TWICE:
            self._travelling += 1
            again_s = self._chance.uniform(0.0, LATE_MAX_S)
            asyncio.get_running_loop().call_later(again_s, self._arrive_again, number, commands)
        block_ms = _block_ms(commands)
        replies = self._carry_out(number, commands)
        if block_ms and not replies[0]:
            self._block(host, number, commands, block_ms, replied)
        else:
            self._later(replied, replies)

    def _arrive_again(self, number: int, commands: Sequence[Command]) -> None:
        self._travelling -= 1
        self._carry_out(number, commands)

    def _carry_out(self, number: int, commands: Sequence[Command]) -> list[Any]:
        published = [command for command in commands if command[0] == "PUBLISH"]
        seq = self.server.seq
        results = iter(self.server.execute([_unblocked(each) for each in commands if each[0] != "PUBLISH"]))
        replies = [len(published) if command[0] == "PUBLISH" else next(results) for command in commands]
        for command, reply in zip(commands, replies, strict=True) if self.trace.notes else ():
            self.trace("valkey", f"carries out #{number}", f"{_name(command)} {_shown(command, reply)}")
        for command in published:
            self._publish(command[1], command[2])
        if self.server.seq != seq:
            for look in list(self._blocked.values()):
                look()
        return replies

    def _block(
        self, host: Host, number: int, commands: Sequence[Command], block_ms: int, replied: "asyncio.Future[list[Any]]"
    ) -> None:
        """A read that waits for the journal to grow."""

        def look() -> None:
            if replied.done():
                del self._blocked[number]
            elif (replies := self.server.execute([_unblocked(commands[0])]))[0]:
                del self._blocked[number]
                self._later(replied, replies)

        def give_up() -> None:
            if self._blocked.pop(number, None):
                self._later(replied, [None])

        self._blocked[number] = look
        asyncio.get_running_loop().call_later(block_ms / 1000, give_up)

    def _later(self, replied: "asyncio.Future[list[Any]]", result: list[Any] | Exception) -> None:
        """Let the reply travel; nobody may wait for it any more."""

        def finish() -> None:
            if replied.done():
                return
            if isinstance(result, Exception):
                replied.set_exception(result)
                replied.exception()  # whoever waits for it hears it; nobody need
            else:
                replied.set_result(result)

        asyncio.get_running_loop().call_later(self.latency_s(), finish)

    # -- publish and subscribe -----------------------------------------------------------------------------------

    def subscribe(self, channel: str, subscription: "Listener") -> None:
        """Let a subscription hear a channel."""
        self._subscribers.setdefault(channel, []).append(subscription)

    def unsubscribe(self, subscription: "Listener") -> None:
        """It has gone."""
        for subscriptions in self._subscribers.values():
            if subscription in subscriptions:
                subscriptions.remove(subscription)

    def _publish(self, channel: str, message: bytes) -> None:
        for subscription in list(self._subscribers.get(channel, ())):
            fate = self.weather.fate(self._chance)
            delay_s = self.latency_s()
            if fate is Fate.LATE:
                delay_s += self._chance.uniform(0.1, LATE_MAX_S)
            if fate in (Fate.REQUEST_LOST, Fate.REPLY_LOST):
                self.unsubscribe(subscription)
                if fate is Fate.REPLY_LOST:  # else it never hears anything again, and nobody tells it
                    subscription.put(ConnectionLost("connection reset"), delay_s)
            else:
                subscription.put(message, delay_s)


def _name(command: Command) -> str:
    name = str(command[0])
    return str(command[1]).rpartition("_")[2] if name == "FCALL" else name


def _shown(command: Command, reply: Any) -> str:
    """What a trace says of a reply: nothing that depends on this machine or this run of the server."""
    if command[0] == "FCALL" and isinstance(reply, bytes) and not str(command[1]).endswith("_snapshot"):
        return f"{mark(command[-2])} -> {mark(reply)}"
    return f"-> {type(reply).__name__}"


def _unblocked(command: Command) -> Command:
    if command[0] != "XREAD" or b"BLOCK" not in command:
        return command
    at = list(command).index(b"BLOCK")
    return [*command[:at], *command[at + 2 :]]


def _block_ms(commands: Sequence[Command]) -> int:
    """How long a message waits for an answer; only a read of the journal does, and travels alone."""
    if len(commands) != 1 or commands[0][0] != "XREAD" or b"BLOCK" not in commands[0]:
        return 0
    return int(commands[0][list(commands[0]).index(b"BLOCK") + 1])
