"""ARCHITECTURE.md is short, its code map has the floors that CI checks, and the files of its main path exist."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
SECTIONS = [
    "The problem",
    "The picture",
    "The main path",
    "Code map",
    "Invariants",
    "Absent on purpose",
    "Decisions",
]


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*`.*\|$", text, re.M)]


def contract(container: str) -> list[set[str]]:
    """The floors of a package as import-linter holds them, from the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each.get("containers") == [container])
    return [set(re.split(r" [:|] ", layer)) for layer in layers]


def floors(container: str) -> list[set[str]]:
    """The floors that the code map lists."""
    table = section("Code map").split(f"| modules of `{container.replace('.', '/')}/` |")[1].split("\n\n")[0]
    return [set(re.findall(r"`(\w+)`", row[0])) for row in rows(table)]


def test_it_is_one_short_read_in_the_order_that_a_newcomer_needs() -> None:
    assert len(TEXT.splitlines()) <= 150
    assert re.findall(r"^## (.+)$", TEXT, re.M) == SECTIONS


@pytest.mark.parametrize("container", ["reservasi", "reservasi.front"])
def test_the_code_map_has_the_floors_that_are_checked(container: str) -> None:
    assert floors(container) == contract(container)


def test_every_file_of_the_main_path_exists_and_is_told_in_order() -> None:
    steps = rows(section("The main path"))
    assert [int(step) for step, *_ in steps] == list(range(1, len(steps) + 1))
    files = [name for _, names, _ in steps for name in re.findall(r"`([\w/]+\.\w+)`", names)]
    assert len(files) >= len(steps)
    assert [name for name in files if not (ROOT / "reservasi" / name).is_file()] == []


def test_decisions_are_linked_once() -> None:
    assert TEXT.count("](docs/decisions/README.md)") == 1
