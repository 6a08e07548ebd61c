"""Releases answers that too few replicas acknowledged once PostgreSQL has them: later ledgers are rebuilt from it.

One dead replica therefore does not stop the service when all replicas must acknowledge, and an old primary that is cut
off from the records as well promises nothing.
"""

import asyncio
from collections.abc import Callable

from reservasi.errors import NotReplicated, ReservasiError
from reservasi.ledger.ending_tasks import end_tasks
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.model import Answer, Command


class RecordsInstead:
    """Holds back answers that too few replicas acknowledged until PostgreSQL has the changes."""

    def __init__(self, program: str, positions: RecordedPositions, *, held_max: int) -> None:
        self._program = program
        self._positions = positions
        self._held_max = held_max
        self._held: set[asyncio.Task[bool]] = set()

    def hold(
        self, command: Command, answer: Answer, resolve: Callable[[Answer | ReservasiError], None], timeout_s: float
    ) -> None:
        """Release the answer once it is recorded; `NotReplicated` if that takes too long or too many wait."""
        if len(self._held) >= self._held_max:
            resolve(not_replicated())
            return
        about: str = getattr(command, "reservation_id", "")
        task = asyncio.create_task(self._positions.wait(self._program, answer.epoch, answer.seq, about, timeout_s))

        def release(ended: "asyncio.Task[bool]") -> None:
            self._held.discard(ended)
            recorded = not ended.cancelled() and ended.exception() is None and ended.result()
            resolve(answer if recorded else not_replicated())

        self._held.add(task)
        task.add_done_callback(release)

    async def close(self) -> None:
        """Answer all waiting callers with an indefinite result."""
        await end_tasks(self._held)


def not_replicated() -> NotReplicated:
    """The error for a change that was carried out and may still be lost."""
    return NotReplicated("neither enough replicas nor the records have it yet")
