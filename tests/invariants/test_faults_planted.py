"""`make faults` reports planted losses, double sales, and faults without an effect."""

import asyncio
import dataclasses
import random
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis.asyncio as redis_asyncio

from loadtest.crowd.crowd import Crowd
from loadtest.crowd.scenario import Plan
from loadtest.faults import __main__ as command
from loadtest.faults import contents, fault, processes, stores
from loadtest.faults.__main__ import FAULTS
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.running import Run, open_stage
from loadtest.stage.program import PROGRAM
from loadtest.stage.shims import Shim, Shims, can_build

pytestmark = pytest.mark.usefixtures("on_disk")
NO_COMPILER = pytest.mark.skipif(not can_build(), reason="no compiler for what the servers are started with")

PLACES = 500


async def strike(scene: Scene) -> str:
    raise AssertionError("not run here")


PLAIN, OTHER = (Fault(name=name, strike=strike) for name in ("plain", "other"))
CONTROL = Fault(name="control", strike=strike, control=True)


def by_name(name: str) -> Fault:
    return next(one for one in FAULTS if one.name == name)


def exit_code(monkeypatch: pytest.MonkeyPatch, ran: Callable[[Fault, int], Run], *faults: Fault) -> int:
    async def run_fault(one: Fault, seed: int, log: Path | None) -> Run:
        return ran(one, seed)

    monkeypatch.setattr(command, "FAULTS", faults)
    monkeypatch.setattr(command, "run_fault", run_fault)
    return command.main(["--runs", "2"])


def test_clean_runs_and_a_control_that_lost_are_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(one: Fault, seed: int) -> Run:
        return Run(fault=one.name, seed=seed, lost=int(one.control))

    assert exit_code(monkeypatch, ran, PLAIN, CONTROL) == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Run(fault="plain", seed=1, lost=1), "FAILED: plain: 1 lost, 0 oversold"),
        (Run(fault="plain", seed=1, oversold=1), "FAILED: plain: 0 lost, 1 oversold"),
        (Run(fault="plain", seed=1, wrong=("nothing was cut",)), "FAILED: plain: nothing was cut"),
    ],
)
def test_one_bad_run_among_good_ones_fails_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad: Run, message: str
) -> None:
    def ran(one: Fault, seed: int) -> Run:
        return bad if (one, seed) == (PLAIN, 1) else Run(fault=one.name, seed=seed)

    assert exit_code(monkeypatch, ran, PLAIN, OTHER) == 1
    assert message in capsys.readouterr().out


def test_a_control_that_lost_nothing_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(monkeypatch, lambda one, seed: Run(fault=one.name, seed=seed), CONTROL) == 1
    assert "FAILED: control: the control lost nothing" in capsys.readouterr().out


def test_a_run_that_breaks_off_fails_and_the_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ran(one: Fault, seed: int) -> Run:
        if one is PLAIN:
            raise RuntimeError("the server runs without the shim")
        return Run(fault=one.name, seed=seed, operations=7)

    assert exit_code(monkeypatch, ran, PLAIN, OTHER) == 1
    output = capsys.readouterr().out
    assert "FAILED: plain: broke off: RuntimeError: the server runs without the shim" in output
    assert "| other | 2 | 14 | 0 | 0 |" in output


def test_without_a_compiler_what_needs_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "can_build", lambda: False)
    shimmed = by_name("power-loss")
    assert exit_code(monkeypatch, lambda one, seed: Run(fault=one.name, seed=seed), PLAIN, shimmed) == 1
    assert "FAILED: power-loss: could not be produced" in capsys.readouterr().out


def test_no_run_at_all_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.wrong_of(PLAIN, []) == ["it did not run"]
    with pytest.raises(SystemExit):
        command.main(["--runs", "0"])


@NO_COMPILER
@pytest.mark.timeout(180)
def test_a_service_that_loses_and_a_fault_that_was_missed_fail_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    control = by_name("power-loss-everysec")

    async def lose_and_miss(scene: Scene) -> str:
        await control.strike(scene)
        raise Missed("planted")

    monkeypatch.setattr(command, "FAULTS", (dataclasses.replace(control, strike=lose_and_miss, control=False),))
    assert command.main(["--runs", "1"]) == 1
    output = capsys.readouterr().out
    assert "FAILED: power-loss-everysec: planted" in output
    assert "FAILED: power-loss-everysec: claim-forgotten" in output
    assert ": 0 lost, 0 oversold" not in output


# What each fault says when it does nothing.
IDLE = {
    "pause-worker": "worker did not stand still",
    "clock-forward": "s from the real one, not 3600",
    "disk-full-valkey": "nobody found the disk full in 4 s",
    "power-loss": "nothing stood behind the last fsync",
    "flushall": "nobody has rebuilt the ledger",
    "memory-full": "claims were accepted",
    "terminate-front": "the front does not end",
}


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would harm the service does nothing, and waiting for what it would do ends soon."""

    async def done(*_: object) -> None:
        return None

    def not_full(_: Shims, under: Path) -> AbstractContextManager[None]:
        return nullcontext()

    monkeypatch.setattr(processes, "_send_all", lambda *_: None)
    harmless = SimpleNamespace(SIGSTOP=signal.SIGSTOP, SIGTERM=0, SIGCONT=signal.SIGCONT)  # kill(pid, 0) does nothing
    monkeypatch.setattr(processes, "signal", harmless)
    monkeypatch.setattr(Shims, "shift_clock", lambda *_: None)
    monkeypatch.setattr(Shims, "disk_full", not_full)
    monkeypatch.setattr(Shims, "synced_bytes", lambda _, file: file.stat().st_size)
    monkeypatch.setattr(redis_asyncio.Redis, "flushall", done)
    monkeypatch.setattr(redis_asyncio.Redis, "config_set", done)
    monkeypatch.setattr(processes, "PAUSE_S", 0.5)
    monkeypatch.setattr(contents, "REBUILT_TIMEOUT_S", 2.0)
    monkeypatch.setattr(stores, "AT_WORK_S", 0.5)
    monkeypatch.setattr(stores, "MEMORY_FULL_S", 1.0)
    monkeypatch.setattr(processes, "RESTART_TIMEOUT_S", 1.0)
    monkeypatch.setattr(fault, "STRIKE_SHARE_MAX", fault.STRIKE_SHARE_MIN)


@NO_COMPILER
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("idle")
async def test_a_fault_that_does_nothing_is_missed() -> None:
    async with open_stage(tuple(Shim)) as stage:
        await asyncio.to_thread(stage.service.import_program, quotas=10, places=PLACES // 10)
        plan = Plan(program=PROGRAM, people=5 * PLACES, seed=0, think_s_max=1.0)
        scene = Scene(
            service=stage.service,
            crowd=Crowd(stage.service.url, plan, at_once=10),
            program=PROGRAM,
            capacity=PLACES,
            chance=random.Random(0),
            shims=stage.shims,
            proxy=None,
        )
        visits = asyncio.create_task(scene.crowd.run())
        try:
            for name, message in IDLE.items():
                with pytest.raises((Missed, TimeoutError), match=message):
                    await by_name(name).strike(scene)
        finally:
            visits.cancel()
            await asyncio.gather(visits, return_exceptions=True)
