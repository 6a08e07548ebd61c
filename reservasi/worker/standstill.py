"""Detects that recording stands still: the ledger is ahead of the records, and the recorded position does not move."""

import time
from collections.abc import Callable

from reservasi.logs import get_logger
from reservasi.metrics import RECORDER_STALLED
from reservasi.model import Position

log = get_logger()

STALLED_S = 5.0  # without progress while changes wait; a working recorder needs milliseconds


class Standstill:
    """Watches one program's recorded position, which `reason` gets together with the ledger's."""

    def __init__(self, program: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stalled = RECORDER_STALLED.labels(program)
        self._log = log.bind(program=program)
        self._recorded: Position | None = None
        self._since_s = 0.0  # when the position moved last, or nothing waited
        self._said = False

    def reason(self, recorded: Position, ledger: Position) -> str | None:
        """Why the program is unhealthy: changes wait and the position does not move; None while recording works."""
        waiting = ledger.seq - recorded.seq
        if waiting <= 0 or recorded != self._recorded:
            self._recorded, self._since_s = recorded, self._clock()
        stalled = self._clock() - self._since_s > STALLED_S
        if stalled != self._said:
            self._said = stalled
            self._stalled.set(int(stalled))
            if stalled:
                self._log.error("recording_stands_still", waiting=waiting, recorded=recorded.seq, ledger=ledger.seq)
            else:
                self._log.info("recording_goes_on", recorded=recorded.seq)
        return f"recording stands still at seq {recorded.seq}, {waiting} changes wait" if stalled else None
