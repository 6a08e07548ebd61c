"""Every operation that is compared gets the answer that it is about, from two real services. Never timings."""

import pytest

from loadtest.bench.against import operations
from loadtest.bench.against.checkout import HERE, checked_out
from loadtest.bench.against.comparison import Comparison, idle_connections
from loadtest.bench.against.stand import started
from loadtest.stage.cores import Cores
from loadtest.stage.environment import ROOT

# A ledger that stands still is one whose views are out of step after a moment: on a busy machine, before enough is asked.
MEASURED = [each for each in operations.ALL if each.name != "503 overloaded"]


@pytest.mark.timeout(400)
def test_every_operation_is_answered_as_it_should_be() -> None:
    comparison = Comparison("HEAD")
    with started((HERE, HERE), Cores.split()) as stands:
        comparison.compare(stands, MEASURED, rounds=1, scale=0.03, say=lambda _: None)
        memory = idle_connections(*stands, 20)
    assert [each.name for each in comparison.figures] == [operation.name for operation in MEASURED]
    assert all(each.value > 0 for each in comparison.figures)
    assert memory.value > 0


def test_a_revision_is_checked_out_and_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.bench.against.checkout._install", lambda build: None)
    with checked_out("HEAD", lambda _: None) as build:
        assert (build.root / "pyproject.toml").read_text() == (ROOT / "pyproject.toml").read_text()
        assert (build.root / "reservasi").is_dir()
    assert not build.root.exists()
