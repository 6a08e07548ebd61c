"""The order in which tests begin: files that are named exist, and nothing is left out or begun twice."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.turns import FULL, LONGEST, SIMULATION, pytest_collection_modifyitems

TESTS = Path(__file__).parents[1]


def test_every_long_file_exists() -> None:
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []


def test_long_files_begin_and_the_others_follow_folder_beside_folder() -> None:
    parts = [f"{SIMULATION}test_damage.py::test_seeds[{number}]" for number in range(30)]
    others = [f"tests/{folder}/test_{number}.py" for folder in ("acceptance", "unit") for number in range(10)]
    files = [*others, *(f"tests/{name}" for name in LONGEST[::-1])]
    items: Any = [SimpleNamespace(nodeid=nodeid) for nodeid in (*(f"{file}::test_it" for file in files), *parts)]
    pytest_collection_modifyitems(cast(Any, items))
    order = [item.nodeid.removesuffix("::test_it") for item in items]
    assert sorted(order) == sorted((*files, *parts))
    assert order[:FULL] == [f"tests/{name}" for name in LONGEST[:FULL]]
    assert [each for each in order if each not in parts][: len(LONGEST)] == [f"tests/{name}" for name in LONGEST]
    last = [each for each in order if each in others]
    assert (
        {each.split("/")[1] for each in last[:2]}
        == {each.split("/")[1] for each in last[-2:]}
        == {"acceptance", "unit"}
    )
    spread = [order.index(part) for part in parts]
    assert FULL < min(spread) < len(files) / 2 < max(spread)
