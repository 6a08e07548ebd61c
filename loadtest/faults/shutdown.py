"""SIGTERM to a front that has 500 requests in flight: each of them gets its answer."""

import asyncio
import os
import signal
from collections import Counter
from functools import partial

from loadtest.checker.history import NO_ANSWER
from loadtest.faults.claims import claim_at_once, quotas_left
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.stage.service import RESTART_TIMEOUT_S, Part, wait_for

IN_FLIGHT = 500
FIRST = 6_000_000
HELD_BACK_S = 1.5  # less than a command's deadline


async def _terminate(scene: Scene) -> str:
    """The ledger stands still, so that all of them wait; then it goes on."""
    await scene.mid_sale()
    quotas = await quotas_left(scene)
    (valkey,) = scene.service.pids(Part.VALKEY)
    front = scene.service.pids(Part.FRONT)[0]
    answers: Counter[int] = Counter()
    os.kill(valkey, signal.SIGSTOP)
    try:
        asked = asyncio.create_task(claim_at_once(scene, quotas, range(FIRST, FIRST + IN_FLIGHT), answers))
        await asyncio.sleep(HELD_BACK_S)
        waiting = IN_FLIGHT - answers.total()
        os.kill(front, signal.SIGTERM)
        await asyncio.sleep(HELD_BACK_S / 5)
    finally:
        os.kill(valkey, signal.SIGCONT)
    await asked
    if waiting < IN_FLIGHT:
        raise Missed(f"only {waiting} requests were in flight")
    if answers[NO_ANSWER] or not set(answers) <= {201, 409, 503}:
        raise Missed(f"the {IN_FLIGHT} were answered {dict(answers)}")
    await asyncio.to_thread(wait_for, partial(_has_ended, front, scene), RESTART_TIMEOUT_S, "the front does not end")
    told = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(answers.items()))
    return f"{waiting} in flight, answered {told}"


def _has_ended(front: int, scene: Scene) -> bool | None:
    return None if front in scene.service.pids(Part.FRONT) else True


FAULTS = (Fault(name="terminate-front", strike=_terminate, processes=1, places=1200, people=1300, short=True),)
