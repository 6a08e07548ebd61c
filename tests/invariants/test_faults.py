"""The cheap faults, one after another on one service: nothing acknowledged is lost, nothing is sold twice."""

import pytest

from loadtest.faults.__main__ import main, row_of, table
from loadtest.faults.catalogue import FAULTS
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.running import Run, run_together
from loadtest.faults.shims import can_build

# Together they take about a minute; `make faults` runs all.
CHEAP = ("kill-worker", "kill-valkey", "replies-lost-front", "power-loss", "memory-full", "terminate-front")


def by_name(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


@pytest.mark.skipif(not can_build(), reason="no compiler for what the servers are started with")
@pytest.mark.timeout(180)
async def test_nothing_is_lost_or_sold_twice() -> None:
    faults = [by_name(name) for name in CHEAP]
    runs = [run async for run in run_together(faults, seed=0)]

    assert [run.fault for run in runs] == list(CHEAP)
    assert [(run.fault, run.wrong) for run in runs if run.wrong] == []
    assert sum(run.lost + run.oversold for run in runs) == 0
    assert all(run.operations > 500 for run in runs)


def test_a_loss_fails_the_row_and_a_control_must_have_one() -> None:
    async def strike(scene: Scene) -> str:
        raise Missed("not run here")

    plain, control = Fault(name="plain", strike=strike), Fault(name="control", strike=strike, control=True)
    clean, lossy = Run(fault="", seed=0, operations=10), Run(fault="", seed=0, operations=10, lost=2)
    assert row_of(plain, [clean, clean]).wrong == ()
    assert row_of(plain, [clean, lossy]).wrong == ("2 lost, 0 oversold",)
    assert row_of(control, [clean, lossy]).wrong == ()
    assert row_of(control, [clean]).wrong == ("the control lost nothing, so that losses may go unseen",)
    assert "| plain | 2 | 20 | 2 | 0 |" in table([row_of(plain, [clean, lossy])])


def test_an_unknown_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no-such-fault"]) == 2
    assert "kill-worker" in capsys.readouterr().out


def test_names_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
