"""Entries of a later version, at any moment and with every other fault, do not affect those of this version."""

from collections import Counter

import pytest

from tests.simulation.run import simulate
from tests.simulation.server import Server, simulated_library
from tests.simulation.test_simulation import explained

SEEDS = 60


@pytest.mark.timeout(300)
def test_events_of_a_later_version_become_dead_letters_and_no_promise_is_broken(server: Server) -> None:
    library, counts, broken = simulated_library(), Counter[str](), []
    for seed in range(SEEDS):
        result = simulate(seed, server, library, later_entries=True)
        counts.update(result.counts)
        if result.violations:
            broken.append(result)
    assert not broken, explained(broken)
    assert counts["later events"] > SEEDS
    assert counts["confirmed"] > SEEDS / 2
