"""`kill -9` and SIGSTOP of every role."""

import asyncio
import contextlib
import os
import signal
from functools import partial
from pathlib import Path

from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.stage.service import Part

PAUSE_S = 4.0  # longer than a ledger command's deadline


async def _kill(part: Part, scene: Scene) -> str:
    await scene.mid_sale()
    await scene.replaced(part)
    return "another one took its place"


async def _pause(part: Part, scene: Scene) -> str:
    await scene.mid_sale()
    pids = scene.service.pids(part)[:1]
    if not pids:
        raise Missed(f"no {part} runs")
    if part is Part.POSTGRES:
        pids += _children(pids[0])  # each connection has a process of its own
    before = scene.served
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # one that was leaving
            os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(PAUSE_S)
        if not _stands_still(pids[0]):
            raise Missed(f"{part} did not stand still")
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    return f"stood still for {PAUSE_S:g} s; {scene.served - before} reservations meanwhile"


def _stands_still(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


FAULTS = tuple(
    Fault(name=f"{verb}-{part}", strike=partial(strike, part), short=verb == "kill" and part is not Part.FRONT)
    for verb, strike in (("kill", _kill), ("pause", _pause))
    for part in Part
)
