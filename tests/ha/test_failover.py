"""A primary that dies or is cut off under a crowd over HTTP: what was promised is kept, and nothing is sold twice."""

from pathlib import Path

from loadtest.ha.faults import KILL, LAG_AND_KILL, PART_WITH_REPLICA, Fault
from loadtest.ha.modes import ALL, NOBODY, ONE, Mode
from loadtest.ha.runs import Outcomes, run


async def _run(fault: Fault, mode: Mode, database: str, data_dir: Path) -> Outcomes:
    seen = await run(fault, mode, database, data_dir)
    assert seen.oversold == 0, seen
    assert seen.promised > 0
    return seen


async def test_a_killed_primary_loses_no_promise(database: str, data_dir: Path) -> None:
    seen = await _run(KILL, ALL, database, data_dir)
    assert (seen.lost, seen.others) == (0, ())
    assert seen.confirmed > 0


async def test_a_partition_with_a_replica_at_the_old_primary_loses_no_promise(database: str, data_dir: Path) -> None:
    seen = await _run(PART_WITH_REPLICA, ALL, database, data_dir)
    assert (seen.apart, seen.lost, seen.others) == (0, 0, ())
    assert seen.refused > 0


async def test_it_does_where_one_of_two_replicas_is_enough(database: str, data_dir: Path) -> None:
    seen = await _run(PART_WITH_REPLICA, ONE, database, data_dir)
    assert seen.apart > 0, "the method must see promises that nobody could keep"
    assert seen.lost >= seen.apart // 2


async def test_without_acknowledgement_a_slow_link_loses_promises(database: str, data_dir: Path) -> None:
    assert (await _run(LAG_AND_KILL, NOBODY, database, data_dir)).lost > 0, "the method must see losses"
