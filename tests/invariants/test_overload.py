"""Three times more claims than the ledger takes: places go on being given, the rest is refused at once, staff work."""

import asyncio

import pytest

from loadtest.bench.cores import Cores
from loadtest.bench.experiments.slow_disk import can_build
from loadtest.openloop.outcomes import HELD, OVERLOADED
from loadtest.openloop.overload import overload
from loadtest.openloop.scene import Slowness, open_scene

# Far from what is measured, since tests share their machine: `python -m loadtest.openloop.overload` holds the real ones.
GOODPUT_LEAST = 0.5
REFUSAL_P99_MS = 1000.0
MEMORY_MIB = 128.0
FACTOR = 3.0


@pytest.mark.timeout(300)  # a slow machine takes long to record what was offered
@pytest.mark.skipif(not can_build(), reason="no compiler to slow the disk with")
async def test_goodput_stays_and_the_rest_is_refused_at_once() -> None:
    async with asyncio.timeout(280), open_scene(Cores.split(), Slowness()) as scene:
        seen = await overload(scene, factor=FACTOR, seconds=4.0, peak_s=1.0)
        (finding,) = await scene.check()

    outcomes = seen.outcomes
    assert set(outcomes.counts) == {HELD, OVERLOADED}
    assert outcomes.counts.total() == outcomes.offered
    assert outcomes.hasty == 0
    assert seen.share >= GOODPUT_LEAST
    assert outcomes.latency_ms(OVERLOADED)["p99"] < REFUSAL_P99_MS
    assert seen.growth_mib < MEMORY_MIB
    assert seen.beside.failed == []
    assert set(seen.beside.answered) == {"livez", "metrics", "staff list", "staff change"}
    assert seen.holders.failed == []
    assert set(seen.holders.answered_s) == {"confirm", "status", "cancel"}
    assert finding.violations == ()
    assert finding.held >= outcomes.counts[HELD] > 0
