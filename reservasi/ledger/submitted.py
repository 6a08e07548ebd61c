"""One submitted command, with its single answer or fault."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from reservasi.errors import ReservasiError
from reservasi.logs import get_sparing_logger
from reservasi.model import Answer, Command

log = get_sparing_logger()

Resolve: TypeAlias = Callable[[Answer | ReservasiError], None]


class Submitted:
    """One submitted command, until it is answered."""

    __slots__ = ("command", "deadline", "done", "resolve", "since")

    def __init__(self, command: Command, resolve: Resolve, since: float, deadline: float) -> None:
        self.command = command
        self.resolve = resolve  # called once, in the event loop, with the answer or the fault
        self.since = since  # this and the next by the event loop's clock
        self.deadline = deadline
        self.done = False

    def finish(self, result: Answer | ReservasiError) -> None:
        """Answer the caller, unless it was answered before or has gone."""
        if self.done:
            return
        self.done = True
        try:
            self.resolve(result)
        except Exception:  # a failing caller must not prevent the others
            log.exception("answer_not_taken")

    def abandon(self) -> None:
        """The caller has gone: a command that was not sent yet is not sent."""
        self.done = True


def fail(group: Iterable[Submitted], error: ReservasiError) -> None:
    """Answer a group of commands with the same fault."""
    for waiting in group:
        waiting.finish(error)


def fail_all(batch: Iterable[Iterable[Submitted]], error: ReservasiError) -> None:
    """Answer all commands of a batch with the same fault."""
    for group in batch:
        fail(group, error)
