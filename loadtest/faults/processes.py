"""Processes that are killed, stand still, end in order, or are down for a while."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

from loadtest.checker.history import NO_ANSWER
from loadtest.faults.callers import claim_at_once
from loadtest.faults.fault import STRIKE_TIMEOUT_S, Fault, Missed, Scene
from loadtest.stage.cores import children
from loadtest.stage.service import RESTART_TIMEOUT_S, Part

PAUSE_S = 4.0  # longer than a ledger command's deadline
STARTS = 2
IN_FLIGHT = 500
FIRST_IN_FLIGHT = 6_000_000  # number of the first person
HELD_BACK_S = 1.5  # less than a command's deadline
DOWN_S = 10.0
DOWN_LONG_S = 120.0  # longer than anybody waits before asking again
EVENTS_PER_PLACE_MAX = 3  # a place is held, confirmed and cancelled


async def _kill(part: Part, scene: Scene) -> str:
    await scene.mid_sale()
    await asyncio.to_thread(scene.service.kill_and_wait, part)
    return "another one took its place"


async def _pause(part: Part, scene: Scene) -> str:
    await scene.mid_sale()
    pids = scene.service.pids(part)[:1]
    if not pids:
        raise Missed(f"no {part} runs")
    if part is Part.POSTGRES:
        pids += children(pids[0])  # each connection has a process of its own
    _send_all(pids, signal.SIGSTOP)
    try:
        meanwhile = await scene.served_in(PAUSE_S)
        if not _stands_still(pids[0]):
            raise Missed(f"{part} did not stand still")
    finally:
        _send_all(pids, signal.SIGCONT)
    return f"stood still for {PAUSE_S:g} s; {meanwhile} reservations meanwhile"


def _send_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # one that was leaving
            os.kill(pid, number)


def _stands_still(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


async def _kill_up(scene: Scene) -> str:
    """`kill -9` of `up` itself, and `up` again at once: what is left of the first one is not in its way."""
    took_s = []
    for number in range(STARTS):
        await scene.taken(0.15 + 0.2 * number)
        begun_s = time.monotonic()
        try:
            scene.service = await asyncio.to_thread(scene.service.killed_and_started)
        except RuntimeError as error:
            raise Missed(f"start {number + 1}: {error}") from error
        took_s.append(time.monotonic() - begun_s)
    return f"{STARTS} times, ready again after " + " and ".join(f"{each:.1f} s" for each in took_s)


async def _terminate(scene: Scene) -> str:
    """SIGTERM to a front with many requests in flight, which wait since the ledger stands still: all are answered."""
    await scene.mid_sale()
    quotas = await scene.quotas_left()
    (valkey,) = scene.service.pids(Part.VALKEY)
    front = scene.service.pids(Part.FRONT)[0]
    answers: Counter[int] = Counter()
    os.kill(valkey, signal.SIGSTOP)
    try:
        people = range(FIRST_IN_FLIGHT, FIRST_IN_FLIGHT + IN_FLIGHT)
        claims = asyncio.create_task(claim_at_once(scene, quotas, people, answers))
        await asyncio.sleep(HELD_BACK_S)
        waiting = IN_FLIGHT - answers.total()
        os.kill(front, signal.SIGTERM)
        await asyncio.sleep(HELD_BACK_S / 5)
    finally:
        os.kill(valkey, signal.SIGCONT)
    await claims
    if waiting < IN_FLIGHT:
        raise Missed(f"only {waiting} requests were in flight")
    if answers[NO_ANSWER] or not set(answers) <= {201, 409, 503}:
        raise Missed(f"the {IN_FLIGHT} were answered {dict(answers)}")
    await scene.until(lambda: front not in scene.service.pids(Part.FRONT), RESTART_TIMEOUT_S, "the front does not end")
    return f"{waiting} in flight, answered " + ", ".join(f"{n} x {outcome}" for outcome, n in sorted(answers.items()))


async def _stop_postgres(down_s: float, scene: Scene) -> str:
    """Holds go on, confirmations answer 202, and what waits is bounded and recorded afterwards."""
    await scene.mid_sale()
    with scene.unsupervised():
        recorded = await scene.recorded_seq()
        scene.kill(Part.POSTGRES)
        since_ms = time.time() * 1000
        meanwhile = await scene.served_in(down_s)
        backlog = await scene.ledger_seq() - recorded
    confirms = [e.outcome for e in scene.exchanges(since_ms, time.time() * 1000) if e.call == "confirm"]
    if not meanwhile:
        raise Missed("nobody got a place while PostgreSQL was down")
    if 202 not in confirms or not set(confirms) <= {NO_ANSWER, 202, 503}:
        raise Missed(f"confirmations meanwhile were answered {sorted(set(confirms))}")
    if backlog > EVENTS_PER_PLACE_MAX * scene.capacity:
        raise Missed(f"{backlog} changes waited to be recorded")
    drained_s = await scene.drained()
    return (
        f"down for {down_s:g} s: {meanwhile} reservations, {confirms.count(202)} of {len(confirms)} confirmations 202, "
        f"repeats included; {backlog} changes waited, recorded {drained_s:.1f} s later"
    )


FAULTS = (
    *(
        Fault(name=f"{verb}-{part}", strike=partial(strike, part))
        for verb, strike in (("kill", _kill), ("pause", _pause))
        for part in Part
    ),
    Fault(name="kill-up", strike=_kill_up, places=600, people=750),
    Fault(name="terminate-front", strike=_terminate, processes=1, places=1200, people=1300),
    *(
        Fault(
            name=name,
            strike=partial(_stop_postgres, down_s),
            places=1500,
            people=1600,
            at_once=300,
            timeout_s=down_s + STRIKE_TIMEOUT_S,
        )
        for name, down_s in (("postgres-down", DOWN_S), ("postgres-down-long", DOWN_LONG_S))
    ),
)
