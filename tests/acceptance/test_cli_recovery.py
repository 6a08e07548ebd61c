"""`reservasi reconcile` and `reservasi rebuild`: output, exit codes, and two of them at once."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from reservasi.bootstrap.commands import open_operations
from reservasi.cli.invocation import run
from reservasi.cli.output import EXIT_DRIFT
from reservasi.ledger import keys
from reservasi.ledger.wire import stored_forms
from reservasi.settings import load
from tests.acceptance.test_cli import Deployment, deployment

__all__ = ["deployment"]  # a fixture
pytestmark = pytest.mark.timeout(240)  # some start two processes at once
TIMEOUT_S = 100
ROUNDS = 3


@pytest.fixture
def sold(deployment: Deployment) -> Deployment:
    """A hold and a confirmed reservation, both recorded; no worker runs."""
    quota = deployment.imported()
    deployment.held(quota)
    deployment.confirmed(quota)
    deployment.recorded()
    return deployment


def damage(of: Deployment) -> None:
    """Forget one reservation behind the ledger's back."""

    async def work() -> None:
        async with open_operations(load()) as operations:
            key = keys.reservations(of.program)
            fields = await operations.client.hkeys(key)
            assert await operations.client.hdel(key, fields[0]) == 1

    run(work())


def drift(of: Deployment, *words: str, code: int) -> dict[str, Any]:
    """What `reconcile` found of the program."""
    done = of.call("reconcile", *words, "--json")
    assert done.exit_code == code, done.output
    (report,) = json.loads(done.stdout)
    assert report["program"] == of.program
    assert isinstance(report, dict)
    return report


def at_once(*words: str) -> list[Any]:
    """What two processes say that run the same command at the same time."""
    command = [sys.executable, "-m", "reservasi.cli", *words, "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        outputs = [process.communicate(timeout=TIMEOUT_S) for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert [process.returncode for process in both] == [0, 0], outputs
    return [json.loads(out)[0] for out, _ in outputs]


def test_what_agrees_exits_with_0(sold: Deployment) -> None:
    report = drift(sold, code=0)
    assert (report["drift"], report["repaired"]) == ([], 0)
    assert report["compared"] == 2
    result = sold.call("reconcile")
    assert result.exit_code == 0
    assert {"none", "settled", "unread"} <= set(result.stdout.split())


def test_drift_exits_with_3_until_it_is_repaired(sold: Deployment) -> None:
    damage(sold)
    report = drift(sold, code=EXIT_DRIFT)
    assert {each["kind"] for each in report["drift"]} == {"reservations"}
    result = sold.call("reconcile")
    assert result.exit_code == EXIT_DRIFT
    assert "1 reservations" in " ".join(result.stdout.split())
    repaired = drift(sold, "--repair", code=0)
    assert (repaired["drift"], repaired["repaired"], repaired["lost"]) == ([], 1, 0)
    assert drift(sold, code=0)["drift"] == []


def test_a_rebuild_tells_how_far_it_is_and_what_it_did(sold: Deployment) -> None:
    sold.lose_ledger()
    assert drift(sold, code=EXIT_DRIFT)["drift"][0]["kind"] == "ledger"
    done = sold.call("rebuild")
    assert done.exit_code == 0, done.output
    assert f"rebuilding {sold.program}" in done.stderr
    assert f"rebuilding {sold.program}" not in done.stdout
    assert {"behind", "yes"} & set(done.stdout.split())
    assert drift(sold, code=0)["compared"] == 2


def test_a_rebuild_reports_as_json_and_does_nothing_twice(sold: Deployment) -> None:
    sold.lose_ledger()
    (report,) = sold.ok("rebuild")
    assert (report["found"], report["rebuilt"], report["lost"]) == ("behind", True, 0)
    assert (report["reservations"], report["ended"]) == (2, 0)
    assert report["seconds"] > 0
    (again,) = sold.ok("rebuild", "--program", sold.program)
    assert (again["found"], again["rebuilt"]) == ("owned", False)
    (forced,) = sold.ok("rebuild", "--force")
    assert (forced["rebuilt"], forced["epoch"]) == (True, report["epoch"] + 1)


def test_two_rebuilds_at_once_do_it_once(sold: Deployment) -> None:
    sold.lose_ledger()
    reports = at_once("rebuild")
    assert sorted(report["rebuilt"] for report in reports) == [False, True]
    assert drift(sold, code=0)["compared"] == 2


@pytest.mark.parametrize("breaking", [damage, Deployment.lose_ledger])
def test_two_repairs_at_once_do_it_once(breaking: Callable[[Deployment], None], sold: Deployment) -> None:
    """Who comes second may see the first one's work half done, and is judged by what is there in the end."""
    epoch = drift(sold, code=0)["epoch"]
    for number in range(1, ROUNDS + 1):
        breaking(sold)
        both = at_once("reconcile", "--repair")
        assert sorted(report["repaired"] for report in both) == [0, 1]
        assert all(report["drift"] == [] for report in both)
        assert drift(sold, code=0)["epoch"] == epoch + number, "it was rebuilt once"


def test_another_history_is_dropped_only_when_told_so(sold: Deployment) -> None:
    sold.change_meta(chain="0" * 40, run_id=f"{stored_forms.FORM}:{'0' * 40}")
    refused = sold.call("rebuild")
    assert refused.exit_code == 1
    assert "--discard" in str(refused.exception)
    (report,) = sold.ok("rebuild", "--discard")
    assert (report["found"], report["rebuilt"]) == ("diverged", True)
    assert drift(sold, code=0)["compared"] == 2


def test_an_altered_chain_is_not_taken_for_a_ledger_in_step(sold: Deployment) -> None:
    sold.change_meta(chain="0" * 40)
    assert "does not continue" in sold.finding(f"program {sold.program}")
    assert [each["ledger"] for each in drift(sold, code=EXIT_DRIFT)["drift"]] == ["diverged"]
    for words in (["rebuild"], ["rebuild", "--force"], ["reconcile", "--repair"]):
        refused = sold.call(*words)
        assert refused.exit_code == 1
        assert "does not lead from" in str(refused.exception)
        assert "--discard" in str(refused.exception)
    (report,) = sold.ok("rebuild", "--discard")
    assert (report["found"], report["rebuilt"], report["lost"]) == ("diverged", True, 0)
    assert drift(sold, code=0)["compared"] == 2


@pytest.mark.parametrize("command", ["rebuild", "reconcile"])
def test_a_program_that_is_not_there_is_an_error(command: str, sold: Deployment) -> None:
    done = sold.call(command, "--program", "nowhere")
    assert done.exit_code == 1
    assert str(done.exception).startswith("there is no program 'nowhere': import one first")
