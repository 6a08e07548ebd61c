"""The commands of one program that wait for a ledger call: their order, and how many may wait.

Confirmations, status and staff commands go before claims and joins of a waiting room, which share the rest of a batch
in proportion to their numbers. Claims and joins are refused when more of them are in flight than the limit allows; all
other commands have a second queue of the same size, which claims cannot fill.
"""

import time
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from reservasi.errors import Overloaded
from reservasi.ledger.concurrency_limit import ConcurrencyLimit
from reservasi.ledger.submitted import Resolve, Submitted, fail
from reservasi.metrics import CLAIMS_LIMIT, QUEUE_SECONDS, Gathered
from reservasi.model import (
    Admit,
    Cancel,
    Claim,
    Command,
    Confirm,
    Find,
    Join,
    MoveOpening,
    Release,
    Retire,
    RetireOpening,
    SetOpening,
    SetQuota,
    Sweep,
)

# A person who has a place goes before one who wants a place.
PRIORITY: tuple[type, ...] = (
    Confirm, Cancel, Release, SetQuota, SetOpening, MoveOpening, Admit, Find, Sweep, Claim, Join, Retire,
    RetireOpening,
)  # fmt: skip
CROWDS = (Claim, Join)  # commands that anybody may send in any number: the limit holds for them
BATCH_HALVED_FROM = 8  # smaller batches are not halved, since an fsync costs more than their commands

Batch: TypeAlias = list[list[Submitted]]  # a list for each kind, in order of priority, none of them empty


class CommandQueue:
    """The waiting commands by kind, and the limit of claims and joins in flight."""

    def __init__(
        self, program: str, *, items_max: int, batch_items_max: int, timeout_s: float, delay_target_s: float
    ) -> None:
        """At most `items_max` claims and joins wait, and as many other commands."""
        self._items_max = items_max
        self._batch_items_max = batch_items_max
        self._timeout_s = timeout_s
        self._queues: dict[type, deque[Submitted]] = {kind: deque() for kind in PRIORITY}
        self._claims, self._joins = (self._queues[kind] for kind in CROWDS)
        self._queued = 0
        self._crowd_in_flight = 0
        self._delay_least_s: float | None = None  # of the batches with claims or joins, since it was last taken
        self._limit = ConcurrencyLimit(least=batch_items_max, most=batch_items_max + items_max, target_s=delay_target_s)
        self._delays = Gathered(QUEUE_SECONDS)
        self._limit_gauge = CLAIMS_LIMIT.labels(program)
        self._limit_shown = self._limit.value
        self._limit_gauge.set(self._limit_shown)

    def __len__(self) -> int:
        return self._queued

    def put(self, command: Command, resolve: Resolve, now_s: float) -> Submitted:
        """Queue a command; `now_s` is the event loop's time.

        Raises:
            Overloaded: the queue is full.
        """
        kind = type(command)
        if not (self.admits_crowd() if kind in CROWDS else self._admits_others()):
            raise Overloaded("too many wait for the ledger")
        submitted = Submitted(command, resolve, now_s, now_s + self._timeout_s)
        self._queues[kind].append(submitted)
        self._queued += 1
        return submitted

    def admits_crowd(self) -> bool:
        """Whether there is room for a claim or a join."""
        waiting = len(self._claims) + len(self._joins)  # written out for speed: every claim checks twice
        return waiting < self._items_max and waiting + self._crowd_in_flight < self._limit.value

    def _admits_others(self) -> bool:
        return self._queued - self._crowd_waiting < self._items_max

    @property
    def _crowd_waiting(self) -> int:
        return len(self._claims) + len(self._joins)

    # -- batches -------------------------------------------------------------------------------------------------

    def take(self, unanswered: int) -> Batch:
        """The next batch: in order of priority, without commands whose callers gave up.

        Half of the claims and joins go, so that the front works on one half while the ledger carries out the other. If
        all went in one batch, ledger and front would take turns. `unanswered` callers of the previous batch count as
        waiting, since they come back at once; without them, half would be a third, and every batch costs an fsync.
        """
        batch: Batch = []
        if not self._queued:
            return batch
        room = min(self._batch_items_max, max(BATCH_HALVED_FROM, (self._queued + unanswered + 1) // 2))
        for queue in self._queues.values():
            if not queue:
                continue
            kept = 0  # room left for joins
            if queue is self._claims and self._joins:
                kept = _share_of_joins(room, queue, self._joins)
            group = self._take_from(queue, room - kept)
            if group:
                batch.append(group)
                room -= len(group)
        return batch

    def _take_from(self, queue: deque[Submitted], most: int) -> list[Submitted]:
        if len(queue) <= most:
            group = [waiting for waiting in queue if not waiting.done]
            self._queued -= len(queue)
            queue.clear()
            return group
        group = []
        while queue and len(group) < most:
            waiting = queue.popleft()
            self._queued -= 1
            if not waiting.done:
                group.append(waiting)
        return group

    # -- the limit -----------------------------------------------------------------------------------------------

    def note_sent(self, batch: Batch) -> None:
        """A batch is in flight: the limit follows the delay of its claims and joins."""
        crowd = [group for group in batch if type(group[0].command) in CROWDS]
        self._crowd_in_flight = sum(map(len, crowd))
        if not crowd:
            return
        now = time.monotonic()  # not the loop's clock, which does not advance while many requests are read
        delay_s = max(0.0, now - min(group[0].since for group in crowd))  # first in, first out
        self._delay_least_s = delay_s if self._delay_least_s is None else min(self._delay_least_s, delay_s)
        self._limit.observe(delay_s, self._crowd_in_flight + self._crowd_waiting, now)
        self._delays.add(delay_s)

    def note_replied(self) -> None:
        self._crowd_in_flight = 0

    def relax(self) -> None:
        """Nothing waits and nothing is in flight: raise the limit."""
        self._limit.rest()

    def observe(self) -> None:
        """Update the metrics of delays and the limit."""
        self._delays.observe()
        if self._limit_shown != self._limit.value:
            self._limit_shown = self._limit.value
            self._limit_gauge.set(self._limit_shown)

    def take_delay_s(self) -> float:
        """How long claims and joins wait for their batch: the least since last taken, so that a short burst does not
        count.

        If no batch was sent meanwhile, how long the oldest has waited already; 0 if none waits.
        """
        least_s, self._delay_least_s = self._delay_least_s, None
        if least_s is not None:
            return least_s
        oldest = [queue[0].since for queue in (self._claims, self._joins) if queue]
        return max(0.0, time.monotonic() - min(oldest)) if oldest else 0.0

    # -- refusals ------------------------------------------------------------------------------------------------

    def fail_late(self, now_s: float) -> None:
        """Refuse the commands whose deadline has passed; they stay queued until they are skipped."""
        for queue in self._queues.values():
            for waiting in queue:
                if waiting.deadline > now_s:
                    break  # first in, first due
                fail([waiting], Overloaded("the deadline passed before the command was sent"))

    def fail_all(self, error: Overloaded) -> None:
        for queue in self._queues.values():
            fail(queue, error)


def _share_of_joins(room: int, claims: Sequence[Submitted], joins: Sequence[Submitted]) -> int:
    """The part of the rest of a batch for joins: in proportion to their number, and at least one for each kind."""
    if room < 2:
        return room if not claims or joins[0].since < claims[0].since else 0
    share = room * len(joins) // (len(joins) + len(claims))
    return min(max(share, 1), len(joins), room - 1 if claims else room)
