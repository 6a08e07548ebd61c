"""Would the checker notice? The ledger's library with one bug at a time, and which rule finds it.

The bugs are in `mutants.toml`. `python -m loadtest.checker.mutants [NAME ...]` prints the table; exit code 1 when a
mutant escaped or the unchanged library did not come out clean.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.checker.rules import Rule, Violation
from loadtest.checker.trials import Stores
from loadtest.stage.stores import own_stores
from reservasi.ledger.lua.library import DIRECTORY, Library, read_library

HALTED_S = 0.5  # how long a recorder that cannot go on is waited for
UNCHANGED = "(unchanged)"


class EditFailed(Exception):
    """The library has changed: the mutant's old text is not there exactly once."""


class Edit(msgspec.Struct, frozen=True):
    """One change of one source file."""

    file: str  # without .lua
    old: str
    new: str


class Mutant(msgspec.Struct, frozen=True):
    """A library with a bug, and the rules of which at least one must find it."""

    name: str
    rules: frozenset[Rule]
    edits: tuple[Edit, ...]
    halts: bool = False  # the recorder goes no further, as it should


FILE = Path(__file__).with_name("mutants.toml")
MUTANTS = msgspec.toml.decode(FILE.read_bytes(), type=dict[str, tuple[Mutant, ...]])["mutants"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker found in one library."""

    name: str
    expected: frozenset[Rule]  # none: it has no bug
    found: tuple[Violation, ...]

    @property
    def rules(self) -> list[Rule]:
        found = {violation.rule for violation in self.found}
        return sorted(found, key=lambda rule: (rule not in self.expected, rule))

    @property
    def is_right(self) -> bool:
        return bool(self.expected.intersection(self.rules)) if self.expected else not self.found


def mutated(mutant: Mutant, directory: Path = DIRECTORY) -> Library:
    """The library with the mutant's bug.

    Raises:
        EditFailed: the source is not as the mutant expects it.
    """
    with tempfile.TemporaryDirectory(prefix="rv-mutant-") as made:
        copy = Path(made)
        shutil.copytree(directory, copy, dirs_exist_ok=True)
        for edit in mutant.edits:
            path = copy / f"{edit.file}.lua"
            source = path.read_text()
            if source.count(edit.old) != 1:
                raise EditFailed(f"{mutant.name}: {edit.file}.lua has {source.count(edit.old)} times {edit.old!r}")
            path.write_text(source.replace(edit.old, edit.new))
        return read_library(copy)


async def judge_mutant(stores: Stores, mutant: Mutant | None, seed: int = 0) -> Verdict:
    program = f"m-{secrets.token_hex(4)}"
    if mutant is None:
        found = await stores.judge(read_library(), program, seed=seed)
        return Verdict(name=UNCHANGED, expected=frozenset(), found=found)
    timeout_s = HALTED_S if mutant.halts else None
    found = await stores.judge(mutated(mutant), program, seed=seed, recorded_timeout_s=timeout_s)
    return Verdict(name=mutant.name, expected=mutant.rules, found=found)


def show(verdicts: Sequence[Verdict]) -> int:
    """Print the table; the exit code."""
    width = max(len(verdict.name) for verdict in verdicts)
    for verdict in verdicts:
        said = ", ".join(verdict.rules) or "nothing"
        print(f"{verdict.name:<{width}}  {said}" if verdict.is_right else f"{verdict.name:<{width}}  WRONG: {said}")
    wrong = [verdict for verdict in verdicts if not verdict.is_right]
    for verdict in wrong:
        for violation in verdict.found[:5]:
            print(f"  {verdict.name}: {violation}")
    print(f"{len(verdicts) - len(wrong)} of {len(verdicts)} judged rightly")
    return 1 if wrong else 0


async def _judge_all(mutants: Sequence[Mutant]) -> list[Verdict]:
    async with own_stores() as (valkey, postgres), Stores.open(valkey.url, postgres.dsn) as stores:
        return await asyncio.gather(*(judge_mutant(stores, mutant) for mutant in (None, *mutants)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.checker.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these mutants")
    names = parser.parse_args(arguments).names
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    return show(asyncio.run(_judge_all([mutant for mutant in MUTANTS if not names or mutant.name in names])))


if __name__ == "__main__":
    sys.exit(main())
