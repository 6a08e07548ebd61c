"""A primary that dies or is cut off under load: what was promised in a safe mode is kept, and nothing is sold twice."""

from pathlib import Path

from loadtest.ha.runs import ALL, ASYNC, ONE, Fault, Mode, Outcomes, kill, lag_and_kill, partition, run


async def _run(fault: Fault, mode: Mode, database: str, data_dir: Path) -> Outcomes:
    seen = await run(fault, mode, database, data_dir)
    assert seen.oversold == 0, seen.others
    assert seen.promised > 0
    return seen


async def test_a_killed_primary_loses_no_promise(database: str, data_dir: Path) -> None:
    assert (await _run(kill, ONE, database, data_dir)).lost == 0


async def test_a_primary_killed_before_its_replicas_heard_of_it_loses_no_promise(database: str, data_dir: Path) -> None:
    assert (await _run(lag_and_kill, ONE, database, data_dir)).lost == 0


async def test_without_acknowledgement_the_same_loses_promises(database: str, data_dir: Path) -> None:
    assert (await _run(lag_and_kill, ASYNC, database, data_dir)).lost > 0, "the method must see losses"


async def test_a_primary_that_was_cut_off_promises_nothing(database: str, data_dir: Path) -> None:
    seen = await _run(partition, ALL, database, data_dir)
    assert (seen.promised_apart, seen.lost) == (0, 0)
    assert seen.refused > 0
