"""The line of every field, in every notation of TOML."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from reservasi.programs.lines import line_of, lines_of

ROOT = Path(__file__).parents[2]
REAL_FILES = [*sorted(ROOT.glob("config/programs/*.toml")), ROOT / "pyproject.toml"]

TEXT = '''\
# a comment with a = "quote
title = "a # b" # c
"quoted key" = 'literal \\'
dotted.inner.deep = 1
dotted.inner.other = 2
when = 2026-12-01 08:00:00
long = """
[not.a.table]
x = 1 \\""" ""
"""
raw = \'\'\'
"" ' ]
y = 2\'\'\'
flat = [1, 2,
  # between
  3,
]
nested = [[1], [
  2, { a = 1, b = [
    "x", # ]
    "y" ] },
]]
empty = []
none = {}

[table] # header
key = true
[table.below]
key = 1979-05-27T07:32:00Z

[[array]]
name = "first"
[array.sub]
x = 1
[[array.items]]
n = 1
[[array.items]]
n = 2

[[array]]
name = "second"
[[array.items]]
n = 3
[ spaced . "out" ]
last = -inf'''


def paths(value: Any, path: str = "") -> list[str]:
    """Every path in what tomllib read."""
    result = [path] if path else []
    if isinstance(value, dict):
        result += [p for key, item in value.items() for p in paths(item, f"{path}.{key}" if path else key)]
    elif isinstance(value, list):
        result += [p for number, item in enumerate(value) for p in paths(item, f"{path}[{number}]")]
    return result


def test_every_path_has_its_line() -> None:
    lines = lines_of(TEXT)
    assert set(lines) == set(paths(tomllib.loads(TEXT)))
    expected = {
        "title": 2,
        "quoted key": 3,
        "dotted": 4,
        "dotted.inner.other": 5,
        "when": 6,
        "long": 7,
        "raw": 11,
        "flat[1]": 14,
        "flat[2]": 16,
        "nested[1][0]": 19,
        "nested[1][1].b": 19,
        "nested[1][1].b[1]": 21,
        "table.key": 27,
        "table.below.key": 29,
        "array": 31,
        "array[0].sub.x": 34,
        "array[0].items[1].n": 38,
        "array[1]": 40,
        "array[1].items[0].n": 43,
        "spaced.out.last": 45,
    }
    assert {path: lines[path] for path in expected} == expected


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_real_files(path: Path) -> None:
    text = path.read_text()
    assert set(lines_of(text)) == set(paths(tomllib.loads(text)))


def test_what_is_absent_has_the_line_around_it() -> None:
    lines = lines_of(TEXT)
    assert line_of(lines, "table.below.absent") == 28
    assert line_of(lines, "array[1].absent.deeper") == 40
    assert line_of(lines, "flat[9]") == 14
    assert line_of(lines, "absent") == 0


@pytest.mark.parametrize("text", ["a", "a = [1", "a = {b = 1", "= 1", "a = 'x", "[a"])
def test_what_is_no_toml_ends_with_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        lines_of(text)
