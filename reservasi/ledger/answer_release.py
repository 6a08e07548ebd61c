"""When the answers of a batch reach their callers.

An answer is released at once, except in two cases. An answer about a freed place waits until every front's view
contains that place, so that a repeated request is not answered "sold out". An answer that too few replicas acknowledged
waits until PostgreSQL has the change, or becomes `NotReplicated`.

A reply that cannot be read, or a caller that fails, does not affect other callers.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from reservasi.errors import ItemDamaged, LedgerFault, LedgerFenced, ReservasiError
from reservasi.ledger.acknowledging import stands
from reservasi.ledger.await_records import RecordsInstead, not_replicated
from reservasi.ledger.submitted import Submitted, fail
from reservasi.ledger.wire import messages
from reservasi.logs import get_sparing_logger
from reservasi.model import Answer, Command

log = get_sparing_logger()

SETTLE_MARGIN_MS = 2  # moments and timers are rounded to milliseconds

Release: TypeAlias = Callable[[Submitted, Answer], None]
NoteDamaged: TypeAlias = Callable[[Command, ItemDamaged], None]


class AnswerRelease:
    """Holds answers back until they may be released."""

    def __init__(self, *, settle_ms: int = 0, instead: RecordsInstead | None = None) -> None:
        """For `settle_ms` after a place was freed, some view may lack it. `instead` waits for PostgreSQL."""
        self._settle_ms = settle_ms + SETTLE_MARGIN_MS if settle_ms else 0
        self._instead = instead
        self._settling = 0  # answers that wait for the views

    def when_settled(self, waiting: Submitted, answer: Answer | ReservasiError) -> None:
        """Release an answer; one about a place that was just freed only once every view contains that place.

        Then a repeated request gets the same answer from every front. The answer to the caller who gave the place back
        waits as well: the next person to claim the place is not told that it is gone.
        """
        if not isinstance(answer, Answer) or not answer.freed_at_ms:
            waiting.finish(answer)
            return
        # The ledger's clock may have been set back since: nobody waits longer than `settle_ms` from now.
        wait_ms = min(answer.freed_at_ms + self._settle_ms - answer.now_ms, self._settle_ms)
        if wait_ms <= 0:
            waiting.finish(answer)
            return
        self._settling += 1
        asyncio.get_running_loop().call_later(wait_ms / 1000, self._finish_settled, waiting, answer)

    def _finish_settled(self, waiting: Submitted, answer: Answer) -> None:
        self._settling -= 1
        waiting.finish(answer)

    def when_safe(self, waiting: Submitted, answer: Answer) -> None:
        """Release an answer that too few replicas acknowledged: at once if it promises nothing, else once it is
        recorded.
        """
        if stands(waiting.command, answer):
            waiting.finish(answer)
        elif self._instead is None:
            waiting.finish(not_replicated())
        else:
            left_s = waiting.deadline - asyncio.get_running_loop().time()
            self._instead.hold(waiting.command, answer, partial(self.when_settled, waiting), left_s)

    async def close(self) -> None:
        """End the waits: for PostgreSQL at once, for the views after their time."""
        if self._instead is not None:
            await self._instead.close()
        if self._settling:
            await asyncio.sleep(self._settle_ms / 1000)


class Replies:
    """A batch's replies whose answers are not released yet."""

    __slots__ = ("_groups", "_note_damaged", "_raw", "_release", "_retried")

    def __init__(
        self,
        groups: Sequence[Sequence[Submitted]] = (),
        raw: Sequence[bytes | ReservasiError] = (),
        release: Release = Submitted.finish,
        note_damaged: NoteDamaged = lambda _command, _fault: None,
        *,
        retried: bool = False,
    ) -> None:
        self._groups = groups
        self._raw = raw
        self._release = release
        self._note_damaged = note_damaged
        self._retried = retried

    def __bool__(self) -> bool:
        return bool(self._raw)

    @property
    def items(self) -> int:
        """How many callers wait for them."""
        return sum(map(len, self._groups))

    def release(self) -> None:
        """Give every caller their answer."""
        for group, raw in zip(self._groups, self._raw, strict=True):
            try:
                self._release_group(group, raw)
            except Exception as error:
                log.exception("reply_not_readable")
                fail(group, LedgerFault(f"a reply could not be read: {type(error).__name__}"))

    def _release_group(self, group: Sequence[Submitted], raw: bytes | ReservasiError) -> None:
        if isinstance(raw, ReservasiError):
            log.error("ledger_batch_refused", error=str(raw))
            fail(group, raw)
            return
        try:
            reply = messages.decode_reply(raw)
        except LedgerFault as fault:
            fail(group, fault)
            return
        if reply.fenced:
            fail(group, LedgerFenced("the ledger is not owned"))
            return
        if len(reply.answers) != len(group):
            fail(group, LedgerFault(f"{len(reply.answers)} answers to {len(group)} items"))
            return
        release, retried = self._release, self._retried
        for at, waiting in enumerate(group):
            if waiting.done:
                continue
            try:
                answer = messages.decode_answer(reply, at, waiting.command, retried=retried)
            except ItemDamaged as fault:
                self._note_damaged(waiting.command, fault)
                waiting.finish(fault)
            except Exception as error:
                log.exception("answer_not_readable")
                waiting.finish(LedgerFault(f"an answer could not be read: {type(error).__name__}"))
            else:
                release(waiting, answer)


NO_REPLIES = Replies()
