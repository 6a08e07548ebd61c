"""Decides when an accepted change is safe: acknowledged by replicas (WAIT) and synced files (WAITAOF), or recorded.

WAIT and WAITAOF follow the function calls in the same write, so that they cost no round trip. If too few servers
acknowledge in time, the changes stand; nobody rolls them back. Their answers are then released once PostgreSQL has the
changes (`await_records.py`), and are indefinite until then.

A server counts acknowledgements of what the asking connection wrote. A batch of replays writes nothing, and a new
connection has written nothing yet, so that WAIT would confirm a change that another connection made a moment ago and
that no replica has. Each round trip therefore ends with a write of its own (`lua/touch.lua`) before the WAIT.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from reservasi.model import Admit, Answer, Cancel, Command, Confirm, Find, Outcome, Release, State, Sweep

Aof = Literal["off", "local", "replicas"]
# Outcomes that the front reports as done only once they are recorded, else as on their way.
RECORDED_FIRST = frozenset({Outcome.CONFIRMED, Outcome.CANCELLED, Outcome.RELEASED, Outcome.EXISTS})
RESTS = 9  # after a failed WAIT, none is sent for so many times its timeout


class Acks(msgspec.Struct, frozen=True, kw_only=True):
    """The acknowledgements that each round trip asks for."""

    replicas: int  # replicas that must have the change, 0: none
    timeout_ms: int  # how long the server waits for them; its own resolution is 100 ms
    aof: Aof = "off"  # append-only files that must be synced: none, the primary's, or the replicas' as well

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
        """Whether the replies to the WAIT commands, in order, are sufficient; an error is not."""
        if any(isinstance(count, Exception) for count in counts):
            return False
        if self.aof == "replicas":
            return bool(counts[0][0] >= 1 and counts[0][1] >= self.replicas)
        local = self.aof != "local" or counts[0][0] >= 1
        return bool(local and (not self.replicas or counts[-1] >= self.replicas))


class Asker:
    """Sends WAIT commands on one connection.

    While replicas are away, each WAIT would cost its whole timeout. So none is sent for a while after a failed one;
    changes of that time count as not acknowledged.
    """

    def __init__(self, acks: Acks, clock: Callable[[], float] = time.monotonic) -> None:
        self._acks = acks
        self._clock = clock
        self._rest_s = RESTS * acks.timeout_ms / 1000
        self._resting_until_s = float("-inf")

    def questions(self) -> tuple[tuple[str | int, ...], ...]:
        """The commands to send after the next round trip; none while pausing."""
        return self._acks.questions if self._clock() >= self._resting_until_s else ()

    def suffice(self, touch: Any, counts: Sequence[Any]) -> bool:
        """Whether the replies to the additional write and to the WAIT commands, in order, say that enough servers
        have it.
        """
        safe = not isinstance(touch, Exception) and self._acks.suffice(counts)
        if not safe:
            self._resting_until_s = self._clock() + self._rest_s
        return safe


def asks_enough(acknowledgements: int, promotable: int) -> bool:
    """Whether every replica that may be promoted has all acknowledged changes.

    A majority is not enough: Sentinel neither compares the replicas' data nor stops a replica that follows the former
    primary. A primary that is cut off together with one replica of two would go on acknowledging changes that the other
    replica, which is promoted, never gets.
    """
    return acknowledgements >= promotable


def acks_wanted(*, replicas: int, timeout_ms: int, aof: Aof) -> Acks | None:
    """The acknowledgements of the settings; None if there are none."""
    return Acks(replicas=replicas, timeout_ms=timeout_ms, aof=aof) if replicas or aof != "off" else None


def stands(command: Command, answer: Answer) -> bool:
    """Whether an answer may be released although too few servers have the change."""
    match command:
        case Sweep() | Admit():
            return True  # no client was promised anything
        case Confirm() | Cancel() | Release():
            return answer.outcome in RECORDED_FIRST
        case Find():
            # A front reports a confirmation only once it is recorded.
            return answer.outcome is Outcome.FOUND and answer.state is State.CONFIRMED
        case _:
            return False
