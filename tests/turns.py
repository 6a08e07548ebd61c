"""In which order tests begin, and which worker takes them: as hooks of pytest, which `conftest.py` imports.

A file goes to one worker, since its tests may share a service. What takes long begins first: begun last, it would keep
one worker busy while the others have nothing. The other files follow, some of each folder in turn: those of one folder
mostly wait for processes, those of another want nothing but a processor. Of the simulation each test goes where there
is room.
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
    "acceptance/test_lagging_front.py",
    "integration/test_restoration.py",
    "cluster/test_cluster.py",
    "integration/test_admission.py",
    "integration/test_altered_ledgers.py",
    "acceptance/test_tickets.py",
    "ha/test_acknowledging.py",
    "invariants/test_crowd.py",
    "invariants/test_kills.py",
    "unit/test_waiting_room_fairness.py",
)
FULL = 5  # of the longest files, the first ones: they keep the processors busy themselves


class FilesAndParts(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """A file is one piece of work, a test of the simulation as well."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(SIMULATION) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAndParts | None:
    """Used with `--dist loadfile`."""
    return FilesAndParts(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files, then all others; parts of the simulation are spread over both."""
    pieces = list(dict.fromkeys(map(_piece, items)))
    longest = [f"tests/{name}" for name in LONGEST]
    parts = [piece for piece in pieces if piece.startswith(SIMULATION)]
    early = parts[::2]
    others = [piece for piece in pieces if piece not in longest and piece not in early]
    turns: dict[str, float] = {file: turn for turn, file in enumerate(longest)}
    turns |= {part: FULL + share * (len(longest) - FULL) for part, share in zip(early, _shares(early), strict=True)}
    for folder in {_folder(piece) for piece in others}:
        inside = [piece for piece in others if _folder(piece) == folder]
        turns |= {piece: len(longest) + share for piece, share in zip(inside, _shares(inside), strict=True)}
    items.sort(key=lambda item: turns[_piece(item)])


def _piece(item: pytest.Item) -> str:
    """The file, or the test of the simulation."""
    return item.nodeid if item.nodeid.startswith(SIMULATION) else item.nodeid.partition("::")[0]


def _folder(piece: str) -> str:
    return piece.split("/")[1]


def _shares(pieces: list[str]) -> list[float]:
    """Numbers between 0 and 1, evenly spread."""
    return [(number + 0.5) / len(pieces) for number in range(len(pieces))]
