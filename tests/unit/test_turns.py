"""The order in which tests begin: files that are named exist, and nothing is left out or begun twice."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.turns import LONGEST, SIMULATION, pytest_collection_modifyitems

TESTS = Path(__file__).parents[1]


def test_every_long_file_exists() -> None:
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []


def test_long_files_begin_with_seeds_between_them_and_unit_tests_end() -> None:
    parts = [f"{SIMULATION}test_damage.py::test_seeds[{number}]" for number in range(3)]
    files = ["tests/acceptance/test_admin.py", "tests/unit/test_nik.py", *(f"tests/{name}" for name in LONGEST[::-1])]
    items: Any = [SimpleNamespace(nodeid=nodeid) for nodeid in (*(f"{file}::test_it" for file in files), *parts)]
    pytest_collection_modifyitems(cast(Any, items))
    order = [item.nodeid for item in items]
    assert sorted(order) == sorted((*(f"{file}::test_it" for file in files), *parts))
    assert [each for each in order if each not in parts] == [f"{file}::test_it" for file in (*files[:1:-1], *files[:2])]
    assert max(map(order.index, parts)) <= len(parts) + 1
