"""Three times more claims than the ledger takes: places are still sold, other claims are refused at once, and staff
calls work.
"""

import asyncio

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.openloop.outcomes import HELD, OVERLOADED
from loadtest.openloop.overload import overload
from loadtest.openloop.scene import Scene, Slowness, open_scene
from loadtest.stage.cores import Cores
from loadtest.stage.shims import can_build

pytestmark = pytest.mark.alone

# Far from what is measured, since tests share their machine: `python -m loadtest.openloop.overload` holds the real ones.
GOODPUT_LEAST = 0.5
REFUSAL_P99_MS = 1000.0
MEMORY_MIB = 128.0
AT_A_TIME = 32  # claims that nginx lets through: fewer than the front's own limit begins with


@pytest.mark.timeout(300)  # a slow machine takes long to record what was offered
@pytest.mark.skipif(not can_build(), reason="no compiler to slow the disk with")
async def test_goodput_stays_and_the_rest_is_refused_at_once() -> None:
    async with asyncio.timeout(280), open_scene(Cores.split(), Slowness()) as scene:
        result = await overload(scene, seconds=4.0, peak_s=1.0)
        (finding,) = await scene.check()

    outcomes = result.outcomes
    assert set(outcomes.counts) == {HELD, OVERLOADED}
    assert outcomes.counts.total() == outcomes.offered
    assert outcomes.hasty == 0
    assert result.share >= GOODPUT_LEAST
    assert outcomes.latency_ms(OVERLOADED)["p99"] < REFUSAL_P99_MS
    assert result.growth_mib < MEMORY_MIB
    assert result.staff.failed == []
    assert set(result.staff.quantile_ms(1.0)) == {"livez", "metrics", "staff list", "staff change"}
    assert result.holders.failed == []
    assert set(result.holders.quantile_ms(1.0)) == {"confirm", "status", "cancel"}
    assert finding.violations == ()
    assert finding.held >= outcomes.counts[HELD] > 0


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("nginx_installed")
@pytest.mark.skipif(not can_build(), reason="no compiler to slow the disk with")
async def test_behind_nginx_a_front_never_sees_those_who_are_too_many() -> None:
    async with asyncio.timeout(280), open_scene(Cores.split(), Slowness(behind_nginx=AT_A_TIME)) as scene:
        result = await overload(scene, seconds=4.0, peak_s=1.0)
        refused_by_front = await _refused_by_front(scene)
        (finding,) = await scene.check()

    outcomes = result.outcomes
    assert set(outcomes.counts) == {HELD, OVERLOADED}
    assert outcomes.hasty == 0
    assert result.share >= GOODPUT_LEAST
    assert refused_by_front < outcomes.counts[OVERLOADED] / 2
    assert (result.holders.failed, result.staff.failed) == ([], [])
    assert finding.violations == ()
    assert finding.held >= outcomes.counts[HELD] > 0


async def _refused_by_front(scene: Scene) -> float:
    """Claims that the front answered 5xx, by its own count."""
    async with aiohttp.ClientSession(trust_env=False) as client, client.get(f"{scene.admin_url}/metrics") as response:
        text = await response.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "reservasi_requests_total"
        and (sample.labels["route"], sample.labels["outcome"]) == ("/v1/reservations", "5xx")
    )
