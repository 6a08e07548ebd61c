"""The checker finds every planted bug of the ledger's library, and none in the library itself."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from loadtest.checker.mutants import MUTANTS, Edit, EditFailed, Mutant, mutated
from loadtest.checker.rules import Rule
from loadtest.stage.stores import own_stores
from reservasi.ledger.lua.library import DIRECTORY, read_library
from tests.trials.stores import Stores
from tests.trials.verdicts import Verdict, judge_mutant, show

pytestmark = pytest.mark.timeout(600)  # all are played in whichever test asks first
UNCHANGED_SEEDS = (0, 1, 2)
AT_ONCE = 8  # all at once, one loop with dozens of them may find a connection's time over


async def _judge_all(names: Collection[str]) -> tuple[list[Verdict], list[Verdict]]:
    async with own_stores() as (valkey, postgres), Stores.open(valkey.url, postgres.dsn) as stores:
        room = asyncio.Semaphore(AT_ONCE)

        async def judge(mutant: Mutant | None, seed: int = 0) -> Verdict:
            async with room:
                return await judge_mutant(stores, mutant, seed)

        unchanged = (judge(None, seed) for seed in UNCHANGED_SEEDS)
        results = await asyncio.gather(*unchanged, *(judge(mutant) for mutant in MUTANTS if mutant.name in names))
    return results[: len(UNCHANGED_SEEDS)], results[len(UNCHANGED_SEEDS) :]


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest) -> tuple[list[Verdict], list[Verdict]]:
    """Of the unchanged library and of every mutant whose test was selected; with `-s` the table is shown."""
    selected = (
        item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module
    )
    names = {str(item.callspec.params.get("name")) for item in selected if hasattr(item, "callspec")}
    unchanged, mutants = asyncio.run(_judge_all(names))
    show([*unchanged, *mutants])
    return unchanged, mutants


def test_the_library_as_it_is_has_no_violation(verdicts: tuple[list[Verdict], list[Verdict]]) -> None:
    unchanged, _ = verdicts
    assert [verdict.violations for verdict in unchanged] == [()] * len(UNCHANGED_SEEDS)


@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_a_bug_of_the_library_is_found(name: str, verdicts: tuple[list[Verdict], list[Verdict]]) -> None:
    (verdict,) = (each for each in verdicts[1] if each.name == name)
    assert verdict.expected.intersection(verdict.rules), f"found only {verdict.rules}"


def test_each_mutant_is_a_library_of_its_own() -> None:
    names = [mutated(mutant).name for mutant in MUTANTS]
    assert len({*names, read_library().name}) == len(MUTANTS) + 1


@pytest.mark.parametrize("old", ["no such text", "local function"])
def test_an_edit_that_does_not_match_once_is_refused(old: str) -> None:
    mutant = Mutant("stale", frozenset({Rule.OVERSOLD}), (Edit("claim", old, "x"),))
    with pytest.raises(EditFailed, match=f"stale: claim.lua has .* times '{old}'"):
        mutated(mutant)


def test_a_mutant_leaves_the_library_alone() -> None:
    def sources(of: Sequence[Path]) -> dict[str, str]:
        return {path.name: path.read_text() for path in of}

    before = sources([*DIRECTORY.glob("*.lua")])
    for mutant in MUTANTS:
        mutated(mutant)
    assert sources([*DIRECTORY.glob("*.lua")]) == before
