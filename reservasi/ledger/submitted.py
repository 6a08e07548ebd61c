"""Submitted commands and the replies to a batch of them: everybody gets the one answer that is theirs.

What is wrong with one answer, or with one caller, costs nobody else theirs.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from reservasi.errors import ItemDamaged, LedgerFault, LedgerFenced, ReservasiError
from reservasi.ledger import wire
from reservasi.logs import get_sparing_logger
from reservasi.model import Answer, Command

log = get_sparing_logger()

Tell: TypeAlias = Callable[[Answer | ReservasiError], None]
Finish: TypeAlias = Callable[["Submitted", Answer], None]  # what becomes of an answer
Damaged: TypeAlias = Callable[[Command, ItemDamaged], None]  # who hears of what is damaged


class Submitted:
    """One submitted command, until its one answer is told."""

    __slots__ = ("command", "deadline", "done", "since", "tell")

    def __init__(self, command: Command, tell: Tell, since: float, deadline: float) -> None:
        self.command = command
        self.tell = tell  # called once, in the event loop, with the answer or the fault
        self.since = since  # both by the event loop's clock
        self.deadline = deadline
        self.done = False

    def finish(self, result: Answer | ReservasiError) -> None:
        """Tell the answer, unless one was told before or nobody wants it any more."""
        if self.done:
            return
        self.done = True
        try:
            self.tell(result)
        except Exception:  # one who cannot take their answer must not cost the others theirs
            log.exception("answer_not_taken")

    def abandon(self) -> None:
        """Whoever asked has gone: a command that was not sent yet is not sent at all."""
        self.done = True


class Answered:
    """A batch's replies, not told yet."""

    __slots__ = ("_finish", "_groups", "_note_damaged", "_retried", "replies")

    def __init__(
        self,
        groups: Sequence[Sequence[Submitted]] = (),
        replies: Sequence[bytes | ReservasiError] = (),
        finish: Finish | None = None,
        note_damaged: Damaged | None = None,
        *,
        retried: bool = False,
    ) -> None:
        self._groups = groups
        self.replies = replies
        self._finish = finish or Submitted.finish
        self._note_damaged = note_damaged or (lambda _command, _fault: None)
        self._retried = retried

    @property
    def items(self) -> int:
        """How many wait to be told."""
        return sum(map(len, self._groups))

    def tell(self) -> None:
        """Give everybody their answer; a reply that cannot be read must not cost other batches theirs."""
        for group, reply in zip(self._groups, self.replies, strict=True):
            try:
                _resolve(group, reply, self._finish, self._note_damaged, retried=self._retried)
            except Exception as error:
                log.exception("reply_not_readable")
                fail(group, LedgerFault(f"a reply could not be read: {type(error).__name__}"))


def _resolve(
    group: Sequence[Submitted],
    raw: bytes | ReservasiError,
    finish: Finish,
    note_damaged: Damaged,
    *,
    retried: bool,
) -> None:
    if isinstance(raw, ReservasiError):
        log.error("ledger_refused_a_batch", error=str(raw))
        fail(group, raw)
        return
    try:
        reply = wire.decode_reply(raw)
    except LedgerFault as fault:
        fail(group, fault)
        return
    if reply.fenced:
        fail(group, LedgerFenced("the ledger is not owned"))
        return
    if len(reply.answers) != len(group):
        fail(group, LedgerFault(f"{len(reply.answers)} answers to {len(group)} items"))
        return
    for at, waiting in enumerate(group):
        if waiting.done:
            continue
        try:
            answer = wire.decode_answer(reply, at, waiting.command, retried=retried)
        except ItemDamaged as fault:
            note_damaged(waiting.command, fault)
            waiting.finish(fault)
        except Exception as error:  # one answer that cannot be read must not cost the others theirs
            log.exception("answer_not_readable")
            waiting.finish(LedgerFault(f"an answer could not be read: {type(error).__name__}"))
        else:
            finish(waiting, answer)


def fail(group: Iterable[Submitted], error: ReservasiError) -> None:
    """Tell all of them the same fault."""
    for waiting in group:
        waiting.finish(error)


def fail_all(batch: Iterable[Iterable[Submitted]], error: ReservasiError) -> None:
    """Tell everybody in a batch the same fault."""
    for group in batch:
        fail(group, error)
