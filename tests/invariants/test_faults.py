"""The cheap faults on one service, and a lost ledger: nothing promised is lost, and nothing is sold twice."""

import msgspec
import pytest

from loadtest.checker.evidence import LedgerEvidence, LedgerRecord
from loadtest.faults.__main__ import FAULTS, main, table, wrong_of
from loadtest.faults.fault import Fault, Missed, Scene
from loadtest.faults.rebuilding import differences, rebuild_of
from loadtest.faults.running import Run, run_fault, run_together
from loadtest.stage.shims import can_build
from reservasi.model import Position, State

pytestmark = pytest.mark.usefixtures("on_disk")
# Together they take about a minute; `make faults` runs all.
CHEAP = ("kill-worker", "kill-valkey", "replies-lost-front", "power-loss", "memory-full", "terminate-front")


def by_name(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


@pytest.mark.skipif(not can_build(), reason="no compiler for what the servers are started with")
@pytest.mark.timeout(600)
async def test_nothing_is_lost_or_sold_twice() -> None:
    faults = [by_name(name) for name in CHEAP]
    runs = [run async for run in run_together(faults, seed=0)]

    assert [run.fault for run in runs] == list(CHEAP)
    assert [(run.fault, run.wrong) for run in runs if run.wrong] == []
    assert sum(run.lost + run.oversold for run in runs) == 0
    assert all(run.operations > 500 for run in runs)


@pytest.mark.timeout(600)
async def test_an_emptied_ledger_is_rebuilt_by_itself_and_loses_no_confirmation_and_no_cancellation() -> None:
    run = await run_fault(by_name("flushall"), seed=0)
    assert run.wrong == ()
    assert (run.lost, run.oversold) == (0, 0)
    assert "rebuilt by itself" in run.note


@pytest.mark.timeout(600)
async def test_one_command_restores_every_reservation_when_ledger_and_files_are_gone() -> None:
    run = await run_fault(rebuild_of(2000), seed=0)
    assert run.wrong == ()
    assert (run.lost, run.unrecorded, run.oversold) == (0, 0, 0)
    assert run.note.startswith("2,000 reservations, all as before")


def test_what_a_rebuild_changed_is_seen() -> None:
    record = LedgerRecord(state=State.HELD, quota="q", deadline_ms=5, held_seq=1, seq=1, persons=("p",))
    before = LedgerEvidence(
        position=Position(epoch=1, seq=2, chain="c"),
        quotas={},
        reservations={"a": record, "b": record},
        persons={"p": "a"},
        timers={"q": {"a": 5}},
        openings={},
    )
    after = msgspec.structs.replace(before, position=Position(epoch=2, seq=2, chain="c"))
    assert list(differences(before, after)) == []
    assert list(differences(before, before))  # it must be owned anew
    other = msgspec.structs.replace(record, deadline_ms=6)
    wrong = (
        msgspec.structs.replace(after, reservations={"a": record}),
        msgspec.structs.replace(after, reservations={"a": record, "b": other}),
        msgspec.structs.replace(after, persons={}),
    )
    assert [len(list(differences(before, each))) for each in wrong] == [1, 1, 1]


def test_a_loss_fails_the_row_and_a_control_must_have_one() -> None:
    async def strike(scene: Scene) -> str:
        raise Missed("not run here")

    plain, control = Fault(name="plain", strike=strike), Fault(name="control", strike=strike, control=True)
    clean, lossy = Run(fault="", seed=0, operations=10), Run(fault="", seed=0, operations=10, lost=2)
    assert wrong_of(plain, [clean, clean]) == []
    assert wrong_of(plain, [clean, lossy]) == ["2 lost, 0 oversold"]
    assert wrong_of(control, [clean, lossy]) == []
    assert wrong_of(control, [clean]) == ["the control lost nothing, so that losses may go unseen"]
    result = table([(plain, [clean, lossy]), (control, [lossy])])
    assert "| plain | 2 | 20 | 2 | 0 |" in result.markdown()
    assert result.notes == ("1 faults, 2 runs, 20 operations: 2 lost, 0 oversold",)


def test_an_unknown_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--only", "no-such-fault"])
    assert refused.value.code == 2
    assert "kill-worker" in capsys.readouterr().err


def test_names_are_unique_and_what_shares_a_service_asks_for_nothing_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert not [name for name in CHEAP if by_name(name).settings or by_name(name).through_proxy]
