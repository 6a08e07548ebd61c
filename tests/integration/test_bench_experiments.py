"""Every experiment yields its figures, and stands on what it says it stands on. Never timings."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest

from loadtest.bench.__main__ import EXPERIMENTS, main, read_arguments, run
from loadtest.bench.experiments import growth, memory
from loadtest.bench.figures import Figure, WrongResult
from loadtest.bench.ground import prepared
from loadtest.bench.measuring import Arrangement
from loadtest.bench.own_ledger import own_ledger
from loadtest.bench.report import Run
from loadtest.bench.variants import STRONG
from loadtest.stage.cores import Cores
from loadtest.stage.shims import Shim, built, can_build
from reservasi.ledger.topology.clients import open_client
from reservasi.model import Outcome

NAMES = {
    memory: {
        *("live reservation", "journal entry"),
        *("ledger, 1000 joined", "mistaken", "front, 1000 joined"),
    },
    growth: {
        f"{what}, {point}"
        for what in ("valkey time", "claims/s")
        for point in ("5000 live, 100 quotas", "1000 live, 200 quotas")
    }
    | {"refusal, 51 of 60 quotas sold out"},
}
MAY_SHRINK = {"front, 1000 joined", "mistaken"}  # what does not grow may also be a little less
JUDGED = {memory: {"live reservation", "front, 1000 joined", "mistaken"}, growth: NAMES[growth]}


def test_all_experiments_are_named() -> None:
    assert set(EXPERIMENTS) == set(NAMES)
    assert len({module.NAME for module in EXPERIMENTS}) == len(EXPERIMENTS)
    assert all(module.TITLE for module in EXPERIMENTS)


@pytest.mark.parametrize("module", EXPERIMENTS, ids=lambda module: module.NAME)
async def test_an_experiment_yields_its_figures(module: ModuleType) -> None:
    progress: list[str] = []
    figures: list[Figure] = await module.run(Cores.split(), True, progress.append)
    assert progress
    assert [figure.name for figure in figures if figure.value <= 0 and figure.name not in MAY_SHRINK] == []
    assert {figure.name for figure in figures} == NAMES[module]
    assert {figure.name for figure in figures if figure.target is not None} == JUDGED[module]


@pytest.mark.timeout(400)
@pytest.mark.skipif(not can_build(), reason="no compiler to slow the disk with")
def test_several_fronts_on_a_slow_disk_are_compared(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    assert main(["--smoke", "--only", "fronts", "--json", str(written)]) == 0
    (suite,) = json.loads(written.read_text())["suites"]
    assert suite["arrangement"] == "2 fronts, fsync 3 ms longer"
    assert list(suite["variants"]) == ["bare", *(kind.name for kind in STRONG)]
    assert [row["name"] for row in suite["targets"] if row["target"]] == [
        *("ours_recorded/pipelined_recorded", "ours_recorded/plpgsql_batches")
    ]


async def test_without_a_compiler_the_slow_disk_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    measured: list[Arrangement] = []
    progress: list[str] = []

    async def measure(results: Run, arrangement: Arrangement, *_: object, **__: object) -> None:
        measured.append(arrangement)

    monkeypatch.setattr("loadtest.bench.__main__._measure", measure)
    await run(Run(), read_arguments(["--only", "fronts"]), Cores.split(), progress.append)
    assert {arrangement.fsync_ms for arrangement in measured} == {0}
    assert len(measured) > 1
    assert any("left out" in text for text in progress)


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

    with built((Shim.SLOW_DISK,), fsync_ms=100) as shims:
        env = {**os.environ, **shims.environment}
        with shims.disk_slow():
            slow = subprocess.run(command, env=env, capture_output=True, text=True, check=True)  # noqa: ASYNC221
        usual = subprocess.run(command, env=env, capture_output=True, text=True, check=True)  # noqa: ASYNC221
        with pytest.raises(RuntimeError, match="without slow_disk"):
            shims.check_under(os.getpid())
    assert float(slow.stdout) >= 0.2  # what was slept is a lower bound on any machine
    assert float(usual.stdout) > 0
    assert not slow.stderr
    assert not shims.directory.exists()


@pytest.mark.skipif(not can_build(), reason="no compiler to slow the disk with")
async def test_both_servers_write_through_the_slow_disk() -> None:
    took: list[float] = []
    async with prepared(Cores.split(), fsync_ms=200) as ground, open_client(ground.redis_url) as client:
        connection = await asyncpg.connect(ground.postgres_dsn)
        for write in (client.set("written", "1"), connection.execute("CREATE TABLE written (id int)")):
            started_s = time.monotonic()
            await write
            took.append(time.monotonic() - started_s)
        await connection.close()
    assert min(took) >= 0.2  # a lower bound again


async def test_a_ledger_forgets_what_was_measured(program: str, valkey_url: str) -> None:
    async with own_ledger(valkey_url, program, quotas=3, capacity=2000) as ledger:
        await ledger.fill(1500)
        assert (await ledger.taken(), await ledger.remembered()) == (1500, 1500)
        claims = ledger.claims(1200)
        await ledger.submit(claims, Outcome.HELD, in_flight=100)
        with pytest.raises(WrongResult, match="exists"):
            await ledger.submit(claims, Outcome.HELD, in_flight=100)
        await ledger.forget(claims)
        assert (await ledger.taken(), await ledger.remembered()) == (1500, 1500)
