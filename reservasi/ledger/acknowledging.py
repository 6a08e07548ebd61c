"""Who must have an accepted change before its answer counts: replicas (WAIT), files that are synced (WAITAOF).

The questions follow the function calls in the same write, so they cost no round trip. When too few have it in time,
the changes stand nevertheless, and nobody rolls them back: the answers are no longer definite.

A server counts up to what the asking connection itself wrote. A batch of replays writes nothing, and a new connection
has written nothing yet, so that WAIT would call a change safe that another connection made a moment ago and no replica
has. Therefore each round trip ends with a write of its own (`lua/touch.lua`), behind everything it speaks of.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from reservasi.model import Admit, Answer, Command, Confirm, Find, Outcome, State, Sweep

Aof = Literal["off", "local", "replicas"]


class Acks(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked behind each round trip's calls."""

    replicas: int  # that must have it, 0: none
    timeout_ms: int  # how long the server waits for them; it looks ten times a second
    aof: Aof = "off"  # whose append-only file must have it synced: nobody's, the primary's, or the replicas' as well

    @property
    def questions(self) -> tuple[tuple[str | int, ...], ...]:
        """The commands."""
        if self.aof == "replicas":
            return (("WAITAOF", 1, self.replicas, self.timeout_ms),)
        asked: list[tuple[str | int, ...]] = []
        if self.aof == "local":
            asked.append(("WAITAOF", 1, 0, self.timeout_ms))
        if self.replicas:
            asked.append(("WAIT", self.replicas, self.timeout_ms))
        return tuple(asked)

    def suffice(self, counts: Sequence[Any]) -> bool:
        """Whether the replies to the questions, in their order, are enough; an error is not."""
        if any(isinstance(count, Exception) for count in counts):
            return False
        if self.aof == "replicas":
            return bool(counts[0][0] >= 1 and counts[0][1] >= self.replicas)
        local = self.aof != "local" or counts[0][0] >= 1
        return bool(local and (not self.replicas or counts[-1] >= self.replicas))


def acks_wanted(*, replicas: int, timeout_ms: int, aof: Aof) -> Acks | None:
    """What the settings ask for; None where nothing is to be asked."""
    return Acks(replicas=replicas, timeout_ms=timeout_ms, aof=aof) if replicas or aof != "off" else None


def stands(command: Command, answer: Answer) -> bool:
    """Whether an answer may be told although too few have what it rests on."""
    match command:
        case Sweep() | Admit():
            return True  # nobody was promised anything
        case Confirm():
            # It is "confirmed" only once the records have it, else "confirming".
            return answer.outcome in (Outcome.CONFIRMED, Outcome.EXISTS)
        case Find():
            return answer.outcome is Outcome.FOUND and answer.state is State.CONFIRMED  # the same
        case _:
            return False
