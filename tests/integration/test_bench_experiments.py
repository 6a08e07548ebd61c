"""Every experiment yields its figures, and stands on what it says it stands on. Never timings."""

import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest

from loadtest.bench import experiments
from loadtest.bench.experiments import fronts, growth, memory, recorder, waiting
from loadtest.bench.experiments.programs import LedgerRefused, own_ledger
from loadtest.bench.experiments.slow_disk import LIBRARY, can_build, slow_disk
from loadtest.bench.figures import Figure
from loadtest.bench.stores import prepared
from loadtest.stage.cores import Cores
from reservasi.ledger.topology.clients import open_client
from reservasi.model import Outcome

NAMES = {
    recorder: {
        "recorder",
        "recorder/unnest into all tables",
        "recorder/unnest into bookings",
        "recorder/copy into bookings",
        "recorder, confirmed later",
        "recorded after the opening",
    },
    memory: {"live reservation", "journal entry", "idle connection", "waiting person"},
    waiting: {"ledger, 100 joined", "ledger, 1000 joined", "ledger, 10000 joined", "mistaken", "front, 1000 wait"},
    growth: {
        f"{what}, {point}"
        for what in ("valkey time", "claims/s")
        for point in ("5000 live, 100 quotas", "1000 live, 200 quotas")
    }
    | {"refusal, 51 of 60 quotas sold out"},
    fronts: {f"ours/{rival}, 2 fronts + recorder + fsync 3 ms" for rival in ("pipelined_recorded", "plpgsql_batches")},
}
MAY_SHRINK = {"front, 1000 wait", "mistaken"}  # what does not grow may also be a little less
JUDGED = {
    recorder: {"recorder/unnest into bookings", "recorded after the opening"},
    memory: {"live reservation"},
    waiting: {"front, 1000 wait", "mistaken"},
    growth: NAMES[growth],
    fronts: NAMES[fronts],
}


def test_all_experiments_are_named() -> None:
    assert set(experiments.ALL) == set(NAMES)
    assert len({module.NAME for module in experiments.ALL}) == len(experiments.ALL)
    assert all(module.TITLE for module in experiments.ALL)


@pytest.mark.parametrize("module", [recorder, memory, waiting, growth], ids=lambda module: module.NAME)
async def test_an_experiment_yields_its_figures(module: ModuleType) -> None:
    await check(module)


@pytest.mark.timeout(400)  # two dozen services start one after the other
@pytest.mark.skipif(not can_build(), reason="no compiler to slow the disk with")
async def test_several_fronts_on_a_slow_disk_yield_their_figures() -> None:
    await check(fronts)


async def check(module: ModuleType) -> None:
    said: list[str] = []
    figures: list[Figure] = await module.run(Cores.split(), True, said.append)
    assert said
    assert [figure.name for figure in figures if figure.value <= 0 and figure.name not in MAY_SHRINK] == []
    assert {figure.name for figure in figures} == NAMES[module]
    assert {figure.name for figure in figures if figure.target is not None} == JUDGED[module]


async def test_without_a_compiler_the_slow_disk_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said: list[str] = []
    assert await fronts.run(Cores.split(), True, said.append) == []
    assert any("left out" in text for text in said)


@pytest.mark.skipif(not can_build(), reason="no compiler to slow the disk with")
async def test_a_slow_disk_sleeps_before_each_fsync_while_it_is_told_to(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\n"
        "fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\n"
        "started = time.monotonic()\n"
        "os.fsync(fd)\n"
        "os.fdatasync(fd)\n"
        "print(time.monotonic() - started)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "file")]

    async with slow_disk(100) as disk:
        env = {**os.environ, **disk.environment}
        with disk.slowed():
            slow = subprocess.run(command, env=env, capture_output=True, text=True, check=True)  # noqa: ASYNC221
        usual = subprocess.run(command, env=env, capture_output=True, text=True, check=True)  # noqa: ASYNC221
        with pytest.raises(RuntimeError, match="stand on"):
            disk.check_under({"this one": os.getpid()})
    assert float(slow.stdout) >= 0.2  # what was slept is a lower bound on any machine
    assert float(usual.stdout) > 0
    assert not slow.stderr
    assert not disk.library.exists()
    assert disk.library.name == LIBRARY


@pytest.mark.skipif(not can_build(), reason="no compiler to slow the disk with")
async def test_both_servers_write_through_the_slow_disk() -> None:
    took: list[float] = []
    async with slow_disk(200) as disk, AsyncExitStack() as stack:
        with disk.inserted():
            ground = await stack.enter_async_context(prepared(Cores.split()))
        disk.check_under(ground.store_pids)
        client = await stack.enter_async_context(open_client(ground.redis_url))
        connection = await asyncpg.connect(ground.postgres_dsn)
        with disk.slowed():
            for write in (client.set("written", "1"), connection.execute("CREATE TABLE written (id int)")):
                started_s = time.monotonic()
                await write
                took.append(time.monotonic() - started_s)
        await connection.close()
    assert min(took) >= 0.2  # a lower bound again


async def test_a_ledger_forgets_what_was_measured(program: str, valkey_url: str) -> None:
    async with open_client(valkey_url) as client, own_ledger(valkey_url, program, 3, 2000) as ledger:
        await ledger.fill(1500)
        assert (await ledger.held(), await ledger.remembered(client)) == (1500, 1500)
        claims = ledger.claims(1200)
        await ledger.carry_out(claims, Outcome.HELD)
        with pytest.raises(LedgerRefused, match="exists"):
            await ledger.carry_out(claims, Outcome.HELD)
        await ledger.forget(claims)
        assert (await ledger.held(), await ledger.remembered(client)) == (1500, 1500)
