"""README is one page, and what it promises is proved where it says."""

import importlib.util
import re

import pytest

from tests.pages import ROOT, links

README = (ROOT / "README.md").read_text()
PROMISES = (ROOT / "docs/promises.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
LINES_MAX = 150
FIGURES = "<!-- benchmarks -->\n", "<!-- /benchmarks -->\n"
FIGURES_ROWS_MAX = 8


def rows(text: str) -> dict[str, str]:
    """The rows of the tables of two columns in a text: promise and proof."""
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {row[0]: row[1] for row in split if len(row) == 2 and row[0] != "promise"}


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_it_is_one_page() -> None:
    assert len(README.splitlines()) <= LINES_MAX


def test_its_figures_are_the_copied_table_alone() -> None:
    copied = section("Figures").split(FIGURES[0])[1].split(FIGURES[1])[0]
    head, rule, *figures = [line for line in copied.splitlines() if line.startswith("|")]
    assert head.startswith("| design |")
    assert set(rule) <= set("|-: ")
    assert 0 < len(figures) <= FIGURES_ROWS_MAX


def test_it_has_ten_promises_with_one_proof_each() -> None:
    promises = rows(section("What is promised"))
    assert len(promises) == 10
    for promise, proof in promises.items():
        [target] = links(proof)
        assert is_proof(target), promise


def is_proof(named: str) -> bool:
    """Whether it is something that can be run: a file or directory of tests, a target of make, a module."""
    if named.startswith("make "):
        return re.search(rf"^{named.removeprefix('make ')}:", MAKEFILE, re.MULTILINE) is not None
    if named.startswith("python -m "):
        return importlib.util.find_spec(named.removeprefix("python -m ")) is not None
    path = ROOT / named
    files = path.rglob("test_*.py") if path.is_dir() else [path]
    return any(file.is_file() and "def test_" in file.read_text() for file in files)


@pytest.mark.parametrize("promise", rows(PROMISES))
def test_every_promise_names_what_proves_it(promise: str) -> None:
    proofs = [named for named in re.findall(r"`([^`]+)`", rows(PROMISES)[promise]) if "/" in named or " " in named]
    assert [named for named in proofs if named.startswith("tests/")]
    assert [named for named in proofs if not is_proof(named)] == []


def test_what_is_not_there_proves_nothing() -> None:
    assert is_proof("tests/unit/")
    assert is_proof("make faults")
    assert is_proof("python -m loadtest.ha")
    for named in (
        "tests/unit/test_none.py",
        "tests/none/",
        "tests/fronts.py",
        "make nothing",
        "python -m loadtest.none",
    ):
        assert not is_proof(named), named
