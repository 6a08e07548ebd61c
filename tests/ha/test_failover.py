"""A primary that dies or is cut off under a crowd over HTTP: what was promised is kept, and nothing is sold twice.

The runs wait most of the time, so they go two by two; each test judges one of them.
"""

import asyncio
import json
from argparse import Namespace
from pathlib import Path
from typing import TypeAlias

import pytest

from loadtest.ha.__main__ import COLUMNS, GATES, measure
from loadtest.ha.runs import ALL, KILL, LAG_AND_KILL, NOBODY, ONE, PART_WITH_REPLICA, Fault, Mode, Outcomes, run

AT_ONCE = 2
RUNS = ((KILL, ALL), (PART_WITH_REPLICA, ALL), (PART_WITH_REPLICA, ONE), (LAG_AND_KILL, NOBODY))
Runs: TypeAlias = dict[tuple[Fault, Mode], Outcomes]

pytestmark = pytest.mark.timeout(300)  # of which the first test waits for all runs


@pytest.fixture(scope="module")
def runs(postgres_dsn: str) -> Runs:
    """All runs."""
    return asyncio.run(_run_all(postgres_dsn))


async def _run_all(postgres_dsn: str) -> Runs:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(fault: Fault, mode: Mode) -> Outcomes:
        async with room:
            return await run(fault, mode, postgres_dsn, hasty=True)

    outcomes = await asyncio.gather(*(one(fault, mode) for fault, mode in RUNS))
    return dict(zip(RUNS, outcomes, strict=True))


def test_a_killed_primary_loses_no_promise(runs: Runs) -> None:
    outcomes = runs[KILL, ALL]
    assert (outcomes.lost, outcomes.oversold, outcomes.others) == (0, 0, ())
    assert outcomes.confirmed > 0


def test_a_partition_with_a_replica_at_the_old_primary_loses_no_promise(runs: Runs) -> None:
    outcomes = runs[PART_WITH_REPLICA, ALL]
    assert (outcomes.apart, outcomes.lost, outcomes.oversold, outcomes.others) == (0, 0, 0, ())
    assert outcomes.refused > 0


def test_it_does_where_one_of_two_replicas_is_enough(runs: Runs) -> None:
    outcomes = runs[PART_WITH_REPLICA, ONE]
    assert outcomes.apart > 0
    assert outcomes.lost > 0, "the method must see losses"
    assert outcomes.oversold == 0


def test_without_acknowledgement_a_slow_link_loses_promises(runs: Runs) -> None:
    outcomes = runs[LAG_AND_KILL, NOBODY]
    assert outcomes.lost > 0, "the method must see losses"
    assert outcomes.oversold == 0


async def test_a_run_writes_its_table_with_where_it_comes_from(tmp_path: Path) -> None:
    options = Namespace(mode=None, runs=1, network=GATES, json=tmp_path / "failover.json")
    assert await measure([], options) == 0
    written = json.loads(options.json.read_text())
    assert written["tables"][0]["columns"] == list(COLUMNS)
    assert written["environment"]["date"]
