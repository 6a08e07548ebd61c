"""No seed breaks a promise; a seed is a run; and bugs that are planted are found.

`RESERVASI_SIMULATION_SEEDS` plays more (or fewer) seeds than 500, from `RESERVASI_SIMULATION_FIRST` on. `test_damage.py` has
the same faults in more seeds, with damage beside them.
"""

import os
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from loadtest.checker.rules import Rule
from reservasi.ledger.lua.library import Library
from tests.simulation import planted
from tests.simulation.run import Result, simulate
from tests.simulation.server import Server, edited, simulated_library

ROOT = Path(__file__).parents[2]
SEEDS = int(os.environ.get("RESERVASI_SIMULATION_SEEDS", "500"))
FIRST = int(os.environ.get("RESERVASI_SIMULATION_FIRST", "0"))
CHUNK = 100
DUMPED = 42  # with damage its records are put back to an older dump, and its ledger is rebuilt
PLANTED_SEEDS_MAX = 60
SHOWN_MAX = 5
HAPPENS = (
    *("claim 201", "claim 409", "claim 503", "claim 0", "confirm 200", "confirm 202", "confirm 410"),
    *("cancel 200", "cancel 202"),
    *("held", "confirmed", "released", "expired", "cancelled", "retired"),
    *("closing moved", "opening retired"),
    *("front killed", "worker killed", "clock moved", "session ended", "ledger restarted"),
    *("request lost", "reply lost", "late", "twice", "admitted"),
)


class Bug(Protocol):
    def __call__(self) -> AbstractContextManager[Any]: ...


def explained(results: list[Result]) -> str:
    """What broke, and how to see it again."""
    return "\n".join(
        f"{result}\n  repeat it: python -m tests.simulation {result.seed}" for result in results[:SHOWN_MAX]
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_seeds_keep_every_promise(first: int, server: Server) -> None:
    library, counts, broken = simulated_library(), Counter[str](), []
    seeds = range(first, min(first + CHUNK, FIRST + SEEDS))
    for seed in seeds:
        result = simulate(seed, server, library, hashed=False)
        counts.update(result.counts)
        if result.violations:
            broken.append(result)
    assert not broken, f"{len(broken)} of {len(seeds)} seeds break a promise:\n{explained(broken)}"
    if len(seeds) == CHUNK:  # that nothing is wrong says little where nothing happens
        assert not [what for what in HAPPENS if not counts[what]], counts


def test_a_seed_is_a_run(server: Server) -> None:
    library = simulated_library()
    once, other, again = (simulate(seed, server, library) for seed in (12, 13, 12))
    assert once.digest == again.digest
    assert once.counts == again.counts
    assert once.digest != other.digest


@pytest.mark.parametrize(("seed", "flags"), [(7, []), (DUMPED, ["--damage"])])
def test_a_seed_is_the_same_run_in_another_process(seed: int, flags: list[str], server: Server) -> None:
    here = simulate(seed, server, simulated_library(), keep_trace=True, damage=bool(flags))
    assert not flags or here.counts["older dump"]
    command = [sys.executable, "-m", "tests.simulation", str(seed), *flags]
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    there = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.splitlines() == [*here.lines, str(here)]


@pytest.mark.parametrize(
    ("bug", "rule"),
    [
        (planted.new_ids_when_repeated, Rule.CLAIM_FORGOTTEN),
        (planted.answers_swapped, Rule.ANSWER_DIFFERS),
        (planted.published_before_the_commit, Rule.CONFIRMATION_FORGOTTEN),
        (planted.memory_forgets_ids, Rule.ANSWER_CHANGED),
    ],
)
def test_a_planted_bug_is_found(bug: Bug, rule: Rule, server: Server) -> None:
    with bug():
        assert is_found(rule, server, simulated_library())


def test_a_planted_oversell_is_found(server: Server) -> None:
    assert is_found(Rule.OVERSOLD, server, simulated_library(planted.OVERSELL))


def is_found(rule: Rule, server: Server, library: Library) -> bool:
    return any(
        violation.rule is rule
        for seed in range(PLANTED_SEEDS_MAX)
        for violation in simulate(seed, server, library).violations
    )


def test_an_edit_fits_exactly_once() -> None:
    with pytest.raises(AssertionError, match="found 0 times"):
        edited("one", "two", "three")
    with pytest.raises(AssertionError, match="found 2 times"):
        edited("one one", "one", "three")
