"""In which order tests begin, and which worker takes them: as hooks of pytest, which `conftest.py` imports.

A file goes to one worker, since its tests may share a service. What takes long begins first: begun last, it would keep
one worker busy while the others have nothing. Seeds of the simulation are many small parts that want nothing but a
processor, so each of its tests goes where there is room, between files whose tests wait for processes.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

SIMULATION = "tests/simulation/"
# Files that take more than some fifteen seconds, the longest first.
LONGEST = (
    "invariants/test_faults.py",
    "acceptance/test_up.py",
    "acceptance/test_program_removed_live.py",
    "acceptance/test_operating.py",
    "acceptance/test_upgrade.py",
    "acceptance/test_walk_throughs.py",
    "integration/test_ten_years.py",
    "integration/test_embedded.py",
    "invariants/test_faults_planted.py",
    "integration/test_bench_experiments.py",
    "acceptance/test_schema.py",
    "integration/test_bench_against_services.py",
    "integration/test_scale_out.py",
    "ha/test_failover.py",
    "ha/test_namespaces.py",
    "integration/test_killed_repairs.py",
    "acceptance/test_up_killed.py",
    "acceptance/test_cli_recovery.py",
    "acceptance/test_two_transports.py",
    "acceptance/test_cli.py",
    "acceptance/test_reload_refused.py",
    "acceptance/test_cli_openings.py",
    "integration/test_rebuild.py",
    "browser/test_pages.py",
    "invariants/test_mutants.py",
    "integration/test_bench.py",
    "acceptance/test_reload_settings.py",
    "integration/test_embedded_refusals.py",
    "invariants/test_waiting_crowd.py",
    "acceptance/test_reload.py",
    "cluster/test_service.py",
    "invariants/test_batches.py",
    "integration/test_workers.py",
    "integration/test_damage.py",
)
LAST = "tests/unit/"  # small files, which even out what is left to do
FILES_A_PART = 2  # of the longest files between two tests of the simulation


class FilesAndParts(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """A file is one piece of work, a test of the simulation as well."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(SIMULATION) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAndParts | None:
    """Used with `--dist loadfile`."""
    return FilesAndParts(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files, then the others, with parts of the simulation between them; then the unit tests."""
    files = dict.fromkeys(_file(item) for item in items)
    longest = [f"tests/{name}" for name in LONGEST]
    parts = [item.nodeid for item in items if item.nodeid.startswith(SIMULATION)]
    others = [file for file in files if not file.startswith((SIMULATION, LAST)) and file not in longest]
    early, late = parts[: len(longest) // FILES_A_PART], parts[len(longest) // FILES_A_PART :]
    turns: dict[str, float] = {file: turn for turn, file in enumerate(longest + others)}
    turns |= {part: number * FILES_A_PART for number, part in enumerate(early)}
    turns |= {part: len(longest) + number * len(others) / len(late) for number, part in enumerate(late)}

    def turn(item: pytest.Item) -> float:
        return turns.get(item.nodeid, turns.get(_file(item), len(turns)))

    items.sort(key=turn)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
