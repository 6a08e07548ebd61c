"""Ours and the strong rivals with several fronts, while a recorder writes what is sold to PostgreSQL, on a slow disk.

Where the recorder is at work, the rival that sells in Redis has one as well: what is sold there alone is not recorded.
The one that sells in PostgreSQL needs none.
"""

import contextlib
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from unittest.mock import patch

from loadtest.bench.claims import requests
from loadtest.bench.client import Load
from loadtest.bench.experiments.slow_disk import SlowDisk, can_build, slow_disk
from loadtest.bench.figures import Figure
from loadtest.bench.ground import Ground
from loadtest.bench.measuring import During, Measured, Meter, Plan, Subject, WrongResult
from loadtest.bench.serving import PROCESSES_VARIABLE
from loadtest.bench.stores import prepared
from loadtest.bench.variants import Ours, Variant
from loadtest.bench.variants.pipelined import Pipelined
from loadtest.bench.variants.pipelined_recorded import PipelinedRecorded
from loadtest.bench.variants.plpgsql_batches import PlpgsqlBatches
from loadtest.stage.cores import Cores
from loadtest.stage.ports import wait_listening

NAME = "fronts"
TITLE = "Fronts: ours against the strong rivals with several fronts, a recorder at work, a slow disk"
FSYNC_MS = 3
PROBES = 8
START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Setting:
    """One arrangement."""

    processes: int
    recorder: bool = False
    slow: bool = False
    judged: bool = False

    @property
    def name(self) -> str:
        parts = [f"{self.processes} front{'s' if self.processes > 1 else ''}"]
        parts += ["recorder"] * self.recorder + [f"fsync {FSYNC_MS} ms"] * self.slow
        return " + ".join(parts)

    @property
    def rivals(self) -> tuple[type[Variant], ...]:
        """The strong ones; where ours records, what they sell is in PostgreSQL as well."""
        return (PipelinedRecorded if self.recorder else Pipelined, PlpgsqlBatches)


JUDGED = Setting(2, recorder=True, slow=True, judged=True)
SETTINGS = (Setting(1), Setting(2), Setting(4), Setting(2, recorder=True), Setting(2, slow=True), JUDGED)
SMOKE = Plan(rounds=1, connections=8, seconds=0.0, claims=200, warm_up_claims=50, repeats_max=0)
FULL = Plan(rounds=5, connections=256, seconds=1.0, claims=0, warm_up_claims=2000, repeats_max=0)


class SeveralFronts(Ours):
    """Our own service with as many front processes as asked for."""

    def __init__(self, ground: Ground, processes: int) -> None:
        super().__init__(ground)
        self._fronts.argv = (*self._fronts.argv[:-1], str(processes))


async def run(cores: Cores, smoke: bool, say: Callable[[str], None]) -> list[Figure]:
    """Two figures a setting: ours against each rival."""
    plan, settings = (SMOKE, (JUDGED,)) if smoke else (FULL, SETTINGS)
    figures: list[Figure] = []
    async with AsyncExitStack() as stack:
        disk = await stack.enter_async_context(slow_disk(FSYNC_MS)) if can_build() else None
        for setting in settings:
            if setting.slow and disk is None:
                say(f"fronts: {setting.name} is left out, there is no gcc to slow the disk with")
                continue
            say(f"fronts: {setting.name}")
            figures += await _measured(cores, setting, plan, disk if setting.slow else None)
    return figures


async def _measured(cores: Cores, setting: Setting, plan: Plan, disk: SlowDisk | None) -> list[Figure]:
    async with AsyncExitStack() as stack:
        with disk.inserted() if disk else contextlib.nullcontext():
            ground = await stack.enter_async_context(prepared(cores))
        if setting.processes > 1:  # one core would only show them taking turns
            everywhere = cores.front | cores.rest
            ground = replace(ground, cores=Cores(everywhere, everywhere))
        meter = Meter(plan)
        subjects = await _started(ground, setting, meter, stack)
        if disk:
            disk.check_under(ground.store_pids)
            stack.enter_context(disk.slowed())
        return _figures(setting, await _rounds(meter, subjects))


