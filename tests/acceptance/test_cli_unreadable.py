"""Commands over all programs, one of which has a journal that this version cannot read."""

import json
from pathlib import Path
from typing import Any

import pytest

from reservasi.bootstrap.commands import open_operations
from reservasi.cli.demo import Demo
from reservasi.cli.invocation import run
from reservasi.cli.output import EXIT_DRIFT
from reservasi.settings import load
from tests.acceptance.test_cli import SURABAYA, WEEK, Deployment, deployment
from tests.ledgers import open_ledger

__all__ = ["deployment"]  # a fixture
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def other(deployment: Deployment, data_dir: Path) -> Deployment:
    """A second program beside the first; both are recorded."""
    deployment.imported()
    another = f"a{deployment.program}"
    file = data_dir / "another.toml"
    file.write_text(SURABAYA.read_text().replace('id = "surabaya"', f'id = "{another}"'))
    of = Deployment(another, file)
    of.ok("program", "import", str(file), *WEEK, "--open-now")
    deployment.recorded()
    of.recorded()
    return of


def append(of: Deployment, *events: Any, payload: bytes | None = None) -> None:
    """Write an entry as another version would."""

    async def work() -> None:
        async with (
            open_operations(load()) as operations,
            open_ledger(operations.settings.redis_url or "", of.program) as ledger,
        ):
            await ledger.append(*events, payload=payload)

    run(work())


def reports(of: Deployment, *words: str, code: int) -> dict[str, dict[str, Any]]:
    """What a command says, by program."""
    done = of.call(*words, "--json")
    assert done.exit_code == code, done.output
    return {each["program"]: each for each in json.loads(done.stdout)}


def test_an_event_of_a_later_version_is_a_dead_letter_for_every_command(
    deployment: Deployment, other: Deployment
) -> None:
    append(deployment, ["z", "future-kind", 1])
    deployment.recorded()
    finding = deployment.finding(f"program {deployment.program}")
    assert "0 changes not recorded yet, 1 dead letter" in finding
    compared = reports(deployment, "reconcile", code=EXIT_DRIFT)
    assert [each["kind"] for each in compared[deployment.program]["drift"]] == ["dead-letters"]
    assert compared[other.program]["drift"] == []
    refused = reports(deployment, "rebuild", "--force", code=1)
    assert "dead-letters retry" in refused[deployment.program]["error"], "what it says is in the ledger alone"
    assert refused[other.program]["rebuilt"]
    rebuilt = reports(deployment, "rebuild", "--force", "--discard", code=0)
    assert {name: row["rebuilt"] for name, row in rebuilt.items()} == {deployment.program: True, other.program: True}
    assert deployment.call("quota", "show", deployment.program, "--json").exit_code == 0


def test_an_entry_that_cannot_be_read_is_named_and_the_other_program_is_not(
    deployment: Deployment, other: Deployment
) -> None:
    append(deployment, ["z"], payload=b"\xc1")
    done = deployment.call("doctor", "--json")
    findings = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    assert (done.exit_code, findings[f"program {other.program}"]["ok"]) == (1, True)
    assert "cannot be read" in findings[f"program {deployment.program}"]["said"]

    compared = reports(deployment, "reconcile", code=EXIT_DRIFT)
    assert compared[deployment.program]["kinds"] == {"ledger": 1}
    assert compared[other.program]["drift"] == []

    refused = reports(deployment, "rebuild", code=1)
    assert "cannot be read" in refused[deployment.program]["error"]
    assert "error" not in refused[other.program]
    in_words = deployment.call("rebuild")
    assert deployment.program in in_words.stderr
    assert other.program in in_words.stdout

    done = deployment.call("opening", "list", "--all", "--json")
    assert done.exit_code == 0, "it is sold from until a worker looks"
    rebuilt = reports(deployment, "rebuild", "--discard", code=0)
    assert rebuilt[deployment.program]["rebuilt"]
    assert rebuilt[deployment.program]["lost"] == 1
    assert reports(deployment, "reconcile", code=0)[deployment.program]["drift"] == []


def test_a_demo_starts_with_the_programs_that_can_be_read(deployment: Deployment, other: Deployment) -> None:
    append(deployment, ["z"], payload=b"\xc1")
    deployment.lose_ledger()
    append(other, ["z", "future-kind", 1])
    listed = deployment.call("opening", "list", "--all", "--json")
    failed = [row for row in json.loads(listed.stdout) if "error" in row]
    assert (listed.exit_code, [row["program"] for row in failed]) == (1, [deployment.program])

    async def work() -> list[str]:
        async with open_operations(load()) as operations:
            shown = Demo(programs=tuple(await operations.records.programs()))
            return await shown.load(operations, quiet=True)

    assert run(work()) == [deployment.program]
