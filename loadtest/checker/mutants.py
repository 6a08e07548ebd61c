"""The ledger's library with one bug at a time, which the checker must find.

The bugs are in `mutants.toml`. `python -m loadtest.checker.mutants [NAME ...]` plays a trial on each library, which is
the test `tests/invariants/test_mutants.py`, and prints the table; exit code 1 when a mutant escaped or the unchanged
library did not come out clean.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from loadtest.checker.rules import Rule
from reservasi.ledger.lua.library import DIRECTORY, Library, read_library

ROOT = Path(__file__).parents[2]
TEST = "tests/invariants/test_mutants.py"


class EditFailed(Exception):
    """The library has changed: the mutant's old text is not there exactly once."""


class Edit(msgspec.Struct, frozen=True):
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


def mutated(mutant: Mutant, directory: Path = DIRECTORY) -> Library:
    """The library with the mutant's bug.

    Raises:
        EditFailed: the source is not as the mutant expects it.
    """
    with tempfile.TemporaryDirectory(prefix="rv-mutant-") as scratch:
        copy = Path(scratch)
        shutil.copytree(directory, copy, dirs_exist_ok=True)
        for edit in mutant.edits:
            path = copy / f"{edit.file}.lua"
            source = path.read_text()
            if source.count(edit.old) != 1:
                raise EditFailed(f"{mutant.name}: {edit.file}.lua has {source.count(edit.old)} times {edit.old!r}")
            path.write_text(source.replace(edit.old, edit.new))
        return read_library(copy)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.checker.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these mutants")
    names = parser.parse_args().names
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    named = ("-k", " or ".join(["as_it_is", *(f"[{name}]" for name in names)])) if names else ()
    done = subprocess.run((sys.executable, "-m", "pytest", "-q", "-s", TEST, *named), cwd=ROOT, check=False)
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
