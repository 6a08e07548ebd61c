"""Hundreds of connections that send a byte per second, of a head or of a body: other callers are served, and the slow
connections are closed.
"""

import asyncio

import pytest

from loadtest.openloop.outcomes import HELD
from loadtest.openloop.scene import Slowness, open_scene
from loadtest.openloop.slow_clients import BODIES, HEADS, SlowClients, slow_clients
from loadtest.stage.cores import Cores

CONNECTIONS = 300
TIMEOUT_MS = 1000


@pytest.mark.timeout(300)  # a scene takes long to start and to settle on a slow machine
async def test_slow_connections_are_ended_and_disturb_nobody() -> None:
    async with (
        asyncio.timeout(280),
        open_scene(
            Cores.split(), Slowness(fsync_ms=0), head_timeout_ms=TIMEOUT_MS, body_timeout_ms=TIMEOUT_MS
        ) as scene,
    ):
        runs = await asyncio.gather(
            *(
                slow_clients(scene, CONNECTIONS, rate_per_s=100, seconds=2.0, seed=seed, slow=slow)
                for seed, slow in enumerate((HEADS, BODIES))
            )
        )
        (finding,) = await scene.check()
    assert finding.violations == ()
    for run in runs:
        judge(run)


def judge(result: SlowClients) -> None:
    assert result.beside.counts == {HELD: result.beside.offered}
    drips = result.drips
    assert len(drips.closed_after_s) > CONNECTIONS  # each that was ended came again
    assert set(drips.answers) == {408}
    assert drips.answers.total() == len(drips.closed_after_s)
    assert (drips.left_open, drips.refused) == (0, 0)
    assert min(drips.closed_after_s) >= TIMEOUT_MS / 1000 * 0.9  # nobody is ended before their time
