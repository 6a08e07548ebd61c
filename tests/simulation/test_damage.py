"""Values of the ledger that are damaged behind its back, and records that are an older copy, break no promise.

They come beside every other fault, and are mended as an operator does.

`RESERVASI_SIMULATION_DAMAGED_SEEDS` plays more (or fewer) seeds than 600, from `RESERVASI_SIMULATION_FIRST` on. Each
bug that is planted here or in `test_simulation.py` comes up within the first 500.
"""

import os
from collections import Counter

import pytest

from loadtest.checker.rules import Rule
from tests.simulation import planted
from tests.simulation.run import simulate
from tests.simulation.server import Server, simulated_library
from tests.simulation.test_simulation import CHUNK, FIRST, PLANTED_SEEDS_MAX, explained

SEEDS = int(os.environ.get("RESERVASI_SIMULATION_DAMAGED_SEEDS", "600"))
RARE_SEEDS_MAX = 500  # in which a rare fault comes about; mostly in the first hundred


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_seeds_with_damage_keep_every_promise(first: int, server: Server) -> None:
    library, counts, broken = simulated_library(), Counter[str](), []
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS)):
        result = simulate(seed, server, library, damage=True, hashed=False)
        counts.update(result.counts)
        if result.violations:
            broken.append(result)
    assert not broken, f"{len(broken)} seeds with damage break a promise (add --damage):\n{explained(broken)}"
    assert counts["damaged"] > counts["front killed"]
    assert not [what for what in ("rebuilt", "older dump") if not counts[what]], counts


def test_a_bug_in_the_face_of_damage_is_found(server: Server) -> None:
    """A person whose entry is damaged is taken for one without a reservation."""
    library = simulated_library(planted.TAKES_DAMAGE_FOR_NOTHING)
    assert any(
        violation.rule is Rule.TWO_LIVE
        for seed in range(RARE_SEEDS_MAX)
        for violation in simulate(seed, server, library, damage=True).violations
    )


def test_a_bug_in_what_is_recorded_anew_is_found(server: Server) -> None:
    """Holds are left out where an older dump was put back."""
    library = simulated_library()
    with planted.restored_without_holds():
        assert any(
            violation.rule is Rule.HOLD_DIFFERS
            for seed in range(PLANTED_SEEDS_MAX)
            for violation in simulate(seed, server, library, damage=True).violations
        )
