"""Who must have a change before its answer counts: replicas (WAIT), files that are synced (WAITAOF), else the records.

The questions follow the function calls in the same write, so they cost no round trip. When too few have it in time,
the changes stand nevertheless, and nobody rolls them back: the answers count once PostgreSQL has what they rest on
(`await_records.py`), and until then they are not definite.

A server counts up to what the asking connection itself wrote. A batch of replays writes nothing, and a new connection
has written nothing yet, so that WAIT would call a change safe that another connection made a moment ago and no replica
has. Therefore each round trip ends with a write of its own (`lua/touch.lua`), behind everything it speaks of.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from reservasi.model import Admit, Answer, Cancel, Command, Confirm, Find, Outcome, Release, State, Sweep

Aof = Literal["off", "local", "replicas"]
# Said to be so only once the records have it, else to be on its way.
RECORDED_FIRST = frozenset({Outcome.CONFIRMED, Outcome.CANCELLED, Outcome.RELEASED, Outcome.EXISTS})
RESTS = 9  # times the timeout without a question, once too few had the change: nine tenths of the time is not waited


class Acks(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked behind each round trip's calls."""

    replicas: int  # that must have it, 0: none
    timeout_ms: int  # how long the server waits for them; it looks ten times a second
    aof: Aof = "off"  # whose append-only file must have it synced: nobody's, the primary's, or the replicas' as well

    @property
    def questions(self) -> tuple[tuple[str | int, ...], ...]:
        if self.aof == "replicas":
            return (("WAITAOF", 1, self.replicas, self.timeout_ms),)
        questions: list[tuple[str | int, ...]] = []
        if self.aof == "local":
            questions.append(("WAITAOF", 1, 0, self.timeout_ms))
        if self.replicas:
            questions.append(("WAIT", self.replicas, self.timeout_ms))
        return tuple(questions)

    def suffice(self, counts: Sequence[Any]) -> bool:
        """Whether the replies to the questions, in their order, are enough; an error is not."""
        if any(isinstance(count, Exception) for count in counts):
            return False
        if self.aof == "replicas":
            return bool(counts[0][0] >= 1 and counts[0][1] >= self.replicas)
        local = self.aof != "local" or counts[0][0] >= 1
        return bool(local and (not self.replicas or counts[-1] >= self.replicas))


class Asker:
    """Asks behind the round trips of one connection.

    While replicas are away, each question would cost its whole timeout. So it rests after a short count; what is
    accepted meanwhile is as unsafe as if too few had it.
    """

    def __init__(self, acks: Acks, clock: Callable[[], float] = time.monotonic) -> None:
        self._acks = acks
        self._clock = clock
        self._rest_s = RESTS * acks.timeout_ms / 1000
        self._resting_until_s = float("-inf")

    def questions(self) -> tuple[tuple[str | int, ...], ...]:
        """What to ask behind the next round trip; nothing while it rests."""
        return self._acks.questions if self._clock() >= self._resting_until_s else ()

    def suffice(self, touch: Any, counts: Sequence[Any]) -> bool:
        """Whether the replies to the write of its own and to the questions, in their order, say that enough have it."""
        safe = not isinstance(touch, Exception) and self._acks.suffice(counts)
        if not safe:
            self._resting_until_s = self._clock() + self._rest_s
        return safe


def asks_enough(asked: int, promotable: int) -> bool:
    """Whether whichever replica is promoted has what was promised.

    A majority is not enough: Sentinel asks no replica what it has, nor the former primary's to follow it no more. Cut
    off with one replica of two, that one goes on to promise what the other, promoted, never hears of.
    """
    return asked >= promotable


def acks_wanted(*, replicas: int, timeout_ms: int, aof: Aof) -> Acks | None:
    """What the settings ask for; None where nothing is to be asked."""
    return Acks(replicas=replicas, timeout_ms=timeout_ms, aof=aof) if replicas or aof != "off" else None


def stands(command: Command, answer: Answer) -> bool:
    """Whether an answer may be told although too few have what it rests on."""
    match command:
        case Sweep() | Admit():
            return True  # nobody was promised anything
        case Confirm() | Cancel() | Release():
            return answer.outcome in RECORDED_FIRST
        case Find():
            return answer.outcome is Outcome.FOUND and answer.state is State.CONFIRMED  # the same
        case _:
            return False
