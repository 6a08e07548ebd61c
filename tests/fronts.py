"""Fronts of a running service, replaced by a reload."""

import os
import signal
from pathlib import Path

from loadtest.stage.service import Part, Service, wait_for

FRONTS = 2
WAIT_S = 60.0


def replace_fronts(service: Service, told: str) -> None:
    """SIGHUP to the fronts' parent or to `up`, and wait until all fronts are others."""
    before = set(service.pids(Part.FRONT))
    assert len(before) == FRONTS
    os.kill(parent_of(min(before)) if told == "fronts" else service.pid, signal.SIGHUP)

    def look() -> bool | None:
        now = service.pids(Part.FRONT)
        assert len(now) >= FRONTS
        return (len(now) == FRONTS and not before & set(now)) or None

    wait_for(look, WAIT_S, "not replaced")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