async def _started(ground: Ground, setting: Setting, meter: Meter, stack: AsyncExitStack) -> list[Subject]:
    """Ours first: the rivals answer in the size of its answer."""
    people = _People(ground.quotas)
    ours = SeveralFronts(ground, setting.processes)
    during = contextlib.nullcontext if setting.recorder else ours.recorder_still
    subjects = [await _subject(ours, ground, people, stack, during)]
    await meter.measure(subjects[0], PROBES)
    ground = replace(ground, answer_bytes=people.answer_bytes)
    with patch.dict(os.environ, {PROCESSES_VARIABLE: str(setting.processes)}):
        subjects += [await _subject(kind(ground), ground, people, stack) for kind in setting.rivals]
    return subjects


class _People:
    """Everybody claims once."""

    def __init__(self, quotas: Sequence[str]) -> None:
        self._quotas = quotas
        self._next = 0
        self.answer_bytes = 0

    def requests(self, count: int) -> list[bytes]:
        self._next += count
        return requests(self._next - count, count, self._quotas)


async def _subject(
    variant: Variant,
    ground: Ground,
    people: _People,
    stack: AsyncExitStack,
    during: During = contextlib.nullcontext,
) -> Subject:
    stack.push_async_callback(variant.stop)
    await variant.start()
    await wait_listening(variant.port, START_TIMEOUT_S)
    claimed = 0

    async def check(load: Load) -> None:
        nonlocal claimed
        people.answer_bytes = max(people.answer_bytes, *load.answer_bytes)
        claimed += load.claimed
        held = await variant.held()
        if held != claimed:
            raise WrongResult(f"{variant.name} answered 201 to {claimed} claims and holds {held}")

    return Subject(
        name=variant.name,
        port=variant.port,
        roots={**ground.store_pids, **variant.pids},
        requests=people.requests,
        settle=variant.settle,
        check=check,
        during=during,
    )


async def _rounds(meter: Meter, subjects: Sequence[Subject]) -> list[dict[str, Measured]]:
    """Each subject once a round; who begins changes, so that a drift weighs on all."""
    for subject in subjects:
        await meter.measure(subject, meter.plan.warm_up_claims)
        await meter.measure(subject)
    rounds = []
    for number in range(meter.plan.rounds):
        at = number % len(subjects)
        order = [*subjects[at:], *subjects[:at]]
        rounds.append({subject.name: await meter.measure(subject) for subject in order})
    return rounds


def _figures(setting: Setting, rounds: Sequence[dict[str, Measured]]) -> list[Figure]:
    rates = {name: statistics.median(done[name].claims_per_s for done in rounds) for name in rounds[0]}
    p99s = {name: statistics.median(done[name].p99_ms for done in rounds) for name in rounds[0]}
    times = {name: statistics.median(_machine_us(done[name]) for done in rounds) for name in rounds[0]}
    ours = Ours.name
    return [
        Figure(
            name=f"ours/{rival.name}, {setting.name}",
            title=f"claims a second against {rival.name}, interleaved",
            value=statistics.median(done[ours].claims_per_s / done[rival.name].claims_per_s for done in rounds),
            target=1.0 if setting.judged else None,
            note=f"{rates[ours]:,.0f} against {rates[rival.name]:,.0f} claims/s, "
            f"p99 {p99s[ours]:.0f} against {p99s[rival.name]:.0f} ms, "
            f"processor time {times[ours]:.0f} against {times[rival.name]:.0f} us a claim",
        )
        for rival in setting.rivals
    ]


def _machine_us(measured: Measured) -> float:
    """Processor time a claim of all processes but the load generator, until nothing is left to do."""
    return sum(spent for name, spent in measured.busy_us.items() if name != "load")
