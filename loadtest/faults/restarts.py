"""`kill -9` of `up` itself, and `up` again at once: what is left of the first one is not in the second one's way."""

import asyncio
import time

from loadtest.faults.fault import Fault, Missed, Scene

ROUNDS = 2


async def _start_at_once(scene: Scene) -> str:
    took_s = []
    for number in range(ROUNDS):
        await scene.taken(0.15 + 0.2 * number)
        begun_s = time.monotonic()
        try:
            scene.service = await asyncio.to_thread(scene.service.killed_and_started)
        except RuntimeError as error:
            raise Missed(f"start {number + 1}: {error}") from error
        took_s.append(time.monotonic() - begun_s)
    return f"{ROUNDS} times, ready again after " + " and ".join(f"{each:.1f} s" for each in took_s)


FAULTS = (Fault(name="kill-up", strike=_start_at_once, places=600, people=750),)
