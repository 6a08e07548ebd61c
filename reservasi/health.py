"""Whether a worker's programs can be served: the data of its readiness.

A program is healthy if its ledger was found owned, by a check of ledger and records, within `GRACE_S`: one slow answer,
or a server that restarts and is owned again at once, changes nothing.
"""

import time
from collections.abc import Callable
from typing import Literal

GRACE_S = 3.0

Part = Literal["ledger", "records"]


class Health:
    """The last findings of the owners of a worker's ledgers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._well_at: dict[str, float] = {}
        self._faults: dict[str, tuple[Part, str]] = {}
        self._recorder: dict[str, tuple[Part, str]] = {}
        self._servers = ""

    def expect(self, program: str) -> None:
        """The program is served from now on, and not healthy until a check says so."""
        self._well_at.setdefault(program, float("-inf"))

    def forget(self, program: str) -> None:
        """The program is not served any more."""
        for kept in (self._well_at, self._faults, self._recorder):
            kept.pop(program, None)

    def note_well(self, program: str) -> None:
        """Its ledger is owned, and the records answered."""
        self._well_at[program] = self._clock()
        self._faults.pop(program, None)

    def note_fault(self, program: str, part: Part, reason: str) -> None:
        """Why it cannot be served now."""
        self._faults[program] = part, reason

    def note_recorder(self, program: str, fault: str, part: Part = "ledger") -> None:
        """Why its recorder cannot continue, and which part fails; "" if it can."""
        if fault:
            self._recorder[program] = part, fault
        else:
            self._recorder.pop(program, None)

    def note_servers(self, fault: str) -> None:
        """Why the ledger's servers do not answer while no program is served; "" if they do, or a program is."""
        self._servers = fault

    def recorder_fault(self, program: str) -> str:
        """Why its recorder cannot continue; "" if it can."""
        return self._recorder.get(program, ("ledger", ""))[1]

    def missing(self) -> dict[str, tuple[Part, str]]:
        """For each unhealthy program, and for the servers by the name `ledger`, what is missing and why."""
        now = self._clock()
        missing = {program: self._fault(program) for program, at in self._well_at.items() if now - at > GRACE_S}
        return {**missing, "ledger": ("ledger", self._servers)} if self._servers else missing

    def _fault(self, program: str) -> tuple[Part, str]:
        lacks, recorder = self._recorder.get(program, ("ledger", ""))
        part, reason = self._faults.get(program, (lacks, "no answer yet"))
        return part, f"{reason}; its recorder: {recorder}" if recorder else reason
