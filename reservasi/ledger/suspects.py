"""Puts commands whose data may be damaged into batches of their own, so that other commands are not slowed down.

The ledger answers most commands on damaged data as fast as any other. Damage that it finds only by deciding a batch in
parts is remembered here for a while, by the reservation, quota or opening of the command.
"""

import time
from collections.abc import Sequence

from reservasi.errors import ItemDamaged
from reservasi.ledger.submitted import Submitted
from reservasi.logs import get_logger
from reservasi.metrics import LEDGER_DAMAGED
from reservasi.model import Command

log = get_logger()

REMEMBERED_S = 10.0
SUSPECTS_MAX = 1000
LOG_INTERVAL_S = 60.0  # between two log lines of one program


class Suspects:
    """The damaged data that one program's commands met recently."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._until: dict[str, float] = {}
        self._refused = LEDGER_DAMAGED.labels(program)
        self._logged_at = float("-inf")
        self._unlogged = 0

    def __bool__(self) -> bool:
        return bool(self._until)

    def note(self, command: Command, fault: ItemDamaged) -> None:
        """A command was refused because its stored data is damaged."""
        self._refused.inc()
        self._unlogged += 1
        now = time.monotonic()
        if now - self._logged_at >= LOG_INTERVAL_S:
            log.error("ledger_item_damaged", program=self._program, what=str(fault), refused=self._unlogged)
            self._logged_at, self._unlogged = now, 0
        if fault.alone and len(self._until) < SUSPECTS_MAX:
            self._until[_subject(command)] = now + REMEMBERED_S

    def set_apart(self, batch: Sequence[list[Submitted]]) -> list[list[Submitted]]:
        """Split the batch: commands that the ledger may have to decide in parts become groups of their own, at the
        end.
        """
        now = time.monotonic()
        self._until = {subject: until for subject, until in self._until.items() if until > now}
        parted: list[tuple[list[Submitted], list[Submitted]]] = []
        for group in batch:
            aside = [waiting for waiting in group if _subject(waiting.command) in self._until]
            parted.append(([waiting for waiting in group if waiting not in aside] if aside else group, aside))
        return [group for pair in zip(*parted, strict=True) for group in pair if group]


def _subject(command: Command) -> str:
    for name in ("reservation_id", "opening", "quota"):
        subject = getattr(command, name, "")
        if subject:
            return str(subject)
    return type(command).__name__
